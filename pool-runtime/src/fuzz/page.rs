//! The page that a worker may write over at any time, and the words that it leaves there.

use crate::dossier::Stage;
use crate::fuzz::frames::panic_info;
use crate::fuzz::{Kind, Plan, run};
use crate::memory::{CallId, StatusPage, WORDS};
use crate::os::{End, Mapping};
use crate::panic::PanicInfo;
use std::sync::atomic::{AtomicU8, Ordering};

/// How large the page is.
const SIZE: usize = 4096;

fn aborted() -> Option<End> {
    Some(End::ABORTED)
}

#[test]
fn last_words() {
    let panic = panic_info();
    let whole = panic.last_words(WORDS);
    assert_eq!(PanicInfo::from_last_words(&whole, aborted()), Some(panic.clone()));
    let long = PanicInfo::from_message("é".repeat(WORDS));
    let corpus = vec![whole, panic.last_words(20), PanicInfo::from_message(String::new()).last_words(100)];
    assert!(PanicInfo::from_last_words(&long.last_words(WORDS), aborted()).is_some());
    let memory = |length| (16 << 10) + 8 * length;
    let tried = run(Plan { name: "last words", corpus, memory }, |words| {
        assert_eq!(PanicInfo::from_last_words(words, Some(End::KILLED)), None);
        let Some(panic) = PanicInfo::from_last_words(words, aborted()) else { return Kind::of(words.is_empty()) };
        assert!(panic.message().len() <= words.len());
        Kind::of((panic.message().is_empty(), panic.line().is_some(), panic.backtrace().is_some()))
    });
    assert!(tried.kinds > 3, "{tried:?}");
}

const HEAD: usize = 256;

#[test]
fn a_page_that_is_written_over() {
    let page = StatusPage::new().unwrap();
    let mapping = Mapping::new(page.handle().unwrap(), SIZE).unwrap();
    // SAFETY: the mapping is as large, and lives until the end of this function; all access to it is atomic.
    let bytes = unsafe { std::slice::from_raw_parts(mapping.start().as_ptr().cast::<AtomicU8>(), SIZE) };
    // All the words, and the beginning of the text.
    let seen = || bytes[..HEAD].iter().map(|byte| byte.load(Ordering::Relaxed)).collect::<Vec<_>>();
    // As workers leave it: nothing has begun; a call runs; a generation was taken back; it has died of a panic.
    let mut corpus = vec![seen()];
    assert!(page.claim(CallId::new(0, 7), 0));
    page.begin(Stage::Running as u32);
    corpus.push(seen());
    assert_eq!(page.take_back(0).map(|seen| seen.claimed), Some(7));
    page.leave_words(&panic_info().last_words(WORDS));
    corpus.push(seen());
    let tried = run(Plan { name: "a page that is written over", corpus, memory: |_| 32 << 10 }, |input| {
        let (own, scribbled) = input.split_at_checked(1).unwrap_or((&[0], &[]));
        let scribble = || {
            for (at, byte) in bytes[..HEAD].iter().enumerate() {
                byte.store(scribbled.get(at).copied().unwrap_or(0), Ordering::Relaxed);
            }
        };
        scribble();
        page.forget_seen();
        let seen = page.look();
        let (claimed, stage) = (page.claimed(), Stage::from_u32(page.stage()));
        let panic = PanicInfo::from_last_words(&page.words(), aborted());
        assert!(page.words().len() <= WORDS);
        // The parent's next move, and then the same again from a worker that goes on writing.
        let generation = u32::from(own[0] % 3);
        let taken = page.take_back(generation);
        scribble();
        let again = page.take_back(generation.wrapping_add(1));
        let over = page.is_taken_back(generation);
        let times = seen.map(|seen| (seen.started == 0, seen.extended == 0, seen.heard == 0));
        Kind::of((claimed == 0, stage as u32, panic.is_some(), taken.is_some(), again.is_some(), over, times))
    });
    assert!(tried.kinds > 8, "{tried:?}");
}
