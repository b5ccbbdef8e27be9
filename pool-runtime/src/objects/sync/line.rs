//! Who holds what, and who waits for it in line.
//!
//! A process that ends takes nothing with it: [`Holders`] says how much each process holds, and a [`WaitingLine`] which process
//! each one that waits belongs to. Whoever waits for too long finds out which of them have ended, and removes them.
//!
//! What is [had in turn](Lined) is given to who waits longest. Each place in a line has a word on which its owner sleeps, so
//! only who may go on is woken.

use super::signalled::{Naps, Signalled};
use crate::objects::Plain;
use bytemuck::{Pod, Zeroable};
use std::time::Instant;

/// How many processes may hold something at a time.
pub(super) const HOLDERS: usize = 256;

/// How many threads of all processes may be in a line at a time.
pub(super) const PLACES: usize = 256;

/// What one process holds.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Holding {
    /// The number of the process; 0: nobody's.
    owner: u32,
    count: u32,
}

/// How much each process holds of something.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Holders([Holding; HOLDERS]);

impl Holders {
    pub(super) const NONE: Self = Self([Holding { owner: 0, count: 0 }; HOLDERS]);

    /// A process holds one more. Returns false if there is no room for another process.
    pub(super) fn add(&mut self, owner: u32) -> bool {
        let own = self.0.iter().position(|holding| holding.owner == owner);
        let Some(index) = own.or_else(|| self.0.iter().position(|holding| holding.owner == 0)) else { return false };
        self.0[index] = Holding { owner, count: self.0[index].count.saturating_add(1) };
        true
    }

    /// A process holds one less. Returns false if it holds none.
    pub(super) fn remove(&mut self, owner: u32) -> bool {
        let Some(holding) = self.0.iter_mut().find(|holding| holding.owner == owner) else { return false };
        holding.count = holding.count.saturating_sub(1);
        if holding.count == 0 {
            holding.owner = 0;
        }
        true
    }

    /// How many all of them hold.
    pub(super) fn total(&self) -> u32 {
        let held = self.0.iter().filter(|holding| holding.owner != 0);
        held.fold(0, |sum, holding| sum.saturating_add(holding.count))
    }

    pub(super) fn is_full(&self) -> bool {
        self.owners().count() == HOLDERS
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|holding| holding.owner).filter(|owner| *owner != 0)
    }

    /// Removes these processes, and returns how many they held.
    pub(super) fn bury(&mut self, ended: &[u32]) -> u32 {
        let mut held = 0_u32;
        for holding in self.0.iter_mut().filter(|holding| ended.contains(&holding.owner)) {
            held = held.saturating_add(holding.count);
            *holding = Holding { owner: 0, count: 0 };
        }
        held
    }
}

/// A thread that waits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinePlace {
    /// The number of its process; 0: nobody's place.
    owner: u32,
    /// Counts those who came before.
    ticket: u32,
}

/// Those who wait, each with a mark that says what for, or what has become of it. A place is its owner's until that
/// [leaves](Self::leave), or has ended.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WaitingLine {
    places: [LinePlace; PLACES],
    marks: [u8; PLACES],
    next: u32,
}

impl WaitingLine {
    pub(super) const EMPTY: Self =
        Self { places: [LinePlace { owner: 0, ticket: 0 }; PLACES], marks: [0; PLACES], next: 0 };

    /// A place at its end. None if there are none left.
    pub(super) fn join(&mut self, owner: u32, mark: u8) -> Option<usize> {
        let free = self.places.iter().position(|place| place.owner == 0)?;
        self.places[free] = LinePlace { owner, ticket: self.next };
        self.marks[free] = mark;
        self.next = self.next.wrapping_add(1);
        Some(free)
    }

    /// Gives a place up, and returns its mark.
    pub(super) fn leave(&mut self, place: usize) -> u8 {
        self.places[place].owner = 0;
        self.marks[place]
    }

    pub(super) fn mark(&self, place: usize) -> u8 {
        self.marks[place]
    }

    pub(super) fn set_mark(&mut self, place: usize, mark: u8) {
        self.marks[place] = mark;
    }

    fn taken(&self) -> impl Iterator<Item = usize> {
        (0..PLACES).filter(|place| self.places[*place].owner != 0)
    }

    /// The places with a mark.
    pub(super) fn marked(&self, mark: u8) -> impl Iterator<Item = usize> {
        self.taken().filter(move |place| self.marks[*place] == mark)
    }

    /// Of some places, the one that has been taken for longest.
    fn oldest(&self, places: impl Iterator<Item = usize>) -> Option<usize> {
        places.max_by_key(|place| self.next.wrapping_sub(self.places[*place].ticket))
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.oldest(self.taken())
    }

    pub(super) fn first_marked(&self, mark: u8) -> Option<usize> {
        self.oldest(self.marked(mark))
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = u32> {
        self.taken().map(|place| self.places[place].owner)
    }

    /// Removes the places of these processes, and returns how many had a mark.
    pub(super) fn bury(&mut self, ended: &[u32], mark: u8) -> usize {
        let places: Vec<_> = self.taken().filter(|place| ended.contains(&self.places[*place].owner)).collect();
        places.into_iter().filter(|place| self.leave(*place) == mark).count()
    }
}

/// State of something that is had in turn.
pub(super) trait Lined: Plain {
    fn line(&self) -> &WaitingLine;
    fn line_mut(&mut self) -> &mut WaitingLine;
    /// Whether somebody with this mark may have it now.
    fn admits(&self, mark: u8) -> bool;
    /// Those who hold it.
    fn owners(&self) -> Vec<u32>;
    /// Takes back what these processes hold.
    fn take_back(&mut self, ended: &[u32]);
}

/// Each place in the line has its word.
impl<S: Lined> Signalled<S> {
    /// Changes the state, and then wakes the first in line, if that may go on.
    pub(super) fn change_and_go_on<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let (returned, next) = self.change(|state| {
            let returned = change(state);
            let line = state.line();
            (returned, line.first().filter(|first| state.admits(line.mark(*first))))
        });
        if let Some(next) = next {
            self.wake(next);
        }
        returned
    }

    /// Has `take` take something, when its turn has come and the state [admits](Lined::admits) who has this mark. None: it
    /// has not come to that until the deadline.
    pub(super) fn take_in_turn<R>(
        &self,
        mark: u8,
        deadline: Option<Instant>,
        mut take: impl FnMut(&mut S) -> R,
    ) -> Option<R> {
        let (number, mut naps, mut place) = (self.number(), Naps::until(deadline), None);
        let (mut seen, mut has_looked) = (0, false);
        loop {
            let is_over = naps.is_over() && has_looked;
            let taken = self.change_and_go_on(|state| {
                let first = state.line().first();
                let is_next = first.is_none() || first == place;
                let taken = (is_next && state.admits(mark)).then(|| take(state));
                if taken.is_some() || is_over {
                    place.take().map(|place| state.line_mut().leave(place));
                } else {
                    place = place.or_else(|| state.line_mut().join(number, mark));
                    // Whoever changes the state after this one adds to the word after that.
                    seen = place.map_or(0, |place| self.seen(place));
                }
                taken
            });
            if taken.is_some() || is_over {
                return taken;
            }
            let is_woken = match place {
                Some(place) => !naps.is_over() && self.sleep(place, seen, &mut naps),
                // There is no place, so it comes again like somebody new.
                None => naps.rest(),
            };
            if !is_woken {
                self.bury();
                has_looked = true;
            }
        }
    }

    /// As [`take_in_turn`](Self::take_in_turn), without waiting.
    pub(super) fn try_take<R>(&self, mark: u8, mut take: impl FnMut(&mut S) -> R) -> Option<R> {
        let mut once = || {
            self.change_and_go_on(|state| {
                let is_next = state.line().first().is_none();
                (is_next && state.admits(mark)).then(|| take(state))
            })
        };
        once().or_else(|| if self.bury() { once() } else { None })
    }

    /// Takes back what processes hold that have ended, and removes them from the line. Returns whether there were any.
    pub(super) fn bury(&self) -> bool {
        let state = self.state();
        let ended = self.ended(state.owners().into_iter().chain(state.line().owners()));
        if !ended.is_empty() {
            self.change_and_go_on(|state| {
                state.take_back(&ended);
                state.line_mut().bury(&ended, 0);
            });
        }
        !ended.is_empty()
    }
}
