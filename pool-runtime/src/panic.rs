//! Panics as values: message, location and backtrace.

use crate::codec::{Reader, Writer};
use crate::foreign;
use crate::locks::lock;
use crate::os::End;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The message, location and backtrace of a panic in a task.
///
/// It prints in a form that is safe for terminals and logs: control characters are escaped (`\x1b`), except for ends of
/// lines and tabs, and a message of more than 16 KiB is cut off. The methods return the texts as the worker sent them.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// #[task]
/// fn half(n: u32) -> u32 {
///     assert!(n % 2 == 0, "{n} is odd");
///     n / 2
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(1)?;
///     let error = pool.apply(half::call(3)).unwrap_err();
///     let panic = error.panic().unwrap();
///     assert_eq!(panic.message(), "3 is odd");
///     assert!(panic.line().is_some());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicInfo {
    message: String,
    location: Option<(String, u32, u32)>,
    backtrace: Option<String>,
}

/// The beginning of a text, of at most `most` bytes, and how much is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    if end == text.len() { text.to_owned() } else { format!("{} [… {} bytes more]", &text[..end], text.len() - end) }
}

/// Room for what [`cut`] says of the rest, and whatever else marks that a text was cut off.
pub(crate) const MARK: usize = 64;

/// A text of another process, which may have cut it off and left a mark: that is not cut off a second time.
pub(crate) fn kept(text: Cow<'_, str>, most: usize) -> String {
    if text.len() <= most + MARK { text.into_owned() } else { cut(&text, most) }
}

impl PanicInfo {
    /// The message; `Box<dyn Any>` if the payload is not a string. As the task wrote it, which may include what a
    /// terminal obeys: print the whole `PanicInfo` instead where the task is not trusted.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The source file, as the compiler knows it.
    pub fn file(&self) -> Option<&str> {
        self.location.as_ref().map(|(file, ..)| file.as_str())
    }

    /// The line in [`file`](Self::file), from 1.
    pub fn line(&self) -> Option<u32> {
        self.location.as_ref().map(|(_, line, _)| *line)
    }

    /// The column in the line, from 1.
    pub fn column(&self) -> Option<u32> {
        self.location.as_ref().map(|(.., column)| *column)
    }

    /// The backtrace, if `RUST_BACKTRACE=1` is in the environment.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }

    pub(crate) fn from_message(message: String) -> Self {
        Self { message, location: None, backtrace: None }
    }

    pub(crate) fn from_hook(hook: &PanicHookInfo<'_>) -> Self {
        let backtrace = std::backtrace::Backtrace::capture();
        Self {
            message: payload_text(hook.payload()).to_owned(),
            location: hook.location().map(|place| (place.file().to_owned(), place.line(), place.column())),
            backtrace: matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured)
                .then(|| backtrace.to_string()),
        }
    }

    /// With texts of at most `most` bytes.
    pub(crate) fn shortened(&self, most: usize) -> Self {
        Self {
            message: cut(&self.message, most),
            location: self.location.as_ref().map(|(file, line, column)| (cut(file, most), *line, *column)),
            backtrace: self.backtrace.as_ref().map(|backtrace| cut(backtrace, most)),
        }
    }

    /// One of another process, with texts of at most `most` bytes and a mark.
    pub(crate) fn kept(self, most: usize) -> Self {
        Self {
            message: kept(self.message.into(), most),
            location: self.location.map(|(file, line, column)| (kept(file.into(), most), line, column)),
            backtrace: self.backtrace.map(|backtrace| kept(backtrace.into(), most)),
        }
    }

    /// Encodes it for the parent to read after this process has died; without the backtrace if that does not fit.
    pub(crate) fn last_words(&self, room: usize) -> Vec<u8> {
        let encoded = |info: &Self| {
            let mut writer = Writer::new();
            writer.value(info).map_or_else(|_| Vec::new(), |()| writer.into_bytes())
        };
        let whole = encoded(self);
        if whole.len() <= room {
            return whole;
        }
        let end = self.message.floor_char_boundary(room / 2);
        encoded(&Self { message: self.message[..end].to_owned(), backtrace: None, ..self.clone() })
    }

    /// What is told of this panic if the process does not survive it, called by the hook for each panic of a thread. One
    /// that comes of others has only a text of the standard library's: theirs are told.
    ///
    /// Those of another `call` do not count: a task may have caught them itself.
    pub(crate) fn with_those_before(&self, call: u32) -> Self {
        let newest = Self { backtrace: None, ..self.clone() };
        let before = BEFORE.try_with(|before| {
            let mut before = before.try_borrow_mut().ok()?;
            let (of, [first, latest]) = std::mem::take(&mut *before);
            let (first, latest) = if of == call { (first, latest) } else { (None, None) };
            *before = (call, [latest.clone(), Some(newest)]);
            Some((first, latest?))
        });
        let Some((first, latest)) = before.ok().flatten() else { return self.clone() };
        match (&*self.message, first) {
            (IN_CLEANUP, Some(first)) => {
                let message = format!(
                    "{}; while that unwound, a destructor panicked {}",
                    cut(&first.message, MOST_OF_FIRST),
                    OwnPanic(&latest)
                );
                Self { message, backtrace: self.backtrace.clone(), ..first }
            }
            (NO_UNWIND, _) => {
                let message = format!("{}; that was in a function that cannot unwind", latest.message);
                Self { message, backtrace: self.backtrace.clone(), ..latest }
            }
            _ => self.clone(),
        }
    }

    /// The panic of which a process died: one that cannot be caught ends in an abort.
    pub(crate) fn from_last_words(words: &[u8], end: Option<End>) -> Option<Self> {
        (end == Some(End::ABORTED) && !words.is_empty()).then(|| Reader::new(words).value().ok())?
    }
}

/// A panic of this process, as it prints it itself: nothing is escaped or cut off.
pub(crate) struct OwnPanic<'p>(pub(crate) &'p PanicInfo);

impl fmt::Display for OwnPanic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = &self.0.location {
            write!(f, "at {file}:{line}:{column}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = &self.location {
            write!(f, "at {}:{line}:{column}: ", foreign::line(file))?;
        }
        foreign::block(&self.message).fmt(f)
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("Box<dyn Any>")
}

/// How the standard library ends a process in which a destructor panics while a panic unwinds, and one in which a panic
/// would leave a function that cannot unwind, such as `extern "C"`. It panics once more, with these texts.
const IN_CLEANUP: &str = "panic in a destructor during cleanup";
const NO_UNWIND: &str = "panic in a function that cannot unwind";

/// So much of the first message leaves room for the second.
const MOST_OF_FIRST: usize = 512;

thread_local! {
    /// The call in which the thread has panicked, and its panics before the present one, the latest last, until one is
    /// caught here.
    static BEFORE: RefCell<(u32, [Option<PanicInfo>; 2])> = const { RefCell::new((0, [None, None])) };
    static LATEST: RefCell<Option<PanicInfo>> = const { RefCell::new(None) };
    /// How many [`Quiet`] exist on this thread.
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// While one exists, panics on this thread are remembered for [`catch`] and not printed, as in a worker process.
pub(crate) struct Quiet(PhantomData<*const ()>);

impl Quiet {
    pub(crate) fn new() -> Self {
        chain_hook();
        QUIET.set(QUIET.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(QUIET.get() - 1);
    }
}

/// Puts a hook before the program's that takes the panics of quiet threads and leaves the others to it. A hook that the
/// program sets later prints all.
fn chain_hook() {
    static CHAINED: AtomicBool = AtomicBool::new(false);
    // A thread that panics cannot change hooks.
    if std::thread::panicking() || CHAINED.swap(true, Ordering::AcqRel) {
        return;
    }
    let record = |hook: &PanicHookInfo<'_>, _| {
        let is_quiet = QUIET.try_with(Cell::get).is_ok_and(|quiet| quiet > 0);
        if is_quiet {
            remember(PanicInfo::from_hook(hook));
        }
        is_quiet
    };
    RecordingHook { record: Arc::new(record), behind: Some(std::panic::take_hook()), replaced: false }.set();
}

/// Makes `record` see every panic of this process first. It is told whether a later hook of the user's prints it.
pub(crate) fn set_hook(record: impl Fn(&PanicHookInfo<'_>, bool) + Send + Sync + 'static) {
    let record = move |hook: &PanicHookInfo<'_>, replaced| {
        record(hook, replaced);
        true
    };
    RecordingHook { record: Arc::new(record), behind: None, replaced: false }.set();
}

/// Is given a panic, and whether the hook behind will get it in any case. Returns whether that need not.
type PanicRecord = dyn Fn(&PanicHookInfo<'_>, bool) -> bool + Send + Sync;
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// A hook that cannot be replaced, only put behind: the place of a panic is known to hooks alone. What replaces it, as
/// error reporters do, drops it, and in that moment it is set again, in front of its successor. A hook that calls this one
/// keeps it.
struct RecordingHook {
    record: Arc<PanicRecord>,
    behind: Option<Hook>,
    /// The hook behind has replaced this one once, so it gets all panics.
    replaced: bool,
}

/// Hooks that were dropped where none can be set, as the thread panics.
static HOMELESS: Mutex<Vec<Arc<PanicRecord>>> = Mutex::new(Vec::new());

impl RecordingHook {
    fn set(self) {
        std::panic::set_hook(Box::new(move |hook| {
            // The whole value moves into the closure, and is dropped with it.
            let itself = &self;
            let is_done = (itself.record)(hook, itself.replaced);
            if let Some(behind) = itself.behind.as_ref().filter(|_| itself.replaced || !is_done) {
                behind(hook);
            }
        }));
    }

    fn set_again(record: Arc<PanicRecord>) {
        Self { record, behind: Some(std::panic::take_hook()), replaced: true }.set();
    }
}

impl Drop for RecordingHook {
    fn drop(&mut self) {
        // The standard library drops a hook when it holds no lock any more.
        match std::thread::panicking() {
            false => Self::set_again(self.record.clone()),
            true => lock(&HOMELESS).push(self.record.clone()),
        }
    }
}

/// Sets again what could not be set while this thread panicked.
fn set_homeless() {
    let homeless = std::mem::take(&mut *lock(&HOMELESS));
    if !homeless.is_empty() && !std::thread::panicking() {
        homeless.into_iter().for_each(RecordingHook::set_again);
    }
}

/// Keeps a panic for [`catch`] on the same thread. Called by the panic hook.
pub(crate) fn remember(info: PanicInfo) {
    // A thread that is about to end may have nowhere to keep it.
    let _ = LATEST.try_with(|latest| latest.try_borrow_mut().map(|mut latest| *latest = Some(info)));
}

/// Runs user code. A panic becomes a value, even if dropping its payload panics again.
#[inline]
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, PanicInfo> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|payload| {
        let message = payload_text(&*payload).to_owned();
        let told = LATEST.try_with(RefCell::take).ok().flatten().filter(|info| info.message == message);
        let _ = BEFORE.try_with(RefCell::take);
        drop_quietly(payload);
        set_homeless();
        told.unwrap_or_else(|| PanicInfo::from_message(message))
    })
}

/// Drops a value of the user's, and ignores a panic in its destructor.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value))) {
        // Its destructor is user code, which may panic again, and so on without end.
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_those_of_its_own_call_before_it() {
        let panic = |text: &str| PanicInfo::from_message(text.to_owned());
        let told = |text: &str, call| panic(text).with_those_before(call).message;
        assert_eq!(told("caught by the task", 1), "caught by the task");
        // `resume_unwind` calls no hook, so the destructor's panic is the first one that is known.
        assert_eq!(told("of a destructor", 2), "of a destructor");
        assert_eq!(told(IN_CLEANUP, 2), IN_CLEANUP);
        assert_eq!(told("first", 3), "first");
        assert_eq!(told("second", 3), "second");
        let both = told(IN_CLEANUP, 3);
        assert!(both.starts_with("first; ") && both.ends_with("second"), "{both}");
        assert_eq!(told(NO_UNWIND, 4), NO_UNWIND);
    }
}
