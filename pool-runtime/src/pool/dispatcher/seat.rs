//! A seat: a worker's place in the pool. Workers come and go there; each has its own *epoch*.
//!
//! ```text
//!            start            ready            leave
//!   Empty ──────────▶ Starting ─────▶ Ready ──────────▶ Leaving
//!     ▲ │                │              │                  │
//!     │ └──▶ Closed      └──────────────┴────── doom ──────┴──▶ Doomed
//!     └────────────────────────── vacate ────────────────────────┘
//! ```
//!
//! Each transition is a function here, which says whether it took place. Who may call one stands with it.

use crate::policy::Policy;
use crate::pool::dispatcher::events::{Excess, NEVER, Time, Work};
use crate::pool::dispatcher::range::{Flight, is_after};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No worker. One may be started from this time on.
    Empty { not_before: Time },
    /// A worker is on its way in.
    Starting,
    /// Takes calls.
    Ready,
    /// Exits when it is through; takes no more calls.
    Leaving,
    /// Is being killed.
    Doomed,
    /// No worker, and none will be started.
    Closed,
}

#[derive(Debug)]
pub(super) struct Seat<W: ?Sized> {
    phase: Phase,
    epoch: u32,
    /// How often what had not started was taken back from this worker.
    pub(super) generation: u32,
    /// The number of the latest call sent.
    pub(super) sent: u32,
    /// In the order of their numbers.
    pub(super) in_flight: VecDeque<Flight<W>>,
    /// How many calls that are.
    pub(super) calls: usize,
    /// How long what is in flight is expected to take.
    pub(super) ahead: Time,
    /// Frames that the worker may not have read yet: the number of the last call in each, and its size. Also those
    /// whose calls were taken back: they still lie between here and there.
    pub(super) unread: VecDeque<(u32, usize)>,
    pub(super) unread_bytes: usize,
    /// How many starts have failed here one after another, and when the first of them did.
    pub(super) failures: u32,
    pub(super) failing_since: Time,
    /// The task of the call that was reported last.
    pub(super) task: &'static str,
    /// The number of the latest call that is known to have started, from the last time something was taken back.
    pub(super) started: u32,
    /// What has not started is being taken back: nothing new is sent until that is done.
    pub(super) recalling: bool,
    /// How often calls were taken back for others since it has reported anything.
    pub(super) relieved: u32,
    /// Calls given to this worker.
    pub(super) given: u64,
    /// Calls that this worker has finished.
    pub(super) finished: u64,
    /// Calls finished at this seat.
    pub(super) done: u64,
    pub(super) ready_at: Time,
    pub(super) progress: Time,
    pub(super) watch: Watch,
}

/// What is watched at a seat.
#[derive(Debug)]
pub(super) struct Watch {
    /// When to look what the worker is doing.
    pub(super) look_at: Time,
    /// Somebody is looking just now; at its memory, too?
    pub(super) looking: bool,
    pub(super) weighing: bool,
    /// When its memory was last looked at.
    pub(super) weighed_at: Time,
    /// The number of the call that is next to be reported, and since when it is that.
    pub(super) front: (u32, Time),
    /// The call that was seen to run, and since when it does, whatever the page says later.
    pub(super) began: Option<(u32, Time)>,
    /// The call because of which the worker is to be killed, and why.
    pub(super) condemned: Option<(u32, Excess)>,
    /// The worker takes no more calls.
    pub(super) worn: bool,
}

impl Watch {
    fn new(now: Time) -> Self {
        Self {
            look_at: NEVER,
            looking: false,
            weighing: false,
            weighed_at: now,
            front: (0, 0),
            began: None,
            condemned: None,
            worn: false,
        }
    }
}

impl<W: ?Sized> Seat<W> {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Empty { not_before: 0 },
            epoch: 0,
            generation: 0,
            sent: 0,
            in_flight: VecDeque::new(),
            calls: 0,
            ahead: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            failures: 0,
            failing_since: 0,
            task: "",
            started: 0,
            recalling: false,
            relieved: 0,
            given: 0,
            finished: 0,
            done: 0,
            ready_at: 0,
            progress: 0,
            watch: Watch::new(0),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    // ---- transitions ----

    /// The attendant starts a worker. Returns its epoch, if the seat is empty.
    #[must_use]
    pub(super) fn start(&mut self) -> Option<u32> {
        matches!(self.phase, Phase::Empty { .. }).then(|| {
            self.epoch += 1;
            self.phase = Phase::Starting;
            self.epoch
        })
    }

    /// The worker that is starting takes calls from now on.
    #[must_use]
    pub(super) fn ready(&mut self, now: Time) -> bool {
        let starting = self.phase == Phase::Starting;
        if starting {
            self.phase = Phase::Ready;
            (self.generation, self.sent, self.started, self.given, self.finished) = (0, 0, 0, 0, 0);
            (self.ready_at, self.progress) = (now, now);
            self.watch = Watch::new(now);
        }
        starting
    }

    /// The worker takes no more calls, and exits when it is through.
    #[must_use]
    pub(super) fn leave(&mut self) -> bool {
        let ready = self.phase == Phase::Ready;
        if ready {
            self.phase = Phase::Leaving;
        }
        ready
    }

    /// The worker, if there is one, is to be killed. False if that is so already.
    #[must_use]
    pub(super) fn doom(&mut self) -> bool {
        let there = matches!(self.phase, Phase::Starting | Phase::Ready | Phase::Leaving);
        if there {
            self.phase = Phase::Doomed;
        }
        there
    }

    /// There is no worker any more; the next one may start at this time. False if there will be none.
    #[must_use]
    pub(super) fn vacate(&mut self, not_before: Time) -> bool {
        let open = self.phase != Phase::Closed;
        if open {
            self.phase = Phase::Empty { not_before };
        }
        open
    }

    /// No worker is ever started here again. False if that is so already.
    #[must_use]
    pub(super) fn close(&mut self) -> bool {
        std::mem::replace(&mut self.phase, Phase::Closed) != Phase::Closed
    }

    // ---- questions ----

    /// Is this the epoch of a worker that works, or is about to leave?
    pub(super) fn works(&self, epoch: u32) -> bool {
        self.epoch == epoch && matches!(self.phase, Phase::Ready | Phase::Leaving)
    }

    /// Has the worker nothing to do?
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && self.in_flight.is_empty() && !self.recalling
    }

    /// Could a call be taken back that was sent behind another?
    pub(super) fn has_calls_behind(&self) -> bool {
        self.calls > 1 && self.in_flight.back().is_some_and(|last| is_after(last.last_number(), self.started))
    }

    // ---- what is in flight ----

    /// The worker has come as far as this call; whatever frames lie before it have been read.
    pub(super) fn has_read(&mut self, number: u32) {
        let nothing_left = self.in_flight.is_empty();
        while let Some((_, bytes)) = self.unread.pop_front_if(|(last, _)| nothing_left || !is_after(*last, number)) {
            self.unread_bytes -= bytes;
        }
    }

    /// Takes everything off the seat.
    pub(super) fn empty(&mut self) -> VecDeque<Flight<W>> {
        (self.unread_bytes, self.ahead, self.calls, self.recalling) = (0, 0, 0, false);
        self.unread.clear();
        std::mem::take(&mut self.in_flight)
    }

    /// Takes off the seat what comes after the call of this number.
    pub(super) fn take_behind(&mut self, claimed: u32) -> VecDeque<Flight<W>> {
        let kept = self.in_flight.partition_point(|flight| !is_after(flight.number, claimed));
        let mut back = self.in_flight.split_off(kept);
        if let Some(behind) = self.in_flight.back_mut().and_then(|flight| flight.split_after(claimed)) {
            back.push_front(behind);
        }
        let calls: usize = back.iter().map(|flight| flight.len() as usize).sum();
        self.given -= calls as u64;
        self.calls -= calls;
        self.ahead -= back.iter().map(Flight::ahead).sum::<Time>();
        self.has_read(claimed);
        back
    }
}

impl<W: ?Sized + Work> Seat<W> {
    /// The limits of the call of this number, if it is in flight.
    pub(super) fn policy_of(&self, number: u32) -> Option<&Policy> {
        self.in_flight.iter().find(|flight| flight.has(number)).map(|flight| flight.calls.work.policy())
    }
}
