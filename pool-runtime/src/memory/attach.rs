//! Attaches regions to a process before a call that speaks of them is sent, once, and has them released later.
//!
//! ```text
//!   a call is about to be sent ─▶ bring ─▶ ledger: has it got this? ─no─▶ backlog ─▶ socket ═══ Take ═══▶ inbox
//!   a region's last holder goes ─▶ keeper ─▶ ledger: had it got that? ─yes─▶ backlog ─▶ socket ═ Release ═▶ inbox
//! ```
//!
//! Bringing never waits: what the socket has no room for stays in the backlog, in order, and the keeper goes on with
//! it. The call may arrive before its memory then, and waits for it.
//!
//! The keeper is one thread for the whole process. There is none before the first region is brought, it sleeps while no
//! region goes and no backlog is left, and it ends with the last process that was brought any.

use crate::memory::region::{self, Ledger, Region};
use crate::os::{self, Handle, Passed, passing};
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use std::{fmt, io};

/// Brings regions to one process.
pub(crate) struct Attacher {
    socket: Handle,
    state: Mutex<AttachState>,
}

#[derive(Default)]
struct AttachState {
    ledger: Ledger,
    /// What has not been sent, in order.
    backlog: VecDeque<Parcel>,
    /// The keeper knows of it.
    is_kept: bool,
}

enum Parcel {
    /// What nobody else holds any more is not kept for a process that may never take it.
    Take(Weak<Region>),
    Release(u64),
}

/// How far a backlog was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shipped {
    All,
    Some,
    Nothing,
}

impl Attacher {
    pub(crate) fn new(socket: Handle) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default() })
    }

    /// Sees to it that the process gets these regions, if it has not got them. Does not wait.
    ///
    /// The caller holds them as long as the process may run a call that speaks of them.
    pub(crate) fn bring(self: &Arc<Self>, regions: &[Arc<Region>]) {
        if regions.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        // What is not needed any more makes room in a process that may have little.
        state.release_dead();
        for region in regions {
            if state.ledger.give(region) {
                state.backlog.push_back(Parcel::Take(Arc::downgrade(region)));
            }
        }
        if state.backlog.is_empty() {
            return;
        }
        let sent = state.send(&self.socket);
        if !std::mem::replace(&mut state.is_kept, true) {
            region::on_death(call_keeper);
            lock(&KEEPER).attachers.push(Arc::downgrade(self));
        }
        drop(state);
        if sent != Shipped::All {
            call_keeper();
        }
    }

    /// The process may not have been able to take these regions: they are brought again before the next call that
    /// speaks of them is sent; at once, if one may be `under_way` already.
    pub(crate) fn doubt(self: &Arc<Self>, regions: &[Arc<Region>], under_way: bool) {
        regions.iter().for_each(|region| lock(&self.state).ledger.doubt(region));
        if under_way {
            self.bring(regions);
        }
    }

    /// The keeper's.
    fn look_after(&self) -> Shipped {
        let mut state = lock(&self.state);
        state.release_dead();
        state.send(&self.socket)
    }
}

impl AttachState {
    fn release_dead(&mut self) {
        self.backlog.extend(self.ledger.take_dead().into_iter().map(Parcel::Release));
    }

    fn send(&mut self, socket: &Handle) -> Shipped {
        let mut sent = Shipped::Nothing;
        while let Some(parcel) = self.backlog.front() {
            let passed = match parcel {
                Parcel::Take(region) => match region.upgrade() {
                    Some(region) => passing::send(socket, &Passed::Take { id: region.id(), handle: region.handle() }),
                    None => Ok(()),
                },
                Parcel::Release(id) => passing::send(socket, &Passed::Release { id: *id }),
            };
            match passed.map_err(|error| error.kind()) {
                Err(io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => return sent,
                // The process is gone, or is told by its own patience that something does not arrive.
                Ok(()) | Err(_) => {
                    self.backlog.pop_front();
                    sent = Shipped::Some;
                }
            }
        }
        Shipped::All
    }
}

impl Drop for Attacher {
    fn drop(&mut self) {
        if self.state.get_mut().unwrap_or_else(PoisonError::into_inner).is_kept {
            call_keeper();
        }
    }
}

impl fmt::Debug for Attacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attacher({:?})", self.socket)
    }
}

struct Keeper {
    /// Those who have brought something.
    attachers: Vec<Weak<Attacher>>,
    /// There is something to see.
    is_called: bool,
    /// Its thread exists.
    runs: bool,
}

/// Locked last of all: while it is, nothing is locked or dropped.
static KEEPER: Mutex<Keeper> = Mutex::new(Keeper { attachers: Vec::new(), is_called: false, runs: false });
static CALLED: Condvar = Condvar::new();

/// Where many regions go one after the other, they are released together.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a process that receives nothing is left alone, at the most: it is stopped.
const LONGEST_NAP: Duration = Duration::from_millis(64);

/// A region has gone, a socket is full, or an attacher is.
fn call_keeper() {
    let mut keeper = lock(&KEEPER);
    if keeper.attachers.is_empty() || keeper.is_called {
        return;
    }
    keeper.is_called = true;
    if keeper.runs {
        CALLED.notify_one();
        return;
    }
    let made = std::thread::Builder::new().name("pool-attach".into()).stack_size(1 << 18).spawn(|| {
        os::block_all_signals();
        keep();
    });
    keeper.runs = made.is_ok();
    // Without a thread, the next call tries again.
    keeper.is_called = keeper.runs;
}

fn keep() {
    let mut nap = None;
    while let Some(attachers) = await_call(nap) {
        let sent: Vec<Shipped> = attachers.iter().map(|attacher| attacher.look_after()).collect();
        // It may be the last to have one of them.
        drop(attachers);
        nap = if sent.contains(&Shipped::Some) {
            Some(PAUSE)
        } else if sent.contains(&Shipped::Nothing) {
            nap.map_or(Some(PAUSE), |nap| Some(LONGEST_NAP.min(2 * nap)))
        } else {
            None
        };
        std::thread::sleep(PAUSE);
    }
}

/// Waits until there is something to see, at most for so long. None: there never will be.
fn await_call(nap: Option<Duration>) -> Option<Vec<Arc<Attacher>>> {
    let mut keeper = lock(&KEEPER);
    loop {
        keeper.attachers.retain(|attacher| attacher.strong_count() > 0);
        if keeper.attachers.is_empty() {
            (keeper.runs, keeper.is_called) = (false, false);
            return None;
        }
        let mut is_due = std::mem::take(&mut keeper.is_called);
        if !is_due {
            keeper = match nap {
                Some(nap) => {
                    let (awake, waited) = CALLED.wait_timeout(keeper, nap).unwrap_or_else(PoisonError::into_inner);
                    is_due = waited.timed_out();
                    awake
                }
                None => CALLED.wait(keeper).unwrap_or_else(PoisonError::into_inner),
            };
        }
        if is_due {
            return Some(keeper.attachers.iter().filter_map(Weak::upgrade).collect());
        }
    }
}
