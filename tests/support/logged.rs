//! What the library logs, as a subscriber sees it. There is one for a process, so a test with it is a program of its own.

use super::PATIENCE;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError, mpsc::Sender},
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

/// How the subscriber misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Misbehaves {
    /// It panics at each event.
    Panics,
    /// It does not return from an event.
    Blocks,
}

static MISBEHAVES: (Mutex<Option<Misbehaves>>, Condvar) = (Mutex::new(None), Condvar::new());

/// While it exists, the subscriber misbehaves.
pub struct Misbehaving(());

impl Misbehaving {
    pub fn so(how: Misbehaves) -> Self {
        *MISBEHAVES.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
        Self(())
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        *MISBEHAVES.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        MISBEHAVES.1.notify_all();
    }
}

fn misbehave() {
    let mut how = MISBEHAVES.0.lock().unwrap_or_else(PoisonError::into_inner);
    while *how == Some(Misbehaves::Blocks) {
        how = MISBEHAVES.1.wait(how).unwrap_or_else(PoisonError::into_inner);
    }
    let panics = *how == Some(Misbehaves::Panics);
    drop(how);
    assert!(!panics, "the subscriber panics");
}

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

/// Keeps what is logged.
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

impl Logged {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        Self { level, target, fields: fields.0 }
    }
}

/// Passes on what is logged.
pub struct Forwarder(pub Sender<Logged>);

macro_rules! subscribes {
    ($subscriber:ty, |$itself:ident, $event:ident| $keep:block) => {
        impl Subscriber for $subscriber {
            fn enabled(&self, metadata: &Metadata<'_>) -> bool {
                metadata.target().starts_with("pool_runtime::")
            }

            fn event(&self, event: &Event<'_>) {
                let ($itself, $event) = (self, Logged::of(event));
                $keep
            }

            fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
                span::Id::from_u64(1)
            }

            fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

            fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

            fn enter(&self, _: &span::Id) {}

            fn exit(&self, _: &span::Id) {}
        }
    };
}

subscribes!(Recorder, |_itself, event| {
    log().push(event);
    LOG.1.notify_all();
    misbehave();
});

subscribes!(Forwarder, |itself, event| {
    let _ = itself.0.send(event);
});
