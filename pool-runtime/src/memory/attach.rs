//! Sends regions to a process before the first call that refers to them, and has them released later.
//!
//! ```text
//!   a call is about to be sent ─▶ bring ─▶ ledger: has it got this? ─no─▶ backlog ─▶ socket ═══ Take ═══▶ inbox
//!   a region's last holder goes ─▶ keeper ─▶ ledger: had it got that? ─yes─▶ backlog ─▶ socket ═ Release ═▶ inbox
//! ```
//!
//! `bring` never waits: what the socket has no room for stays in the backlog, in order, and the keeper sends it. A call
//! may arrive before its memory, and waits for it.
//!
//! The keeper is one thread for the whole process. It starts with the first backlog or drop of a region that was sent,
//! sleeps while there is nothing to do, and ends with the last attacher that has sent anything.

use crate::locks::{lock, sleep_on};
use crate::memory::region::{self, Ledger, Region};
use crate::os::{self, Handle, Outgoing, passing};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Sends regions to one process.
#[derive(Debug)]
pub(crate) struct Attacher(Mutex<AttachState>);

#[derive(Debug)]
struct AttachState {
    socket: Arc<Handle>,
    ledger: Ledger,
    backlog: VecDeque<Parcel>,
    /// The process may not take the locks by which others see whether it lives: it is given them.
    is_confined: bool,
    /// The keeper has it in its list.
    is_kept: bool,
}

#[derive(Debug)]
enum Parcel {
    /// Weak, so that a process that never takes it does not keep it alive.
    Take(Weak<Region>),
    Release(u64),
}

/// What of a backlog was sent. The greatest says how soon the keeper looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shipped {
    All,
    Nothing,
    Some,
}

impl Attacher {
    pub(crate) fn new(socket: Arc<Handle>, is_confined: bool) -> Arc<Self> {
        let (ledger, backlog) = Default::default();
        Arc::new(Self(Mutex::new(AttachState { socket, ledger, backlog, is_confined, is_kept: false })))
    }

    /// Sends the process those of these regions that it does not have. Does not wait.
    ///
    /// The caller holds them as long as the process may run a call that refers to them.
    pub(crate) fn bring(self: &Arc<Self>, regions: &[Arc<Region>]) {
        if regions.is_empty() {
            return;
        }
        let mut state = lock(&self.0);
        // First, so that the process has room for the new ones.
        state.release_dead();
        for region in regions {
            if state.ledger.give(region) {
                state.backlog.push_back(Parcel::Take(Arc::downgrade(region)));
            }
        }
        if state.backlog.is_empty() {
            return;
        }
        let sent = state.send();
        if !std::mem::replace(&mut state.is_kept, true) {
            region::on_death(call_keeper);
            keeper().attachers.push(Arc::downgrade(self));
        }
        drop(state);
        if sent != Shipped::All {
            call_keeper();
        }
    }

    /// The socket, on which the process sends what its results refer to. None: it is confined, and sends nothing.
    pub(super) fn returns(&self) -> Option<Arc<Handle>> {
        let state = lock(&self.0);
        (!state.is_confined).then(|| state.socket.clone())
    }

    /// The process may have failed to map these regions: they are sent again before the next call that refers to them;
    /// at once, if such a call may be `under_way` already.
    pub(crate) fn doubt(self: &Arc<Self>, regions: &[Arc<Region>], under_way: bool) {
        regions.iter().for_each(|region| lock(&self.0).ledger.doubt(region));
        if under_way {
            self.bring(regions);
        }
    }
}

impl AttachState {
    fn release_dead(&mut self) -> &mut Self {
        self.backlog.extend(self.ledger.take_dead().into_iter().map(Parcel::Release));
        self
    }

    fn send(&mut self) -> Shipped {
        let mut sent = Shipped::Nothing;
        while let Some(parcel) = self.backlog.front() {
            let passed = match parcel {
                Parcel::Take(region) => region.upgrade().map_or(Ok(()), |region| self.pass(&region)),
                Parcel::Release(id) => passing::send(&self.socket, &Outgoing::Release { id: *id }),
            };
            match passed.map_err(|error| error.kind()) {
                Err(io::ErrorKind::WouldBlock | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory) => {
                    return sent;
                }
                // After any other error, the process is gone, or its calls time out waiting for the memory.
                Ok(()) | Err(_) => {
                    self.backlog.pop_front();
                    sent = Shipped::Some;
                }
            }
        }
        Shipped::All
    }
}

impl AttachState {
    fn pass(&self, region: &Region) -> io::Result<()> {
        // Without one, the process says that it cannot have the lock.
        if self.is_confined
            && let Some(Ok((number, enrolment))) = region.number_for_other()
        {
            let handle = enrolment.handle();
            return passing::send(&self.socket, &Outgoing::Take { id: region.id(), number, handle });
        }
        region.send(&self.socket, 0)
    }
}

impl Drop for Attacher {
    fn drop(&mut self) {
        if self.0.get_mut().unwrap_or_else(PoisonError::into_inner).is_kept {
            call_keeper();
        }
    }
}

struct Keeper {
    attachers: Vec<Weak<Attacher>>,
    is_called: bool,
    runs: bool,
    /// The process whose this is: a forked child has neither the thread nor any business with these attachers.
    pid: u32,
}

/// The keeper of this process.
fn keeper() -> MutexGuard<'static, Keeper> {
    let (mut keeper, pid) = (lock(&KEEPER), os::current_pid());
    if keeper.pid != pid {
        *keeper = Keeper { attachers: Vec::new(), is_called: false, runs: false, pid };
    }
    keeper
}

/// While it is locked, nothing else is locked or dropped.
static KEEPER: Mutex<Keeper> = Mutex::new(Keeper { attachers: Vec::new(), is_called: false, runs: false, pid: 0 });
static CALLED: Condvar = Condvar::new();

/// How long to wait for more, as many regions may be dropped one after the other.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest time between two attempts to send to a process that receives nothing.
const LONGEST_NAP: Duration = Duration::from_millis(64);

/// Wakes the keeper: a region or an attacher was dropped, or a socket is full.
fn call_keeper() {
    let mut keeper = keeper();
    if keeper.attachers.is_empty() || keeper.is_called {
        return;
    }
    keeper.is_called = true;
    if keeper.runs {
        CALLED.notify_one();
        return;
    }
    keeper.runs = os::spawn_thread("pool-attach", Some(1 << 18), keep).is_ok();
    // Without a thread, the next call tries again.
    keeper.is_called = keeper.runs;
}

fn keep() {
    os::block_all_signals();
    let mut nap = None;
    while let Some(attachers) = await_call(nap) {
        let send = |attacher: &Arc<Attacher>| lock(&attacher.0).release_dead().send();
        let sent = attachers.iter().map(send).max();
        // Without the lock: it may drop the last reference to one of them.
        drop(attachers);
        nap = match sent {
            Some(Shipped::Some) => Some(PAUSE),
            Some(Shipped::Nothing) => Some(nap.map_or(PAUSE, |nap| LONGEST_NAP.min(2 * nap))),
            Some(Shipped::All) | None => None,
        };
        std::thread::sleep(PAUSE);
    }
}

/// Waits until there is something to do, or for the time of `nap`. None: no attacher is left.
fn await_call(nap: Option<Duration>) -> Option<Vec<Arc<Attacher>>> {
    let deadline = nap.map(|nap| Instant::now() + nap);
    let mut keeper = lock(&KEEPER);
    while !keeper.is_called && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        keeper = sleep_on(&CALLED, keeper, deadline).unwrap_or_else(|| lock(&KEEPER));
    }
    keeper.is_called = false;
    keeper.attachers.retain(|attacher| attacher.strong_count() > 0);
    keeper.runs = !keeper.attachers.is_empty();
    keeper.runs.then(|| keeper.attachers.iter().filter_map(Weak::upgrade).collect())
}
