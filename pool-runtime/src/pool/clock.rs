//! The clock of a pool: a thread that sleeps until the dispatcher's next tick. It is started with the first one, but
//! neither started nor woken for a mere look at a call for which a caller waits: nearly always, that is over before the look
//! is due, and until then the caller keeps the time. Where the system refuses the thread, the collector keeps the time
//! until it gives one.

use crate::locks::{lock, sleep_on};
use crate::os;
use crate::pool::dispatcher::{Dispatcher, Time};
use crate::pool::{Core, Inner};
use crate::transport::ring::COLLECTOR;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

impl Core {
    /// Does the clock wake by itself when that is due?
    #[inline]
    fn is_clock_set_for(&self, tick: Time) -> bool {
        self.clock_at.is_some_and(|at| at <= tick)
    }
}

impl Inner {
    /// Has the clock sleep no longer than until the dispatcher's next tick, unless a leader keeps the time.
    #[inline]
    pub(super) fn set_clock(&self, core: &mut Core, now: Time) {
        let Some(tick) = core.dispatcher.next_tick().filter(|tick| !core.is_clock_set_for(*tick)) else { return };
        let is_kept = match core.led_until {
            Some(until) => until <= tick,
            None => tick > now && core.listening.is_led_awake(),
        };
        if !is_kept || core.dispatcher.has_limits_to_keep() {
            self.wind_clock(core, tick);
        }
    }

    /// A leader is about to sleep: how long it may, if it keeps the time itself until the next tick is due. Then the clock
    /// does, and as soon as a call has a limit.
    pub(super) fn until_tick(&self, core: &mut Core) -> Option<Duration> {
        let tick = core.dispatcher.next_tick().filter(|tick| !core.is_clock_set_for(*tick))?;
        let left = tick.saturating_sub(self.now());
        if left == 0 || core.dispatcher.has_limits_to_keep() {
            self.wind_clock(core, tick);
            return None;
        }
        core.led_until = Some(tick);
        Some(Duration::from_nanos(left))
    }

    /// A leader leads no more: what it has kept is left to the clock.
    pub(super) fn leave_to_clock(&self, core: &mut Core) {
        if let Some(tick) = core.dispatcher.next_tick().filter(|tick| !core.is_clock_set_for(*tick)) {
            self.wind_clock(core, tick);
        }
    }

    /// Wakes the clock for an earlier tick, or starts it. If it cannot be started, the next event tries again.
    #[cold]
    fn wind_clock(&self, core: &mut Core, tick: Time) {
        if core.has_clock {
            self.clock.notify_all();
        } else if let Some(inner) = self.itself.upgrade() {
            let thread = os::spawn_thread("pool-clock", Some(1 << 18), move || {
                os::block_all_signals();
                inner.guard("keeps the time", 0..inner.seats, || inner.keep_time());
            });
            core.has_clock = thread.is_ok();
            core.clock = thread.ok();
        }
        core.clock_at = Some(tick).filter(|_| core.has_clock);
        if let (None, Some(listener)) = (core.clock_at, &self.listener) {
            listener.bells.ring(COLLECTOR);
        }
    }

    /// Waits for the clock of a pool that is finished; with a deadline, only looks whether it has ended. It keeps what the
    /// pool shares with its workers until then.
    pub(super) fn join_clock(&self, deadline: Option<Instant>) -> bool {
        self.clock.notify_all();
        let mut core = lock(&self.core);
        let is_finished = core.dispatcher.is_finished();
        // What runs on the clock itself does not wait for it.
        let may_wait =
            |clock: &JoinHandle<()>| deadline.is_none() && is_finished && clock.thread().id() != thread::current().id();
        let clock = core.clock.take_if(|clock| clock.is_finished() || may_wait(clock));
        let is_over = deadline.is_none() || core.clock.is_none();
        drop(core);
        // It catches its panics.
        clock.into_iter().for_each(|clock| drop(clock.join()));
        is_over
    }

    fn keep_time(&self) {
        let mut core = lock(&self.core);
        while !core.dispatcher.is_finished() {
            let now = self.now();
            core.clock_at = core.dispatcher.next_tick();
            if core.clock_at.is_some_and(|at| at <= now) {
                drop(core);
                // A result that has come counts, though nobody has had the time to read it.
                self.catch_up();
                self.tell(Dispatcher::tick);
                core = lock(&self.core);
                continue;
            }
            let until = core.clock_at.and_then(|at| Instant::now().checked_add(Duration::from_nanos(at - now)));
            core = sleep_on(&self.clock, core, until).unwrap_or_else(|| lock(&self.core));
        }
    }
}
