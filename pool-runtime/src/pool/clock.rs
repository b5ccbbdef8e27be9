//! The clock of a pool: a thread that exists only once there is a time to wait for, and sleeps until the next one.

use crate::{
    os,
    pool::{dispatcher::Dispatcher, shared::Shared},
    sync::lock,
};
use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

impl Shared {
    /// Wakes the clock for an earlier tick; makes it, the first time. If that fails, it is tried again with the next
    /// event.
    pub(super) fn wind_clock(&self) -> bool {
        if self.has_clock.swap(true, Ordering::Relaxed) {
            self.clock.notify_all();
            return true;
        }
        let Some(shared) = self.itself.upgrade() else { return false };
        let made = std::thread::Builder::new().name("pool-clock".into()).stack_size(1 << 18).spawn(move || {
            os::block_all_signals();
            shared.guard("keeps the time", || shared.keep_time());
        });
        self.has_clock.store(made.is_ok(), Ordering::Relaxed);
        made.is_ok()
    }

    fn keep_time(&self) {
        loop {
            let mut core = lock(&self.core);
            loop {
                if core.dispatcher.is_finished() {
                    return;
                }
                let now = self.now();
                core.clock_at = core.dispatcher.next_tick();
                core = match core.clock_at {
                    Some(at) if at <= now => break,
                    Some(at) => {
                        let left = Duration::from_nanos(at - now);
                        self.clock.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.clock.wait(core).unwrap_or_else(PoisonError::into_inner),
                };
            }
            drop(core);
            self.tell(Dispatcher::tick);
        }
    }
}
