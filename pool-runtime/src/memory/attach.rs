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

use crate::memory::region::{self, Ledger, Region};
use crate::os::{self, Handle, Passed, passing};
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use std::{fmt, io};

/// Sends regions to one process.
pub(crate) struct Attacher {
    socket: Handle,
    state: Mutex<AttachState>,
}

#[derive(Default)]
struct AttachState {
    ledger: Ledger,
    /// What has not been sent, in order.
    backlog: VecDeque<Parcel>,
    /// The keeper has it in its list.
    is_kept: bool,
}

enum Parcel {
    /// Weak, so that a process that never takes it does not keep it alive.
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

    /// Sends the process those of these regions that it does not have. Does not wait.
    ///
    /// The caller holds them as long as the process may run a call that refers to them.
    pub(crate) fn bring(self: &Arc<Self>, regions: &[Arc<Region>]) {
        if regions.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
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

    /// The process may have failed to map these regions: they are sent again before the next call that refers to them;
    /// at once, if such a call may be `under_way` already.
    pub(crate) fn doubt(self: &Arc<Self>, regions: &[Arc<Region>], under_way: bool) {
        regions.iter().for_each(|region| lock(&self.state).ledger.doubt(region));
        if under_way {
            self.bring(regions);
        }
    }

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
    /// Those that have sent something.
    attachers: Vec<Weak<Attacher>>,
    /// There is something to do.
    is_called: bool,
    /// Its thread exists.
    runs: bool,
}

/// While it is locked, nothing else is locked or dropped.
static KEEPER: Mutex<Keeper> = Mutex::new(Keeper { attachers: Vec::new(), is_called: false, runs: false });
static CALLED: Condvar = Condvar::new();

/// How long to wait for more, as many regions may be dropped one after the other.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest time between two attempts to send to a process that receives nothing.
const LONGEST_NAP: Duration = Duration::from_millis(64);

/// Wakes the keeper: a region or an attacher was dropped, or a socket is full.
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
        // This may drop the last reference to one of them.
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

/// Waits until there is something to do, or for the time of `nap`. None: no attacher is left.
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
