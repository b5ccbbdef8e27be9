//! The status page: one page of memory that a worker shares with its parent.
//!
//! After any kind of death it says what messages cannot: which call had started, and how far it was. Through it, the two
//! agree without a message on which calls that were sent may still start.
//!
//! ```text
//!   claim  = which calls have started, or are about to: see [`claim`](super::claim)
//!   stage  = what the worker does with the latest one
//!   times  = when a call that is limited in time started, and until when it asks to run
//!   words  = what the worker said before it died: the panic that ended it
//!   crash  = what its fault handler noted before it died: see [`fault`](crate::os::fault)
//! ```
//!
//! The parent must never trust what it reads.

use crate::locks::lock;
use crate::memory::claim::{CallId, Claim};
use crate::os::{Crash, CrashSink, Handle, Mapping, check_size, sealed_memory};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

const SIZE: usize = 4096;
/// How many return addresses a crash is noted with.
const FRAMES: usize = 48;
/// The capacity for words, in bytes.
pub(crate) const WORDS: usize = SIZE - 64 - size_of::<Note>();

#[repr(C, align(64))]
struct Layout {
    claim: Claim,
    stage: AtomicU32,
    words: AtomicU32,
    /// When the latest call with a timeout started, and until when it asks to run.
    started: AtomicU64,
    extended: AtomicU64,
    /// The peak memory use, in KiB, at the start of the process: some of it is its parent's.
    peak: AtomicU64,
    text: [AtomicU8; WORDS],
    crash: Note,
}

/// A [`Crash`], as the fault handler notes it.
#[repr(C, align(64))]
struct Note {
    /// 1 once the facts are there.
    written: AtomicU64,
    /// Signal, code, address, overflow, on_main, anchor.
    facts: [AtomicU64; 6],
    count: AtomicU64,
    frames: [AtomicU64; FRAMES],
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<Layout>() == SIZE);

#[derive(Debug)]
pub(crate) struct StatusPage {
    mapping: Mapping,
    /// In the parent until the worker is started.
    handle: Option<Handle>,
    /// In the worker: whether the parent's [barriers are executed](Claim::take_barriers) there.
    remote: bool,
    /// In the parent: the latest call that was seen to have started, so that a page that goes back in time is found out.
    /// Locked while the page is read.
    seen: Mutex<u32>,
}

/// What the page says of the worker; nothing of it can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageGlance {
    /// The number of the latest call that has started.
    pub(crate) claimed: u32,
    /// If that has a timeout: when it started, and until when it asks to run, or 0.
    pub(crate) started: u64,
    pub(crate) extended: u64,
    /// The latest generation that the worker knows, if it had to find out about one.
    pub(crate) heard: u32,
}

impl StatusPage {
    /// A new page, for the parent.
    pub(crate) fn new() -> io::Result<Self> {
        let handle = sealed_memory(c"pool-status", SIZE)?;
        let page =
            Self { mapping: Mapping::new(&handle, SIZE)?, handle: Some(handle), remote: false, seen: Mutex::default() };
        page.layout().claim.offer_barriers();
        Ok(page)
    }

    /// A new page for a worker that is a thread of this process.
    pub(crate) fn local() -> io::Result<Self> {
        Ok(Self { mapping: Mapping::private(SIZE)?, handle: None, remote: false, seen: Mutex::default() })
    }

    /// Maps a page that was passed to this process.
    pub(crate) fn map(handle: Handle) -> io::Result<Self> {
        check_size(&handle, SIZE)?;
        let page = Self { mapping: Mapping::new(&handle, SIZE)?, handle: None, remote: false, seen: Mutex::default() };
        let remote = page.layout().claim.take_barriers();
        Ok(Self { remote, ..page })
    }

    /// To be passed to the worker; None once it was.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    pub(crate) fn close_handle(&mut self) {
        self.handle = None;
    }

    #[inline]
    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is as large as the layout, aligned, zeroed at first, and lives as long as `self`.
        // The other process may write at any time, which atomics allow.
        unsafe { self.mapping.start().cast().as_ref() }
    }

    #[inline]
    pub(crate) fn claim(&self, call: CallId, before: u32) -> bool {
        self.layout().claim.claim(call, before, self.remote)
    }

    /// Whether a claim failed because the parent has taken the generation back. If not, the page is corrupt.
    pub(crate) fn is_taken_back(&self, generation: u32) -> bool {
        self.layout().claim.is_over(generation)
    }

    /// The parent's side: no more calls of this generation start. None if the page is corrupt.
    pub(crate) fn take_back(&self, generation: u32) -> Option<PageGlance> {
        let mut seen = lock(&self.seen);
        let claimed = self.layout().claim.take_back(generation)?;
        // A worker that was about to start a call when it was looked at may have given that one up.
        if is_before(claimed, *seen) && claimed != seen.wrapping_sub(1) {
            return None;
        }
        *seen = claimed;
        // Times of another call are left out.
        let (running, started, extended) = self.running();
        let (started, extended) = if running == claimed { (started, extended) } else { (0, 0) };
        Some(PageGlance { claimed, started, extended, heard: self.layout().claim.heard() })
    }

    /// The parent's side: what the worker does. None if the page is corrupt: what has started stays so.
    pub(crate) fn look(&self) -> Option<PageGlance> {
        let mut seen = lock(&self.seen);
        let (claimed, started, extended) = self.running();
        if is_before(claimed, *seen) {
            return None;
        }
        *seen = claimed;
        Some(PageGlance { claimed, started, extended, heard: self.layout().claim.heard() })
    }

    /// The parent's side, after the worker's end: the latest call that has started.
    pub(crate) fn reached(&self) -> u32 {
        let (seen, claimed) = (lock(&self.seen), self.claimed());
        if is_before(claimed, *seen) { *seen } else { claimed }
    }

    /// As if it had never been looked at.
    #[cfg(test)]
    pub(crate) fn forget_seen(&self) {
        *lock(&self.seen) = 0;
    }

    pub(crate) fn claimed(&self) -> u32 {
        self.layout().claim.latest()
    }

    /// A call with a timeout is about to be claimed, at this time of the system's monotonic clock.
    pub(crate) fn set_started(&self, nanos: u64) {
        let layout = self.layout();
        layout.started.store(nanos, Ordering::Relaxed);
        layout.extended.store(0, Ordering::Relaxed);
    }

    /// The call that runs asks to run until this time.
    pub(crate) fn set_extended(&self, nanos: u64) {
        self.layout().extended.store(nanos, Ordering::Relaxed);
    }

    /// The latest call that has started; if it has a timeout, when that was, and until when it asks to run, or 0.
    fn running(&self) -> (u32, u64, u64) {
        let layout = self.layout();
        let mut seen = (self.claimed(), 0, 0);
        // Read until no call is claimed meanwhile, whose times may be there already; a worker may claim without end.
        for _ in 0..64 {
            let (started, extended) = (layout.started.load(Ordering::Acquire), layout.extended.load(Ordering::Acquire));
            let (before, ..) = std::mem::replace(&mut seen, (self.claimed(), started, extended));
            if before == seen.0 {
                break;
            }
        }
        seen
    }

    #[inline]
    pub(crate) fn begin(&self, stage: u32) {
        self.clear_words();
        self.set_stage(stage);
    }

    #[inline]
    pub(crate) fn set_stage(&self, stage: u32) {
        self.layout().stage.store(stage, Ordering::Release);
    }

    pub(crate) fn stage(&self) -> u32 {
        self.layout().stage.load(Ordering::Acquire)
    }

    /// Leaves words that the parent reads after a death, unless they are too long.
    pub(crate) fn leave_words(&self, words: &[u8]) {
        let layout = self.layout();
        if words.len() > WORDS {
            return self.clear_words();
        }
        for (to, from) in layout.text.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        layout.words.store(words.len() as u32, Ordering::Release);
    }

    /// Removes the words: the worker did not die.
    #[inline]
    pub(crate) fn clear_words(&self) {
        self.layout().words.store(0, Ordering::Release);
    }

    pub(crate) fn crash(&self) -> Option<Crash> {
        let note = &self.layout().crash;
        if note.written.load(Ordering::Acquire) == 0 {
            return None;
        }
        let count = (note.count.load(Ordering::Acquire) as usize).min(FRAMES);
        let [signal, code, address, overflow, on_main, anchor] =
            note.facts.each_ref().map(|fact| fact.load(Ordering::Relaxed));
        Some(Crash {
            signal: signal as i32,
            code: code as i32,
            address,
            overflow: overflow != 0,
            on_main: on_main != 0,
            anchor,
            frames: note.frames[..count].iter().map(|frame| frame.load(Ordering::Relaxed)).collect(),
        })
    }

    /// The worker's side: its peak memory use, in KiB, before it has done anything.
    pub(crate) fn set_first_peak(&self, peak: u64) {
        self.layout().peak.store(peak, Ordering::Relaxed);
    }

    pub(crate) fn first_peak(&self) -> u64 {
        self.layout().peak.load(Ordering::Relaxed)
    }

    pub(crate) fn words(&self) -> Vec<u8> {
        let layout = self.layout();
        let length = (layout.words.load(Ordering::Acquire) as usize).min(WORDS);
        layout.text[..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }
}

/// Compares numbers that wrap around.
fn is_before(claimed: u32, seen: u32) -> bool {
    (claimed.wrapping_sub(seen) as i32) < 0
}

impl CrashSink for StatusPage {
    fn note(&self, crash: &Crash) {
        let note = &self.layout().crash;
        let Crash { signal, code, address, overflow, on_main, anchor, .. } = *crash;
        let facts = [signal as u64, code as u64, address, overflow.into(), on_main.into(), anchor];
        for (place, fact) in note.facts.iter().zip(facts) {
            place.store(fact, Ordering::Relaxed);
        }
        note.count.store(0, Ordering::Relaxed);
        note.written.store(1, Ordering::Release);
    }

    fn note_frame(&self, frame: u64) -> bool {
        let note = &self.layout().crash;
        let count = note.count.load(Ordering::Relaxed);
        let Some(place) = note.frames.get(count as usize) else { return false };
        place.store(frame, Ordering::Relaxed);
        note.count.store(count + 1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_their_writer() {
        let page = StatusPage::new().unwrap();
        let other = StatusPage::map(page.handle().unwrap().try_clone().unwrap()).unwrap();
        other.leave_words(b"out of memory");
        drop(other);
        assert_eq!(page.words(), b"out of memory");
        page.leave_words(&[0; SIZE]);
        assert_eq!(page.words(), b"");
    }

    #[test]
    fn a_page_that_goes_back_in_time_is_found_out() {
        let page = StatusPage::new().unwrap();
        let other = StatusPage::map(page.handle().unwrap().try_clone().unwrap()).unwrap();
        assert!((1..=3).all(|number| other.claim(CallId::new(0, number), number - 1)));
        assert_eq!(page.look().map(|glance| glance.claimed), Some(3));
        // As a task could write it.
        other.claim(CallId::new(0, 2), 1);
        assert_eq!(page.look(), None);
        assert_eq!(page.reached(), 3, "what had started has started");
    }

    #[test]
    fn a_call_in_doubt_may_be_given_up() {
        let page = StatusPage::new().unwrap();
        let other = StatusPage::map(page.handle().unwrap().try_clone().unwrap()).unwrap();
        let layout = other.layout();
        assert!(other.claim(CallId::new(0, 1), 0));
        // The worker claims the next one, and is looked at before it knows whether it may start it.
        assert!(layout.claim.claim(CallId::new(0, 2), 1, true));
        assert_eq!(page.look().map(|glance| glance.claimed), Some(2));
        layout.claim.claim(CallId::new(0, 1), 0, true);
        let glance = page.take_back(0).expect("an honest page");
        assert_eq!((glance.claimed, glance.heard), (1, 0));
        assert_eq!(page.look().map(|glance| glance.claimed), Some(1));
        // But only that one.
        assert!(other.claim(CallId::new(1, 4), 1));
        assert_eq!(page.look().map(|glance| glance.claimed), Some(4));
        assert!(other.claim(CallId::new(1, 2), 1));
        assert_eq!(page.take_back(1), None);
    }

    #[test]
    fn a_crash_is_read_as_it_was_noted() {
        let page = StatusPage::new().unwrap();
        assert_eq!(page.crash(), None);
        let mut crash =
            Crash { signal: 11, code: -6, address: 8, overflow: true, on_main: false, anchor: 1, frames: Vec::new() };
        page.note(&crash);
        for frame in 0..FRAMES as u64 {
            assert!(page.note_frame(frame));
            crash.frames.push(frame);
        }
        assert!(!page.note_frame(0));
        assert_eq!(page.crash(), Some(crash));
        // A corrupt count is not trusted.
        page.layout().crash.count.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(page.crash().unwrap().frames.len(), FRAMES);
    }
}
