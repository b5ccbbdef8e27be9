//! Who listens to a worker: its attendant, or a caller that has nothing to do but to wait for this worker's answer.
//!
//! A blocking call that goes through the attendant wakes three threads one after the other: the worker's, the
//! attendant's, the caller's. A caller that listens itself saves one of three, and a wake-up is nearly all that such a
//! call costs. It runs no code of its own meanwhile, so nobody waits for it longer than for the attendant.
//!
//! ```text
//!              receive                            lead                      it has its answer
//!   Attendant ─────────▶ Nobody (attendant parks) ─────▶ Caller ─────────────────────────────▶ Nobody
//!       ▲                   │    ▲                                                              │
//!       └─── summoned, or ──┘    └──────────────────────────────────────────────────────────────┘
//!            no caller came for a while
//! ```
//!
//! An attendant that is blocked in `receive` cannot be called back. So it parks instead, if callers have come lately
//! and nothing is on its way: it leaves the ear to them, and takes it again when a call is sent that nobody waits for
//! in this way (*summoned*), or when no caller has come for a while. An idle worker's attendant is back in `receive`
//! after a few milliseconds, and then sleeps for good.

use crate::{
    sync::lock,
    transport::{Inlet, Received},
};
use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// How long an attendant stays away while no caller comes.
const AWAY: Duration = Duration::from_millis(2);

/// What was heard last: nothing more will come; if the worker has to be killed, why.
pub(super) type End = Option<String>;

pub(super) struct Ear {
    inlet: Arc<Mutex<Box<dyn Inlet>>>,
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Listener {
    #[default]
    Nobody,
    Attendant,
    Caller,
}

#[derive(Default)]
struct Turn {
    listener: Listener,
    /// Callers have come lately.
    wanted: bool,
    /// Something is on its way that no caller listens for.
    summoned: bool,
    /// The attendant waits for a caller to leave.
    waits: bool,
    /// How often callers have come.
    callers: u64,
    /// What a caller has heard last.
    end: Option<End>,
}

impl Ear {
    pub(super) fn new(inlet: Arc<Mutex<Box<dyn Inlet>>>) -> Self {
        Self { inlet, turn: Mutex::default(), changed: Condvar::new() }
    }

    /// The attendant's: listens when it is its turn. `handle` is given what is heard, and says whether more is on its
    /// way, or what the end is.
    pub(super) fn attend(&self, mut handle: impl FnMut(Received) -> Result<bool, End>) -> End {
        loop {
            if let Some(end) = self.await_turn() {
                return end;
            }
            let received = lock(&self.inlet).receive(None);
            {
                let mut turn = lock(&self.turn);
                // Whatever was sent until now, `handle` knows of.
                (turn.listener, turn.summoned) = (Listener::Nobody, false);
            }
            match handle(received) {
                Ok(false) => {}
                Ok(true) => lock(&self.turn).summoned = true,
                Err(end) => return end,
            }
        }
    }

    fn await_turn(&self) -> Option<End> {
        let mut turn = lock(&self.turn);
        loop {
            if turn.end.is_some() {
                return turn.end.take();
            }
            if turn.listener == Listener::Caller {
                turn.waits = true;
                turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
                turn.waits = false;
            } else if turn.summoned || !turn.wanted {
                turn.listener = Listener::Attendant;
                return None;
            } else {
                let callers = turn.callers;
                let (back, waited) = self.changed.wait_timeout(turn, AWAY).unwrap_or_else(PoisonError::into_inner);
                turn = back;
                if waited.timed_out() && turn.callers == callers && turn.listener == Listener::Nobody {
                    turn.wanted = false;
                }
            }
        }
    }

    /// Something was sent that no caller listens for: the attendant is to listen.
    pub(super) fn summon(&self) {
        let mut turn = lock(&self.turn);
        turn.summoned = true;
        if turn.listener == Listener::Nobody && turn.wanted {
            drop(turn);
            self.changed.notify_one();
        }
    }

    /// A caller's: listens, if nobody does. If somebody does, they will hear what the caller waits for.
    pub(super) fn lead(&self) -> Option<Lead<'_>> {
        let mut turn = lock(&self.turn);
        turn.callers += 1;
        turn.wanted = true;
        if turn.listener == Listener::Nobody && turn.end.is_none() {
            (turn.listener, turn.summoned) = (Listener::Caller, false);
            return Some(Lead { ear: self });
        }
        turn.summoned = true;
        None
    }
}

/// A caller that listens.
pub(super) struct Lead<'e> {
    ear: &'e Ear,
}

impl Lead<'_> {
    /// Listens until `done`; as [`Ear::attend`].
    pub(super) fn listen(self, done: impl Fn() -> bool, mut handle: impl FnMut(Received) -> Result<bool, End>) {
        while !done() {
            let received = lock(&self.ear.inlet).receive(None);
            lock(&self.ear.turn).summoned = false;
            match handle(received) {
                Ok(false) => {}
                Ok(true) => lock(&self.ear.turn).summoned = true,
                Err(end) => {
                    lock(&self.ear.turn).end = Some(end);
                    return;
                }
            }
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut turn = lock(&self.ear.turn);
        turn.listener = Listener::Nobody;
        let awaited = turn.waits || turn.summoned || turn.end.is_some();
        drop(turn);
        if awaited {
            self.ear.changed.notify_one();
        }
    }
}
