//! What the library logs, as a subscriber sees it. There is one for a process, so a test with it is a program of its own.

use super::PATIENCE;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
    time::Instant,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// One event of the library.
#[derive(Clone, Debug)]
pub struct Logged {
    pub level: Level,
    pub target: &'static str,
    /// As text; `message` is one of them.
    pub fields: BTreeMap<&'static str, String>,
}

impl Logged {
    /// The text of a field, empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub fn is(&self, level: Level, target: &str) -> bool {
        (self.level, self.target) == (level, target)
    }
}

static LOG: (Mutex<Vec<Logged>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

fn log() -> MutexGuard<'static, Vec<Logged>> {
    LOG.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on, what the library logs in this process is kept. What was logged before is forgotten.
pub fn log_anew() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Recorder).expect("the only subscriber"));
    log().clear();
}

/// What was logged so far.
pub fn logged() -> Vec<Logged> {
    log().clone()
}

/// Waits until so many events of a kind were logged, and returns them.
#[track_caller]
pub fn await_logged(what: &str, count: usize, is: impl Fn(&Logged) -> bool) -> Vec<Logged> {
    let deadline = Instant::now() + PATIENCE;
    let mut log = log();
    loop {
        let found: Vec<_> = log.iter().filter(|event| is(event)).cloned().collect();
        if found.len() >= count {
            return found;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not logged: {what}; but {log:#?}");
        log = LOG.1.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

struct Recorder;

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pool_runtime::")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        log().push(Logged { level, target, fields: fields.0 });
        LOG.1.notify_all();
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
