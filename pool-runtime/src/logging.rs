//! Where events are logged: on a thread of its own. A `tracing` subscriber is the user's code, which may wait for a lock
//! of the user's, or panic. No thread of a pool calls it, so none waits for it, and none ends by it.
//!
//! ```text
//!   any thread of the library ── log ──▶ queue ──▶ pool-log ──▶ subscriber
//!                                          ▲
//!   join, drop of a pool ───── flush ──────┘ waits until what was logged before has arrived, for a second at most
//! ```
//!
//! The thread is started with the first event that may be enabled, and stays: there is one for a program. It keeps the
//! order of what it is given. Beyond [`MOST_WAITING`] events, more are left out, and counted.

use crate::locks::{lock, sleep_on};
use crate::targets::POOL;
use crate::{os, panic};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Level, dispatcher};

/// So many events wait for a slow subscriber.
const MOST_WAITING: usize = 1 << 12;
/// A subscriber that blocks delays the end of a pool by no more than this.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// The subscriber of the thread that made something, which its events go to; without one, that of the program.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSubscriber(Option<Dispatch>);

impl LogSubscriber {
    pub(crate) fn of_this_thread() -> Self {
        Self(dispatcher::get_default(|its| Some(its.clone()).filter(|its| !its.is::<NoSubscriber>())))
    }

    pub(crate) fn is_any(&self) -> bool {
        self.0.is_some()
    }

    /// Logs an event if its level may be enabled. `own` makes what is called on the thread for events: it owns what it
    /// prints. No user code runs here, so locks may be held.
    #[inline]
    pub(crate) fn log<E: FnOnce() + Send + 'static>(&self, level: Level, own: impl FnOnce() -> E) {
        if is_enabled(level) {
            hand_over(QueuedEvent { subscriber: self.clone(), log: Box::new(own()) });
        }
    }

    fn call(self, log: impl FnOnce()) {
        // A panic is the subscriber's own matter.
        let _ = panic::catch(move || match &self.0 {
            Some(subscriber) => dispatcher::with_default(subscriber, log),
            None => log(),
        });
    }
}

/// Logs on this thread, which is the user's: the subscriber is that of the thread.
pub(crate) fn log_here(level: Level, log: impl FnOnce()) {
    if is_enabled(level) {
        LogSubscriber::default().call(log);
    }
}

/// Whether any subscriber or logger may want events of this level. It asks none.
#[inline]
fn is_enabled(level: Level) -> bool {
    let as_log = match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    };
    level <= LevelFilter::current() || as_log <= log::max_level()
}

struct QueuedEvent {
    subscriber: LogSubscriber,
    log: Box<dyn FnOnce() + Send>,
}

struct LogQueue {
    events: VecDeque<QueuedEvent>,
    /// How many events were queued, and how many of them were logged.
    queued: u64,
    logged: u64,
    /// How many were left out since the last one that was queued.
    left_out: u64,
    /// The thread exists, and its id once it runs.
    runs: bool,
    thread: Option<ThreadId>,
    /// The process whose this is: a forked child has no such thread.
    pid: u32,
}

impl LogQueue {
    const fn of(pid: u32) -> Self {
        Self { events: VecDeque::new(), queued: 0, logged: 0, left_out: 0, runs: false, thread: None, pid }
    }
}

/// While it is locked, nothing else is locked, and nothing of the user's is called or dropped.
static QUEUE: Mutex<LogQueue> = Mutex::new(LogQueue::of(0));
static QUEUED: Condvar = Condvar::new();
static LOGGED: Condvar = Condvar::new();

/// The queue of this process.
fn queue() -> MutexGuard<'static, LogQueue> {
    let (mut queue, pid) = (lock(&QUEUE), os::current_pid());
    if queue.pid != pid {
        // What waits there is logged by the process that was forked.
        std::mem::forget(std::mem::replace(&mut *queue, LogQueue::of(pid)));
    }
    queue
}

#[cold]
fn hand_over(event: QueuedEvent) {
    let mut queue = queue();
    if queue.events.len() >= MOST_WAITING {
        queue.left_out += 1;
        // The event is dropped after this guard.
        return;
    }
    queue.events.push_back(event);
    queue.queued += 1;
    if queue.runs {
        QUEUED.notify_one();
    } else {
        // Without a thread, the next event tries again.
        queue.runs = os::spawn_thread("pool-log", None, log_all).is_ok();
    }
}

fn log_all() {
    os::block_all_signals();
    let mut queue = queue();
    queue.thread = Some(thread::current().id());
    loop {
        let left_out = std::mem::take(&mut queue.left_out);
        let Some(QueuedEvent { subscriber, log }) = queue.events.pop_front() else {
            queue.left_out = left_out;
            queue = sleep_on(&QUEUED, queue, None).unwrap_or_else(|| lock(&QUEUE));
            continue;
        };
        drop(queue);
        if left_out > 0 {
            subscriber.clone().call(|| {
                tracing::warn!(target: POOL, left_out, "events were left out, as they came faster than they were logged");
            });
        }
        subscriber.call(log);
        queue = lock(&QUEUE);
        queue.logged += 1;
        LOGGED.notify_all();
    }
}

/// Waits until all that was logged before has reached the subscriber: for a short time, and at most until `deadline`. A
/// program that ends then has its last lines.
pub(crate) fn flush(deadline: Option<Instant>) {
    let longest = Instant::now() + LONGEST_FLUSH;
    let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
    let mut queue = queue();
    // A subscriber may drop a pool.
    if !queue.runs || queue.thread == Some(thread::current().id()) {
        return;
    }
    let queued = queue.queued;
    while queue.logged < queued {
        let Some(awake) = sleep_on(&LOGGED, queue, Some(deadline)) else { return };
        queue = awake;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    /// Passes on the number in each event. It waits for leave before the first, and panics at those that say so.
    struct Numbers {
        numbers: Sender<(String, u64)>,
        leave: Mutex<Option<Receiver<()>>>,
    }

    struct Number(Option<(String, u64)>);

    impl Visit for Number {
        fn record_u64(&mut self, field: &Field, value: u64) {
            self.0 = Some((field.name().to_owned(), value));
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }

    impl Subscriber for Numbers {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            let leave = lock(&self.leave).take();
            leave.inspect(|leave| leave.recv().unwrap());
            let mut number = Number(None);
            event.record(&mut number);
            let Some((name, value)) = number.0 else { return };
            assert_ne!(name, "panics");
            let _ = self.numbers.send((name, value));
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn events_keep_their_order_and_those_beyond_the_bound_are_counted() {
        let (numbers, logged) = channel();
        let (let_go, leave) = channel();
        let subscriber = Dispatch::new(Numbers { numbers, leave: Mutex::new(Some(leave)) });
        let subscriber = dispatcher::with_default(&subscriber, LogSubscriber::of_this_thread);
        assert!(subscriber.is_any());
        subscriber.log(Level::WARN, || || tracing::warn!(panics = 0_u64));
        let all = 2 * MOST_WAITING as u64;
        for number in 0..all {
            subscriber.log(Level::WARN, || move || tracing::warn!(number));
        }
        flush(Some(Instant::now()));
        let_go.send(()).unwrap();
        let (mut logged_numbers, mut next, mut left_out) = (0, 0, 0);
        // Other tests may log meanwhile.
        while left_out == 0 || logged_numbers < all - left_out {
            match logged.recv().unwrap() {
                (name, number) if name == "number" => {
                    assert!(number >= next, "{number} comes after {next}");
                    (logged_numbers, next) = (logged_numbers + 1, number + 1);
                }
                (name, number) if name == "left_out" => left_out += number,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            left_out >= all - MOST_WAITING as u64 - 1,
            "{logged_numbers} of {all} were logged, {left_out} left out"
        );
    }
}
