//! The clock of a pool: a thread that exists only once there is a time to wait for, and sleeps until the next one.

use crate::os;
use crate::pool::dispatcher::Dispatcher;
use crate::pool::inner::{Core, Inner};
use crate::sync::{lock, sleep_on};
use std::time::{Duration, Instant};

impl Inner {
    /// Wakes the clock for an earlier tick; makes it, the first time. If that fails, it is tried again with the next
    /// event.
    pub(super) fn wind_clock(&self, core: &mut Core) -> bool {
        if core.has_clock {
            self.clock.notify_all();
            return true;
        }
        let Some(inner) = self.itself.upgrade() else { return false };
        let made = std::thread::Builder::new().name("pool-clock".into()).stack_size(1 << 18).spawn(move || {
            os::block_all_signals();
            inner.guard("keeps the time", 0..inner.seats, || inner.keep_time());
        });
        core.has_clock = made.is_ok();
        core.has_clock
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
                let until = match core.clock_at {
                    Some(at) if at <= now => break,
                    Some(at) => Instant::now().checked_add(Duration::from_nanos(at - now)),
                    None => None,
                };
                core = sleep_on(&self.clock, core, until).unwrap_or_else(|| lock(&self.core));
            }
            drop(core);
            self.tell(Dispatcher::tick);
        }
    }
}
