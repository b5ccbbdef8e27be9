//! A seat: a worker's place in the pool. Workers come and go; each has its own *epoch*.
//!
//! ```text
//!            start            ready            leave
//!   Empty ──────────▶ Starting ─────▶ Ready ──────────▶ Leaving
//!     ▲ │                │              │                  │
//!     │ └──▶ Closed      └──────────────┴────── kill ──────┴──▶ Killed
//!     └────────────────────────── vacate ────────────────────────┘
//! ```
//!
//! [`Seat::change`] knows these transitions. The dispatcher's counts depend on them, so it makes all but the start by
//! [`Dispatcher::transit`](super::Dispatcher::transit).

use crate::policy::Policy;
use crate::pool::dispatcher::{CallRange, Excess, Flight, Limits, NEVER, Ticket, Time, Work, is_after};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No worker. One may be started from this time on.
    Empty { not_before: Time },
    /// A worker is being started.
    Starting,
    /// Takes calls.
    Ready,
    /// Takes no more calls, and exits after its last one.
    Leaving,
    /// Is being killed.
    Killed,
    /// No worker, and none will be started.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Seat<W: ?Sized> {
    phase: Phase,
    epoch: u32,
    pub(crate) worker: SeatWorker,
    /// In the order of their numbers.
    pub(super) in_flight: VecDeque<Flight<W>>,
    /// How many calls are in flight.
    pub(super) calls: usize,
    /// How long the calls in flight are expected to take.
    pub(super) ahead: Time,
    /// Frames that the worker may not have read: the number of the last call in each, and its size. A frame whose calls
    /// were taken back occupies the transport until the worker shows that it has read it, or one after it.
    pub(super) unread: VecDeque<(u32, usize)>,
    pub(super) unread_bytes: usize,
    /// How many starts failed in a row, and when the first of them did.
    pub(super) failures: u32,
    pub(super) failing_since: Time,
    /// The task of the call that was reported last.
    pub(super) task: &'static str,
    /// Calls are being taken back: nothing is sent until that is done.
    pub(super) recalling: bool,
    /// How often calls were taken back for idle workers since the last report.
    pub(super) relieved: u32,
    /// How many calls were finished at this seat.
    pub(crate) done: u64,
    /// Its last worker has died or was killed, before it was told to leave, and the next one is not ready.
    pub(crate) was_lost: bool,
}

/// What is known of the present worker, or of the last one until the next is ready.
#[derive(Debug, Default)]
pub(crate) struct SeatWorker {
    /// How often calls were taken back.
    pub(crate) generation: u32,
    /// The number of the latest call sent.
    pub(super) sent: u32,
    /// The latest call known to have started when calls were last taken back.
    pub(super) started: u32,
    /// How many calls it was given, and how many of them it has finished.
    pub(super) given: u64,
    pub(super) finished: u64,
    /// Of how many finished calls it has reported the time.
    pub(super) timed: u64,
    pub(super) ready_at: Time,
    /// When it last reported, or was given a call while it had none.
    pub(super) progress: Time,
    /// It has reported since then.
    pub(super) has_reported: bool,
    /// When to look at it.
    pub(super) look_at: Time,
    /// A look is in progress, and whether it measures memory.
    pub(super) looking: bool,
    pub(super) weighing: bool,
    /// When memory was last measured, how much there was, and how often that was since it became idle without a sign of
    /// growth.
    pub(super) weighed_at: Time,
    pub(super) weight: u64,
    pub(super) idle_looks: u32,
    /// The most memory that any call may use that was sent to it. None before the first.
    pub(super) allowed: Option<u64>,
    /// The call to be reported next, if it has limits.
    pub(super) front: Front,
    /// The call last seen running, and its start. It stays, whatever the status page says later.
    pub(super) began: Option<(u32, Time)>,
    /// The call for which it is to be killed, and why.
    pub(super) condemned: Option<Condemned>,
    /// The last call that was given up and is said to have finished, and when the worker is killed if it is not reported.
    pub(super) owed: Option<(u32, Time)>,
    /// It gets no more calls.
    pub(super) retiring: bool,
    /// It was told to leave, and is to be gone by this time.
    pub(super) leave_by: Option<Time>,
    /// When it is killed at the latest once it leaves, also while it joins processes.
    pub(super) gone_by: Time,
    /// The look in progress is to find out why it has not left.
    pub(super) seeing_off: bool,
    /// It was asked to end, and is killed at this time; `NEVER` until the clock has set it.
    pub(super) kill_at: Option<Time>,
    /// All that it had was taken back before it started anything, and it has not shown since that it lives.
    pub(super) silence: Option<Silence>,
    /// Calls were taken back from it that it had not started, as it said.
    pub(super) is_doubted: bool,
    /// Those of them that it was to start next, and may run all the same.
    pub(super) left: Vec<Left>,
    /// It is to be killed if it has not started the call of this number once its calls are taken back.
    pub(super) suspect: Option<u32>,
    /// It was killed for that.
    pub(super) is_convicted: bool,
}

/// The call to be reported next, by the dispatcher's own clock: nothing that a worker writes makes it stay longer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Front {
    pub(super) number: u32,
    /// Since when it is that: when it was sent to an idle worker, or the report of the one before it came.
    pub(super) since: Time,
    /// When the worker is killed for it, whatever its page says.
    pub(super) until: Time,
    /// The worker had so much memory, more than this call may use, when this call had long been the next to be reported.
    pub(super) over_memory: Option<u64>,
    /// The worker had more than any of its calls may use, and did not say that it runs this one.
    pub(super) excess: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Condemned {
    pub(super) number: u32,
    pub(super) excess: Excess,
    /// By the dispatcher's own clock: what the page says does not count.
    pub(super) surely: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// The generation that it has to find out about.
    pub(super) generation: u32,
    /// When it is killed if it has not.
    pub(super) until: Time,
    /// It had not by then. It is killed if it has started nothing since.
    pub(super) is_over: bool,
    /// When it is looked at next while it is idle, and how often it was.
    pub(super) look_at: Time,
    pub(super) looks: u32,
}

/// Why an attempt is over that its worker has not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreported {
    /// It took too long.
    Late,
    /// It was given up, or its worker was lost.
    Other,
}

/// An attempt at a call that was taken from a worker which may run it nevertheless.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) ticket: Ticket,
    pub(super) index: u32,
    pub(super) attempt: u32,
    pub(super) since: Time,
    /// The worker had it for so long that it may well run it.
    pub(super) had_time: bool,
    /// It was given up, or has ended elsewhere without a report.
    pub(super) is_over: bool,
}

impl Left {
    /// Is it about one of these calls, in the same attempt?
    pub(super) fn is_of<W: ?Sized>(&self, calls: &CallRange<W>) -> bool {
        (self.ticket, self.attempt) == (calls.ticket, calls.attempt) && (calls.next..calls.end).contains(&self.index)
    }
}

impl<W: ?Sized> Seat<W> {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Empty { not_before: 0 },
            epoch: 0,
            worker: SeatWorker::default(),
            in_flight: VecDeque::new(),
            calls: 0,
            ahead: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            failures: 0,
            failing_since: 0,
            task: "",
            recalling: false,
            relieved: 0,
            done: 0,
            was_lost: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    // ---- transitions ----

    /// Changes the phase, if it may follow the present one. Returns whether it may.
    #[must_use]
    pub(super) fn change(&mut self, to: Phase) -> bool {
        let allowed = match to {
            Phase::Starting => matches!(self.phase, Phase::Empty { .. }),
            Phase::Ready => self.phase == Phase::Starting,
            Phase::Leaving => self.phase == Phase::Ready,
            Phase::Killed => matches!(self.phase, Phase::Starting | Phase::Ready | Phase::Leaving),
            Phase::Empty { .. } | Phase::Closed => self.phase != Phase::Closed,
        };
        if allowed {
            self.phase = to;
        }
        allowed
    }

    /// The attendant starts a worker. Returns its epoch.
    #[must_use]
    pub(super) fn start(&mut self) -> Option<u32> {
        self.change(Phase::Starting).then(|| {
            self.epoch += 1;
            self.epoch
        })
    }

    // ---- questions ----

    /// Is there a worker of this epoch that runs calls?
    pub(super) fn works(&self, epoch: u32) -> bool {
        self.epoch == epoch && matches!(self.phase, Phase::Ready | Phase::Leaving)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Could the worker be given a call at once?
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && !self.is_busy() && !self.recalling
    }

    /// Does the worker show no sign of life?
    pub(super) fn is_silent(&self) -> bool {
        self.worker.silence.is_some()
    }

    /// Were these calls taken from the worker in their present attempt, so that it may run them all the same?
    pub(super) fn may_have(&self, calls: &CallRange<W>) -> bool {
        self.worker.left.iter().any(|left| left.is_of(calls) && !left.is_over)
    }

    /// Until when the call at the front may stay there. NEVER if it has no timeout, or its worker is about to be killed.
    pub(super) fn front_until(&self) -> Time {
        let watched = self.in_flight.front().is_some_and(|front| front.number == self.worker.front.number);
        if watched && self.worker.condemned.is_none() { self.worker.front.until } else { NEVER }
    }

    /// Does a page lie that says this? It has not been sent such a call.
    pub(super) fn is_beyond(&self, claimed: u32) -> bool {
        is_after(claimed, self.worker.sent)
    }

    /// Calls were taken back, and what was given up and is still here counts as finished, as a later call is said to have
    /// started: its report has to come by this time.
    pub(super) fn await_given_up(&mut self, until: Time) {
        let last = self.in_flight.iter().rfind(|flight| flight.is_given_up()).map(Flight::last_number);
        let before = self.worker.owed.filter(|(number, _)| last == Some(*number));
        self.worker.owed = before.or(last.map(|number| (number, until)));
    }

    /// Until when calls that were given up may stay here.
    pub(super) fn given_up_until(&self) -> Time {
        let owed = self.worker.owed.filter(|(number, _)| self.in_flight.iter().any(|flight| flight.has(*number)));
        owed.map_or(NEVER, |(_, until)| until)
    }

    /// The latest call that counts as started if the page says that this one is: a condemned call is not taken back,
    /// as the page may lie.
    pub(super) fn reached(&self, claimed: u32) -> u32 {
        let condemned = self.worker.condemned.map(|condemned| condemned.number);
        let flying = condemned.filter(|number| self.in_flight.iter().any(|flight| flight.has(*number)));
        flying.filter(|number| is_after(*number, claimed)).unwrap_or(claimed)
    }

    /// Could a call that was sent behind another be taken back?
    pub(super) fn has_calls_behind(&self) -> bool {
        self.calls > 1 && self.in_flight.back().is_some_and(|last| is_after(last.last_number(), self.worker.started))
    }

    // ---- calls in flight ----

    /// Numbers calls that are about to be sent, each of which is `expected` to take so long.
    #[inline]
    pub(super) fn push(&mut self, calls: CallRange<W>, expected: Time)
    where
        W: Work,
    {
        self.worker.allowed = self.worker.allowed.max(Some(calls.work.policy().memory));
        let flight = Flight { calls, number: self.worker.sent.wrapping_add(1), expected, cancelled: None };
        self.worker.sent = flight.last_number();
        self.worker.given += u64::from(flight.len());
        self.ahead += flight.ahead();
        self.calls += flight.len() as usize;
        self.in_flight.push_back(flight);
    }

    /// The worker has reached the call of this number, so it has read all frames before it.
    #[inline]
    pub(super) fn has_read(&mut self, number: u32) {
        while let Some((_, bytes)) = self.unread.pop_front_if(|(last, _)| !is_after(*last, number)) {
            self.unread_bytes -= bytes;
        }
    }

    /// The worker skips frames whose calls were taken back.
    pub(super) fn skips(&mut self) {
        let next = self.in_flight.front().map_or(self.worker.sent.wrapping_add(1), |front| front.number);
        self.has_read(next.wrapping_sub(1));
    }

    /// Would more frames fill the transport, if the worker reads none?
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.unread.len() >= limits.frames || self.unread_bytes > limits.unhindered / 2
    }

    /// How long the call at the front has been there, without the time that its worker may take to read it.
    pub(super) fn spent(&self, now: Time) -> Time {
        now.saturating_sub(self.worker.progress).saturating_sub(self.time_to_read())
    }

    /// May an idle worker be given a call?
    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.worker.silence.is_none() || !self.is_full(limits)
    }

    /// How long the worker may take to read the frames that are on their way to it.
    pub(super) fn time_to_read(&self) -> Time {
        /// Sixty megabytes in a second.
        const PER_BYTE: Time = 16;
        PER_BYTE * self.unread_bytes as Time
    }

    pub(super) fn take_all(&mut self) -> VecDeque<Flight<W>> {
        (self.unread_bytes, self.ahead, self.calls, self.recalling) = (0, 0, 0, false);
        self.unread.clear();
        std::mem::take(&mut self.in_flight)
    }

    /// Removes the calls after the one of this number.
    pub(super) fn take_behind(&mut self, number: u32) -> VecDeque<Flight<W>> {
        let kept = self.in_flight.partition_point(|flight| !is_after(flight.number, number));
        let mut back = self.in_flight.split_off(kept);
        if let Some(behind) = self.in_flight.back_mut().and_then(|flight| flight.split_after(number)) {
            back.push_front(behind);
        }
        for flight in &back {
            self.worker.given -= u64::from(flight.len());
            self.calls -= flight.len() as usize;
            self.ahead -= flight.ahead();
        }
        self.has_read(number);
        back
    }
}

impl<W: ?Sized + Work> Seat<W> {
    /// When a worker is to have started its first call, or is killed: soon, if it did not start what it had before.
    pub(super) fn doubtful_until(&self, limits: &Limits) -> Time {
        let Some(front) = self.in_flight.front().filter(|front| is_after(front.number, self.worker.started)) else {
            return NEVER;
        };
        let wait = match self.worker.left.iter().all(|left| !left.had_time) {
            true if !self.worker.is_doubted && front.calls.moves == 0 => return NEVER,
            true => limits.useless(&front.calls),
            false if front.calls.work.policy().timeout == u64::MAX => limits.grace,
            false => limits.grace / 2,
        };
        self.worker.progress.saturating_add(self.time_to_read()).saturating_add(wait)
    }

    /// The limits of the call of this number, if it is in flight.
    pub(super) fn policy_of(&self, number: u32) -> Option<&Policy> {
        self.in_flight.iter().find(|flight| flight.has(number)).map(|flight| flight.calls.work.policy())
    }
}
