//! [`Barrier`]: several threads of several processes wait for one another.

use super::line::{PLACES, WaitingLine};
use super::signalled::{Naps, Signalled, after};
use crate::error::{Error, Result};
use crate::objects::reference;
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::{Duration, Instant};

/// Lets a number of threads, in whichever processes, go on when all of them have come.
///
/// As [`std::sync::Barrier`], between processes, with Python's `abort`, `reset` and time-outs. It is an argument like any
/// other; a clone, and what a task gets, are the same barrier. It may be used again and again.
///
/// If one of them waits in vain, or its process ends while it waits, the barrier is *broken*: all who wait get an error, and
/// so does everybody who comes later, until somebody calls [`reset`](Self::reset).
///
/// ```no_run
/// use pool_runtime::sync::Barrier;
/// use pool_runtime::{Array, Pool, Result, pool_main, task};
///
/// #[task]
/// fn halve(part: Array<f64>, barrier: &Barrier, rounds: u32) -> Result<(), String> {
///     for _ in 0..rounds {
///         (0..part.len()).for_each(|i| part.set(i, part.get(i) / 2.0));
///         // Nobody begins the next round before all have done this one.
///         barrier.wait().map_err(|broken| broken.to_string())?;
///     }
///     Ok(())
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let (all, barrier) = (Array::new(&[8.0; 100])?, Barrier::new(2)?);
///     let pool = Pool::new(2)?;
///     pool.map(|part| halve::call(part, &barrier, 3), all.chunks(50))?;
///     assert_eq!(all.get(99), 1.0);
///     Ok(())
/// }
/// ```
///
/// Each of those who wait for one another needs a worker of its own. The barrier is freed as an [`Array`](crate::Array) is.
#[derive(Clone)]
pub struct Barrier {
    signalled: Signalled<BarrierState>,
}

/// What all who have waited at a [`Barrier`] get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this is the one of them that came last.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

/// A [`Barrier`] is broken: not all who were to come have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier {
    breach: Breach,
}

/// Why a barrier is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    /// The time of this thread was over.
    OwnTimeout,
    Timeout,
    Aborted,
    Reset,
    Ended,
}

impl BrokenBarrier {
    /// Whether it is broken because the time of this very thread was over. The others that wait have no time-out then.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.breach == Breach::OwnTimeout
    }
}

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.breach {
            Breach::OwnTimeout => "the others did not come to the barrier in time, so it is broken",
            Breach::Timeout => "the barrier is broken: one that waited at it did not wait any longer",
            Breach::Aborted => "the barrier is broken: it was aborted",
            Breach::Reset => "the barrier was reset while this thread waited at it",
            Breach::Ended => "the barrier is broken: a process has ended that waited at it",
        })
    }
}

impl std::error::Error for BrokenBarrier {}

/// So that `?` works in a function that returns this crate's [`Result`](crate::Result).
impl From<BrokenBarrier> for Error {
    fn from(broken: BrokenBarrier) -> Self {
        Self::invalid(broken.to_string())
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BarrierState {
    /// Those who wait, and those who have not yet noticed that they do not any more.
    line: WaitingLine,
    /// How many wait for one another.
    parties: u32,
    /// The mark of those who come; [`WAITS`] unless it is broken.
    broken: u32,
}

/// The marks of places: who has one waits, may go on, or gets an error.
const WAITS: u8 = 0;
const GOES_ON: u8 = 1;
const LATE: u8 = 2;
const ABORTED: u8 = 3;
const RESET: u8 = 4;
const ENDED: u8 = 5;

/// What somebody gets who has this mark. None: it waits.
fn outcome(mark: u8) -> Option<Result<BarrierWaitResult, BrokenBarrier>> {
    let breach = match mark {
        WAITS => return None,
        GOES_ON => return Some(Ok(BarrierWaitResult { is_leader: false })),
        LATE => Breach::Timeout,
        RESET => Breach::Reset,
        ENDED => Breach::Ended,
        _ => Breach::Aborted,
    };
    Some(Err(BrokenBarrier { breach }))
}

/// The word on which all sleep.
const CHANGED: usize = 0;
const WORDS: usize = 1;

impl BarrierState {
    fn waiting(&self) -> usize {
        self.line.marked(WAITS).count()
    }

    /// Whether the next one to come is the last.
    fn lacks_one(&self) -> bool {
        self.waiting() + 1 >= self.parties as usize
    }

    /// Ends the waiting of all.
    fn release(&mut self, mark: u8) {
        let waiting: Vec<_> = self.line.marked(WAITS).collect();
        waiting.into_iter().for_each(|place| self.line.set_mark(place, mark));
    }

    fn break_with(&mut self, mark: u8) {
        self.release(mark);
        self.broken = mark.into();
    }

    /// Removes these processes. The barrier is broken if one of them has waited.
    fn bury(&mut self, ended: &[u32]) {
        if self.line.bury(ended, WAITS) > 0 {
            self.break_with(ENDED);
        }
    }
}

/// How somebody arrives.
enum Arrival {
    Waits(usize),
    IsLast,
    IsBroken(u8),
    HasNoPlace,
}

impl Barrier {
    /// A new barrier, for so many threads. One for none or one lets everybody go on.
    ///
    /// # Errors
    ///
    /// It is for more than 256; there is not enough memory; or the process has too many open files: each `Barrier` is two.
    pub fn new(threads: usize) -> Result<Self> {
        let parties = u32::try_from(threads).ok().filter(|parties| *parties as usize <= PLACES);
        let Some(parties) = parties else {
            return Err(Error::invalid(format!("a barrier is for at most {PLACES} threads, got {threads}")));
        };
        let state = BarrierState { line: WaitingLine::EMPTY, parties, broken: 0 };
        Signalled::new("a `Barrier`", state, WORDS, 0).map(|signalled| Self { signalled })
    }

    /// Waits until as many threads wait as the barrier is for.
    ///
    /// # Errors
    ///
    /// The barrier is broken, or was reset meanwhile.
    ///
    /// # Panics
    ///
    /// In a process that was forked without `exec`, if there are no more file locks.
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(None)
    }

    /// As [`wait`](Self::wait), for no longer than this: if the others have not come then, the barrier is broken for all.
    ///
    /// ```
    /// let barrier = pool_runtime::sync::Barrier::new(2)?;
    /// let late = barrier.wait_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(late.is_timeout() && barrier.is_broken());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The time is over; or as [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(after(timeout))
    }

    /// Breaks the barrier: all who wait get an error, and all who come, until it is [reset](Self::reset).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn abort(&self) {
        self.signalled.change(|state| state.break_with(ABORTED));
        self.signalled.wake(CHANGED);
    }

    /// Makes the barrier as it was at first. All who wait get an error; who comes from now on waits.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn reset(&self) {
        self.signalled.change(|state| {
            state.release(RESET);
            state.broken = 0;
        });
        self.signalled.wake(CHANGED);
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.signalled.state().broken != 0
    }

    /// How many threads it is for.
    pub fn parties(&self) -> usize {
        self.signalled.state().parties as usize
    }

    /// How many threads wait at this moment.
    pub fn waiting(&self) -> usize {
        self.signalled.state().waiting()
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<BarrierWaitResult, BrokenBarrier> {
        let mut naps = Naps::until(deadline);
        loop {
            if self.signalled.state().lacks_one() {
                // Who has ended is not waited for by the others, and does not let them go on either.
                self.bury();
            }
            match self.arrive() {
                Arrival::Waits(place) => return self.stay(place, &mut naps),
                Arrival::IsLast => {
                    self.signalled.wake(CHANGED);
                    return Ok(BarrierWaitResult { is_leader: true });
                }
                Arrival::IsBroken(mark) => {
                    return outcome(mark).unwrap_or(Err(BrokenBarrier { breach: Breach::Aborted }));
                }
                // Others have not yet noticed that they may go on.
                Arrival::HasNoPlace if naps.is_over() => {
                    self.signalled.change(|state| state.break_with(LATE));
                    self.signalled.wake(CHANGED);
                    return Err(BrokenBarrier { breach: Breach::OwnTimeout });
                }
                Arrival::HasNoPlace => {
                    naps.rest();
                    self.bury();
                }
            }
        }
    }

    fn arrive(&self) -> Arrival {
        let number = self.signalled.number();
        self.signalled.change(|state| {
            if state.broken != 0 {
                return Arrival::IsBroken(state.broken as u8);
            }
            if state.lacks_one() {
                state.release(GOES_ON);
                return Arrival::IsLast;
            }
            state.line.join(number, WAITS).map_or(Arrival::HasNoPlace, Arrival::Waits)
        })
    }

    /// Waits until the place has another mark.
    fn stay(&self, place: usize, naps: &mut Naps) -> Result<BarrierWaitResult, BrokenBarrier> {
        loop {
            let seen = self.signalled.seen(CHANGED);
            let mark = self.signalled.state().line.mark(place);
            if mark != WAITS || naps.is_over() {
                // The last one may have come since.
                let mark = self.signalled.change(|state| {
                    let mark = state.line.leave(place);
                    if mark == WAITS {
                        state.break_with(LATE);
                    }
                    mark
                });
                return outcome(mark).unwrap_or_else(|| {
                    self.signalled.wake(CHANGED);
                    Err(BrokenBarrier { breach: Breach::OwnTimeout })
                });
            }
            if !self.signalled.sleep(CHANGED, seen, naps) {
                self.bury();
            }
        }
    }

    /// Finds out who has ended that waits.
    fn bury(&self) {
        let ended = self.signalled.ended(self.signalled.state().line.owners());
        if !ended.is_empty() {
            self.signalled.change(|state| state.bury(&ended));
            self.signalled.wake(CHANGED);
        }
    }
}

/// Shows how many wait, for how many it is, and whether it is broken.
impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.signalled.state();
        let mut shown = f.debug_struct("Barrier");
        shown.field("waiting", &state.waiting()).field("parties", &state.parties);
        shown.field("is_broken", &(state.broken != 0)).finish_non_exhaustive()
    }
}

/// Only where handles travel: writes which memory it is.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<BarrierState, S>("Barrier", self.signalled.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<BarrierState, D>("Barrier", deserializer)?;
        Signalled::found(&region, WORDS).map(|signalled| Self { signalled }).map_err(de::Error::custom)
    }
}
