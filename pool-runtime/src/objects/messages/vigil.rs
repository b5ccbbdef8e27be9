//! Waiting for the other side: without sleeping, where that pays.
//!
//! It never pays while the other side runs on the same processor: it cannot go on before this one sleeps. So whoever wakes
//! the other side notes on which processor it does that. Where two that talk often stay on one processor, as the scheduler
//! sees two that hardly run, one of them moves away.

use super::log::{MessageLog, PeerSide};
use crate::os;
use crate::transport::ring::{Spin, Talk};
use std::cell::RefCell;
use std::time::Instant;

thread_local! {
    /// What this thread has learned about waiting.
    static LEARNED: RefCell<(Spin, Talk)> = const { RefCell::new((Spin::new(), Talk::new())) };
}

/// Waits until there is a `hint` that it may go on, or else sleeps: `sleep` returns whether it may.
pub(in crate::objects) fn watch(
    log: &MessageLog,
    other: PeerSide,
    hint: impl FnMut() -> bool,
    sleep: impl FnOnce() -> bool,
) -> bool {
    let is_beside = || log.is_beside(other);
    let spun = LEARNED.try_with(|learned| learned.borrow_mut().0.wait_unless(is_beside, hint));
    if spun.unwrap_or(false) {
        return true;
    }
    let began = Instant::now();
    let may_go_on = sleep();
    let slept = began.elapsed();
    let is_to_move = LEARNED.try_with(|learned| {
        let (spin, talk) = &mut *learned.borrow_mut();
        spin.slept(slept);
        talk.is_to_move(is_beside(), slept)
    });
    if is_to_move.unwrap_or(false) {
        os::leave_cpu(os::current_cpu());
    }
    may_go_on
}
