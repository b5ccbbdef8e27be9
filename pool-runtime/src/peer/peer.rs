//! The one enum that distinguishes the kinds of workers, with a method for each thing that a pool asks of a worker.

use crate::dossier::{Loss, Stage};
use crate::locks::lock;
use crate::memory::{Arrivals, PageGlance, StatusPage, region::Region};
use crate::os::{self, HandleRef, OomWatch};
use crate::peer::{
    Answer, Framed, Glance, InitializerCall, Launched, Ringed, Sent, Sink, StartFailure, TIME_TO_EXIT, WorkerThread,
};
use crate::protocol::{Hello, WriteFrame, stop_frame};
use crate::transport::{Received, ring::Corrupt};
use std::sync::Arc;
use std::time::Duration;

#[expect(clippy::large_enum_variant, reason = "a pool has hundreds at most, mostly rings")]
pub(crate) enum Peer {
    Ring(Launched, Ringed),
    Channel(Launched, Arc<Framed>),
    Thread(WorkerThread),
}

fn glance(seen: PageGlance) -> Glance {
    let PageGlance { claimed, started, extended, heard } = seen;
    Glance { claimed, started, extended, heard, ..Glance::default() }
}

impl From<Launched> for Peer {
    fn from(launched: Launched) -> Self {
        match launched.rings.clone() {
            Some(memory) => Self::Ring(launched, Ringed::new(memory)),
            None => {
                let link = Framed::new(launched.outlet.clone(), launched.inlet.clone());
                Self::Channel(launched, link)
            }
        }
    }
}

impl Peer {
    fn process(&self) -> Option<&Launched> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => Some(process),
            Self::Thread(_) => None,
        }
    }

    /// A worker that is a process.
    pub(crate) fn process_mut(&mut self) -> Option<&mut Launched> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => Some(process),
            Self::Thread(_) => None,
        }
    }

    #[inline]
    fn rings(&self) -> Option<&Ringed> {
        if let Self::Ring(_, link) = self { Some(link) } else { None }
    }

    #[inline]
    fn frames(&self) -> Option<&Arc<Framed>> {
        match self {
            Self::Ring(..) => None,
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => Some(link),
        }
    }

    fn page(&self) -> &StatusPage {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => &process.page,
            Self::Thread(thread) => &thread.page,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process().map_or_else(std::process::id, |process| process.child.pid())
    }

    // ---- its beginning and its end ----

    /// Waits until the worker agrees to work and its initializer has run. Fails if it died, did not answer in time, is
    /// of another build, or if its initializer failed. It is dead by then.
    pub(crate) fn greet(&self, hello: Hello, initializer: InitializerCall<'_>) -> Result<(), StartFailure> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => {
                process.greet(hello, initializer).inspect_err(|_| process.drain())?;
                // From here on, the kernel's kills for want of memory are counted.
                let _ = process.oom.set(OomWatch::new(process.child.pid()));
            }
            Self::Thread(thread) => thread.greet()?,
        }
        self.frames().inspect(|link| link.open());
        Ok(())
    }

    /// Waits until the worker ends, or nothing more can come from it. Returns its fault, if it has to be killed.
    pub(crate) fn await_end(&self) -> Option<String> {
        match self {
            // Of a ready worker, the channel carries nothing but the end.
            Self::Ring(process, _) => {
                let nonsense = || "sent a message out of turn".to_owned();
                return match lock(&process.inlet).receive_admitted(None, &mut |_, _| Err(nonsense())) {
                    Received::Gone => None,
                    Received::Garbled(fault) => Some(fault),
                    Received::Frame(_) | Received::Nothing => Some(nonsense()),
                };
            }
            Self::Channel(process, _) => {
                os::wait_hung_up(process.socket.handle(), Some(process.child.sentinel()), None);
            }
            Self::Thread(thread) => thread.lifeline.reports.await_close(),
        }
        None
    }

    /// As [`await_end`](Self::await_end), and passes on reports until then: for an attendant without a listener.
    pub(crate) fn listen(&self, sink: &mut dyn Sink) -> Option<String> {
        self.frames().map_or_else(|| self.await_end(), |link| link.listen(sink))
    }

    /// Waits for the end of a worker that is not heard any more, reads the rest of its reports, and finds out how it
    /// ended. One that is `leaving` may take its time. No call of this `generation` starts there any more.
    pub(crate) fn bury(&self, fault: Option<String>, leaving: bool, generation: u32, sink: &mut dyn Sink) -> Loss {
        let has_fault = || self.frames().is_some_and(|link| link.has_fault());
        let mut loss = match self {
            Self::Ring(process, _) | Self::Channel(process, _) => {
                // Its connection is closed: the process is exiting, or has closed descriptors that are not its own.
                let fault = fault.or_else(|| {
                    let killed = process.child.was_killed();
                    let ended = leaving || killed || has_fault() || process.child.wait_timeout(Some(TIME_TO_EXIT));
                    (!ended).then(|| "closed its connection".to_owned())
                });
                if fault.is_some() || has_fault() {
                    self.kill();
                }
                process.examine(fault)
            }
            Self::Thread(thread) => thread.bury(fault, generation),
        };
        // What it wrote before its end counts. What is wrong with that is why it was killed.
        self.read_rest(sink);
        let own = self.rings().map_or_else(|| self.frames()?.take_fault(), Ringed::take_fault);
        loss.fault = own.or(loss.fault);
        loss
    }

    /// Reads what the worker wrote before its end. A child of the worker may have its rings, and write there for ever: one
    /// pass reads all that was there at its beginning. To a socket, nothing is added once this side knows of the end.
    fn read_rest(&self, sink: &mut dyn Sink) {
        while self.read(sink, true).is_ok_and(|any| any) && self.rings().is_none() {}
    }

    /// Kills the worker. A thread is abandoned: what it reports from now on reaches nobody. The attendant wakes up,
    /// whether or not the process dies of it.
    pub(crate) fn kill(&self) {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => process.kill(),
            Self::Thread(thread) => thread.lifeline.kill(),
        }
    }

    /// Asks the worker to end: by `SIGTERM`, which its program may handle. A thread is [killed](Self::kill).
    pub(crate) fn ask_to_end(&self) {
        if self.process().is_none_or(|process| process.child.ask_to_end().is_err()) {
            self.kill();
        }
    }

    /// Whether the worker has ended, or was not killed, or does so within this time.
    pub(crate) fn dies_within(&self, patience: Duration) -> bool {
        self.process().is_none_or(|process| !process.child.was_killed() || process.child.wait_timeout(Some(patience)))
    }

    /// Whether the process has ended. A thread is never waited for.
    pub(crate) fn has_ended(&self) -> bool {
        self.process().is_none_or(|process| process.child.has_ended())
    }

    /// What is known of a worker that was killed and has not ended.
    pub(crate) fn sketch(&self) -> Loss {
        self.process().map_or_else(|| Loss::of(self.pid()), Launched::sketch)
    }

    /// Waits until the process has ended, however long that takes.
    pub(crate) fn await_death(&self) {
        if let Some(process) = self.process() {
            process.child.wait_timeout(None);
        }
    }

    // ---- calls ----

    /// Sends a frame of calls. Never waits. A thread keeps `held`, the memory that they refer to, while it runs them.
    pub(crate) fn send(&self, frame: &impl WriteFrame, held: Vec<Arc<Region>>) -> Sent {
        match self {
            Self::Ring(_, link) => link.send(frame).map_or(Sent::Corrupt, |()| Sent::Done),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => {
                if self.process().is_some() && link.has_too_many() {
                    return Sent::Corrupt;
                }
                let mut bytes = Vec::with_capacity(frame.most());
                frame.write(&mut bytes);
                link.put(bytes, held)
            }
        }
    }

    /// Makes the worker exit when it has run what it was sent.
    pub(crate) fn stop(&self) -> Sent {
        match self {
            Self::Ring(_, link) => link.stop().map_or(Sent::Corrupt, |()| Sent::Done),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.put(stop_frame(), Vec::new()),
        }
    }

    /// Sends what is in the backlog. Does not wait for the worker to read.
    pub(crate) fn flush(&self) {
        if let Some(link) = self.frames() {
            link.flush();
        }
    }

    /// Prepares for a call that refers to these regions. What a thread has to keep meanwhile is added to `held`.
    pub(crate) fn bring(&self, regions: &[Arc<Region>], held: &mut Vec<Arc<Region>>) {
        match self.process() {
            Some(process) => process.attacher.bring(regions),
            None => held.extend_from_slice(regions),
        }
    }

    /// Takes the regions with these ids, to which a result refers that the worker has reported. Its call was `given`
    /// others.
    pub(crate) fn take_attached(
        &self,
        ids: impl Iterator<Item = u64>,
        given: &[Arc<Region>],
    ) -> Result<Vec<Arc<Region>>, String> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => lock(&process.arrivals).take(ids, given),
            Self::Thread(thread) => Arrivals::Here(thread.lifeline.returned.clone()).take(ids, given),
        }
    }

    /// Receives regions of a result that is not reported yet. Fails if there are too many.
    pub(crate) fn gather_attached(&self) -> Result<(), String> {
        self.process().map_or(Ok(()), |process| lock(&process.arrivals).gather())
    }

    /// The worker could not read the arguments of a call that refers to these regions. Other such calls may be
    /// `under_way`.
    pub(crate) fn doubt(&self, regions: &[Arc<Region>], under_way: bool) {
        if let Some(process) = self.process() {
            process.attacher.doubt(regions, under_way);
        }
    }

    // ---- questions ----

    /// The number of the latest call that the worker has started, as it says.
    pub(crate) fn claimed(&self) -> u32 {
        self.page().claimed()
    }

    /// The number of the latest call that the worker, which has ended, had started.
    pub(crate) fn reached(&self) -> u32 {
        self.page().reached()
    }

    /// Prevents calls of this generation from starting from now on, and asks what the worker is doing.
    pub(crate) fn take_back(&self, generation: u32) -> Answer<Glance> {
        self.page().take_back(generation).map_or(Answer::Corrupt, |seen| Answer::Now(glance(seen)))
    }

    /// Asks what the worker is doing and, if `memory` is set, how much memory it has.
    pub(crate) fn look(&self, memory: bool) -> Answer<Glance> {
        let claimed = self.page().claimed();
        let since = self.process().map_or(0, |process| process.seen_since(claimed));
        let weight = self.process().filter(|_| memory).and_then(|process| process.child.memory(since));
        // The page alone does not tell: a worker might write anything there, and be waited for without end.
        let joins =
            Stage::from_u32(self.page().stage()) == Stage::Joining && self.process().is_some_and(Launched::may_join);
        self.page().look().map_or(Answer::Corrupt, |seen| {
            // What was found out before this call was seen is nothing against it.
            let during = |(began, _): &(u64, u64)| *began >= since && seen.claimed == claimed;
            let whole = weight.and_then(|weight| weight.whole);
            let memory = weight.map(|weight| weight.alone.max(whole.filter(during).map_or(0, |(_, bytes)| bytes)));
            Answer::Now(Glance { memory, whole, joins, ..glance(seen) })
        })
    }

    // ---- listening ----

    /// Reads and passes on reports, and sends as much of the backlog as there is room for. Returns whether there were
    /// reports. While another thread does this, `waits` decides between waiting for it and leaving it to that thread.
    pub(crate) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> bool {
        // The attendant hears of the end, and why.
        self.read(sink, waits).unwrap_or_else(|Corrupt| {
            self.kill();
            false
        })
    }

    fn read(&self, sink: &mut dyn Sink, waits: bool) -> Result<bool, Corrupt> {
        match self {
            Self::Ring(_, link) => link.serve(sink, waits),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.serve(sink, waits),
        }
    }

    /// Whether there are unread reports. False for a socket, which tells only when it is read.
    pub(crate) fn has_reports(&self) -> bool {
        match self {
            Self::Ring(_, link) => link.has_reports(),
            Self::Channel(..) => false,
            Self::Thread(thread) => thread.link.is_open() && thread.lifeline.reports.has_unread(),
        }
    }

    /// Whether [`serve`](Self::serve) may find something to do.
    pub(crate) fn wants_service(&self) -> bool {
        match self {
            Self::Channel(_, link) => link.is_open(),
            Self::Ring(..) | Self::Thread(_) => self.has_reports() || self.is_blocked(),
        }
    }

    /// Whether [`serve`](Self::serve) left reports unread the last time.
    pub(crate) fn has_more(&self) -> bool {
        self.rings().is_some_and(Ringed::has_more)
    }

    /// Whether a part of the backlog waits for room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.rings().is_some_and(Ringed::is_blocked)
    }

    /// Whether a part of the backlog waits, and there may be room for it.
    pub(crate) fn may_go_on(&self) -> bool {
        self.rings().is_some_and(Ringed::may_go_on)
    }

    /// Makes the worker's next report ring the bell of this mark. Look for reports once more after this.
    pub(crate) fn arm(&self, mark: u32) {
        match self {
            Self::Ring(_, link) => link.memory.arm(mark),
            Self::Channel(..) => {}
            Self::Thread(thread) => thread.lifeline.reports.arm(mark),
        }
    }

    /// Undoes [`arm`](Self::arm).
    pub(crate) fn disarm(&self) {
        self.arm(0);
    }

    /// The socket on which reports arrive, if they arrive on one.
    pub(crate) fn socket(&self) -> Option<HandleRef<'_>> {
        match self {
            Self::Channel(process, link) => link.is_open().then(|| process.socket.handle()),
            Self::Ring(..) | Self::Thread(_) => None,
        }
    }

    /// Whether the worker is awake, or being woken, on this processor: it cannot run before the calling thread leaves.
    pub(crate) fn is_on(&self, cpu: u32) -> bool {
        self.rings().is_some_and(|link| link.memory.worker_is_on(cpu))
    }

    /// Tells the worker whether more threads want to run than there are processors.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        if let Some(link) = self.rings() {
            link.memory.set_crowded(crowded);
        }
    }
}
