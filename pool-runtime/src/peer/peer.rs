//! The one enum that tells the kinds of workers apart: a match for each thing that a pool asks of a worker.

use crate::dossier::Loss;
use crate::memory::StatusPage;
use crate::memory::region::Region;
use crate::os::{self, HandleRef};
use crate::peer::autopsy::LAST_BREATH;
use crate::peer::framed::Framed;
use crate::peer::handshake::StartFailure;
use crate::peer::ringed::Ringed;
use crate::peer::sink::{Answer, Glance, Sent, Sink};
use crate::peer::spawn::Launched;
use crate::peer::thread::WorkerThread;
use crate::protocol::{Hello, NamedCall, WriteFrame, stop_frame};
use crate::sync::lock;
use crate::transport::Received;
use std::sync::Arc;

/// How this side reaches a worker.
#[derive(Debug)]
pub(crate) enum Peer {
    Ring(Launched, Ringed),
    Channel(Launched, Arc<Framed>),
    Thread(WorkerThread),
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
    /// The process, if it is one.
    pub(crate) fn process(&self) -> Option<&Launched> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => Some(process),
            Self::Thread(_) => None,
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

    /// Waits until it works: it agrees to, and its initializer has run.
    ///
    /// # Errors
    ///
    /// It died, did not answer in time, is of another build, or its initializer failed. It is dead by then.
    pub(crate) fn greet(
        &self,
        hello: Hello,
        initializer: Option<(&NamedCall, &[Arc<Region>])>,
    ) -> Result<(), StartFailure> {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => {
                process.greet(hello, initializer).inspect_err(|_| process.drain())?;
                process.works();
            }
            Self::Thread(thread) => thread.greet()?,
        }
        match self {
            Self::Ring(..) => {}
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.open(),
        }
        Ok(())
    }

    /// Waits until it ends, or until nothing more can come from it. Returns what is wrong with it, if it has to be
    /// killed.
    pub(crate) fn await_end(&self) -> Option<String> {
        match self {
            // Once it works, nothing travels there but the end.
            Self::Ring(process, _) => match lock(&process.inlet).receive(None) {
                Received::Gone => None,
                Received::Garbled(fault) => Some(fault),
                Received::Frame(_) | Received::Nothing => Some("sent a message out of turn".into()),
            },
            Self::Channel(process, _) => {
                os::wait_hung_up(process.socket.handle(), Some(process.child.sentinel()));
                None
            }
            Self::Thread(thread) => {
                thread.await_end();
                None
            }
        }
    }

    /// As [`await_end`](Self::await_end), and passes on what it says until then. For an attendant to which no listener
    /// belongs.
    pub(crate) fn listen(&self, sink: &mut dyn Sink) -> Option<String> {
        match self {
            Self::Ring(..) => self.await_end(),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.listen(sink),
        }
    }

    /// Waits for the end of a worker that is not heard any more, reads the rest of what it said, and finds out how it
    /// ended. One that is `leaving` by itself may take its time. Nothing more starts there: its calls of this
    /// `generation` are over.
    pub(crate) fn bury(&self, fault: Option<String>, leaving: bool, generation: u32, sink: &mut dyn Sink) -> Loss {
        let mut loss = match self {
            Self::Ring(process, _) | Self::Channel(process, _) => {
                // Its connection is closed: it is exiting, or it has closed descriptors that are not its own.
                let fault = fault.or_else(|| {
                    let ended = leaving || self.has_fault() || process.child.wait_timeout(Some(LAST_BREATH));
                    (!ended).then(|| "closed its connection".to_owned())
                });
                if fault.is_some() || self.has_fault() {
                    self.kill();
                }
                process.examine(fault)
            }
            Self::Thread(thread) => thread.bury(fault, generation),
        };
        // What it wrote before its end counts; and what was wrong with that says why it was killed.
        let own = match self {
            Self::Ring(_, link) => {
                let _ = link.serve(sink, true);
                link.take_fault()
            }
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => {
                link.serve(sink, true);
                link.take_fault()
            }
        };
        loss.fault = own.or(loss.fault);
        loss
    }

    fn has_fault(&self) -> bool {
        match self {
            Self::Ring(..) => false,
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.has_fault(),
        }
    }

    /// Kills it. A thread is abandoned: what it says from now on reaches nobody.
    pub(crate) fn kill(&self) {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => drop(process.child.kill()),
            Self::Thread(thread) => thread.lifeline.kill(),
        }
    }

    // ---- calls ----

    /// Sends a frame of calls, which speak of memory that is `held` as long as a thread is busy with them. Never waits.
    pub(crate) fn send(&self, frame: &impl WriteFrame, held: Vec<Arc<Region>>) -> Sent {
        match self {
            Self::Ring(_, link) => link.send(frame).map_or(Sent::Corrupt, |()| Sent::Done),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => {
                let mut bytes = Vec::with_capacity(frame.most());
                frame.write(&mut bytes);
                link.put(bytes, held);
                Sent::Unflushed
            }
        }
    }

    /// Has it exit when it is through with what it was sent.
    pub(crate) fn stop(&self) -> Sent {
        match self {
            Self::Ring(_, link) => link.stop().map_or(Sent::Corrupt, |()| Sent::Done),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => {
                link.put(stop_frame(), Vec::new());
                Sent::Unflushed
            }
        }
    }

    /// Sends what is in the backlog. Does not wait for the worker to read.
    pub(crate) fn flush(&self) {
        match self {
            Self::Ring(..) => {}
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => link.flush(),
        }
    }

    /// A call that speaks of these regions is about to be sent there. What a thread is to hold meanwhile is added to
    /// `held`.
    pub(crate) fn bring(&self, regions: &[Arc<Region>], held: &mut Vec<Arc<Region>>) {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => process.attacher.bring(regions),
            Self::Thread(_) => held.extend_from_slice(regions),
        }
    }

    /// It could not read the arguments of a call that speaks of these regions; others that do may be under way.
    pub(crate) fn doubt(&self, regions: &[Arc<Region>], under_way: bool) {
        match self {
            Self::Ring(process, _) | Self::Channel(process, _) => process.attacher.doubt(regions, under_way),
            Self::Thread(_) => {}
        }
    }

    // ---- questions ----

    /// The number of the latest call that it has started.
    pub(crate) fn claimed(&self) -> u32 {
        self.page().claimed()
    }

    /// Nothing of this generation starts there from now on. What is it doing?
    pub(crate) fn take_back(&self, generation: u32) -> Answer<Glance> {
        let Some(claimed) = self.page().take_back(generation) else { return Answer::Corrupt };
        // Of another call, its times are of no interest.
        let (running, started, extended) = self.page().running();
        let times = if running == claimed { (started, extended) } else { (0, 0) };
        Answer::Now(Glance { claimed, started: times.0, extended: times.1, memory: None })
    }

    /// What is it doing, and, if that is asked for, how much memory has it?
    pub(crate) fn look(&self, memory: bool) -> Answer<Glance> {
        let (claimed, started, extended) = self.page().running();
        let memory = self.process().filter(|_| memory).and_then(|process| os::private_memory(process.child.pid()));
        Answer::Now(Glance { claimed, started, extended, memory })
    }

    // ---- listening ----

    /// Reads what it has said, and passes it on; sends what there is room for again. Returns whether there was anything
    /// to read. If somebody else does so just now, it waits for them, or leaves it to them.
    pub(crate) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> bool {
        match self {
            // Its attendant hears of its end, and why.
            Self::Ring(process, link) => link.serve(sink, waits).unwrap_or_else(|_| {
                drop(process.child.kill());
                false
            }),
            Self::Channel(_, link) | Self::Thread(WorkerThread { link, .. }) => {
                let any = link.serve(sink, waits);
                if link.has_fault() {
                    self.kill();
                }
                any
            }
        }
    }

    /// Has it said something that nobody has read? Of one behind a socket, nobody knows before reading.
    pub(crate) fn has_reports(&self) -> bool {
        match self {
            Self::Ring(_, link) => link.memory().has_reports(),
            Self::Channel(..) => false,
            Self::Thread(thread) => thread.link.is_open() && thread.lifeline.reports.has_unread(),
        }
    }

    /// May it have said something, or is there something to be sent on?
    pub(crate) fn wants_service(&self) -> bool {
        match self {
            Self::Ring(_, link) => link.memory().has_reports() || link.is_blocked(),
            Self::Channel(_, link) => link.is_open(),
            Self::Thread(_) => self.has_reports(),
        }
    }

    /// Does something wait for room?
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            Self::Ring(_, link) => link.is_blocked(),
            Self::Channel(..) | Self::Thread(_) => false,
        }
    }

    /// Has the bell of this mark rung when it says something. Look once more after this.
    pub(crate) fn arm(&self, mark: u32) {
        match self {
            Self::Ring(_, link) => link.memory().arm(mark),
            Self::Channel(..) => {}
            Self::Thread(thread) => thread.lifeline.reports.arm(mark),
        }
    }

    /// No bell is to be rung.
    pub(crate) fn disarm(&self) {
        match self {
            Self::Ring(_, link) => link.memory().disarm(),
            Self::Channel(..) => {}
            Self::Thread(thread) => thread.lifeline.reports.arm(0),
        }
    }

    /// The socket on which it is heard, if that is how.
    pub(crate) fn socket(&self) -> Option<HandleRef<'_>> {
        match self {
            Self::Channel(process, link) if link.is_open() => Some(process.socket.handle()),
            Self::Ring(..) | Self::Channel(..) | Self::Thread(_) => None,
        }
    }

    /// Is it awake, or being woken, on this processor? It cannot run before the calling thread leaves it.
    pub(crate) fn is_on(&self, cpu: u32) -> bool {
        match self {
            Self::Ring(_, link) => link.memory().worker_is_on(cpu),
            Self::Channel(..) | Self::Thread(_) => false,
        }
    }

    /// Says whether more threads want to run than there are processors.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        match self {
            Self::Ring(_, link) => link.memory().set_crowded(crowded),
            Self::Channel(..) | Self::Thread(_) => {}
        }
    }
}
