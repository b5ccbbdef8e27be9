//! Which number a process has among those that have some memory, and so whether who has left a number there lives.
//!
//! A process draws a number from a word of the memory and [enrols](Enrolment) with it, before it first writes one into
//! the memory; or it is given one, if it may not enrol. A forked child draws its own. Numbers are used again only when
//! their process has ended.

use crate::locks::lock;
use crate::os::{self, Enrolment, Memory};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Numbers are from 1 to this one.
pub(crate) const LAST_NUMBER: u32 = (1 << 24) - 1;

/// Which of the first words of the memory counts the numbers that were drawn.
const DRAWN: usize = 0;

/// More processes that live than have ever had the same memory. If as many numbers in a row are taken, the word is
/// corrupt.
const TRIES: u32 = 1 << 16;

/// The number of this process among those that have some memory.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// The process that has drawn it (high 32 bits), and the number. 0: none yet.
    drawn: AtomicU64,
    enrolment: Mutex<Option<Enrolment>>,
}

impl Presence {
    /// With a number that came with the memory; or 0.
    pub(super) fn given(number: u32) -> Self {
        let drawn = if number == 0 { 0 } else { noted(number) };
        Self { drawn: AtomicU64::new(drawn), enrolment: Mutex::default() }
    }

    /// The number, if this process has one already.
    #[inline]
    pub(super) fn known(&self) -> Option<u32> {
        let drawn = self.drawn.load(Ordering::Relaxed);
        (drawn >> 32 == u64::from(os::current_pid())).then_some(drawn as u32)
    }

    /// Whether this process, or the one from which it was forked, has a number.
    pub(super) fn is_drawn(&self) -> bool {
        self.drawn.load(Ordering::Relaxed) != 0
    }

    /// Takes a number that came with the memory later.
    pub(super) fn adopt(&self, number: u32) {
        self.drawn.store(noted(number), Ordering::Relaxed);
    }

    #[cold]
    pub(super) fn draw(&self, memory: &Memory) -> io::Result<u32> {
        let mut enrolment = lock(&self.enrolment);
        if let Some(number) = self.known() {
            return Ok(number);
        }
        let (number, drawn) = draw(memory)?;
        // In a forked process, this closes that of the process from which it was forked.
        *enrolment = Some(drawn);
        self.drawn.store(noted(number), Ordering::Relaxed);
        Ok(number)
    }
}

fn noted(number: u32) -> u64 {
    u64::from(os::current_pid()) << 32 | u64::from(number)
}

/// Where a process may not take locks, it has those that came with its arguments.
fn denied(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let why = "a worker in a sandbox gets locks, queues and channels as arguments only";
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{error} ({why})"))
}

/// Draws a number that nobody has.
pub(super) fn draw(memory: &Memory) -> io::Result<(u32, Enrolment)> {
    let word = memory.words::<AtomicU32>().get(DRAWN).ok_or(io::ErrorKind::UnexpectedEof)?;
    let enrolment = Enrolment::new(memory).map_err(denied)?;
    for _ in 0..TRIES {
        let number = word.fetch_add(1, Ordering::Relaxed) % LAST_NUMBER + 1;
        if enrolment.take(number).map_err(denied)? {
            return Ok((number, enrolment));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many processes have it"))
}
