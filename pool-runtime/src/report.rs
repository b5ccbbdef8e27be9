//! An error that travels: what an error of any type said, where it was raised, and why.
//!
//! Few error types can be serialized, so what a task returns of one is a [`Report`]: its messages, and those of its
//! causes. This file is what a report is; `error/raised.rs` is how errors become one. Where a task returns a boxed error,
//! such as `anyhow::Error`, the worker sends a report of it, and the caller gets an error of the same type with that
//! report inside; `error/io_error.rs` does so for `io::Error`.
//!
//! A `Report` is an error itself, and there is an `impl From<E> for Report` for every error `E`. The two overlap with the
//! standard library's `impl From<T> for T`, unless the compiler can tell that `Report` is none of those `E`. It can: they
//! are `Unpin`, as all errors are, and `Report` is not.
//!
//! What comes from another process is printed through [`foreign`], and is never longer than what this process would have
//! sent.

use crate::foreign;
use crate::panic::{MARK, cut, kept};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// The most messages of one report. An error may be its own cause, so that there is no end of them.
pub(crate) const MOST_MESSAGES: usize = 64;
/// The longest message, in bytes. With the mark where it was cut off, it is shown as a whole.
pub(crate) const LONGEST_MESSAGE: usize = foreign::LONGEST - MARK;
/// The longest backtrace, in bytes.
pub(crate) const LONGEST_BACKTRACE: usize = 1 << 18;

/// An error of any type, in a form that travels between processes.
///
/// A task that returns `Result<T, Report>` can use `?` on any error type, as with `anyhow::Error`; for an `anyhow::Error`,
/// boxed errors and texts, it uses `.map_err(Report::new)`. The caller gets the messages of the error and of its causes,
/// the name of its type, and the place of the `?`. There, `Report` is an error like others: it has a
/// [`source`](std::error::Error::source), and `?` converts it into `anyhow::Error`, `Box<dyn Error>` or
/// [`pool_runtime::Error`](crate::Error).
///
/// ```
/// use pool_runtime::{Pool, Report, enter, task};
/// use std::path::Path;
///
/// #[task]
/// fn total(file: &Path) -> Result<u32, Report> {
///     let mut total = 0;
///     for line in std::fs::read_to_string(file)?.lines() {
///         total += line.parse::<u32>()?;
///     }
///     Ok(total)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     enter();
///     let pool = Pool::new(1)?;
///     let report = pool.apply(total::call(Path::new("/no/such/file")))?.unwrap_err();
///     assert_eq!(report.to_string(), "No such file or directory (os error 2)");
///     assert_eq!(report.type_name(), Some("std::io::error::Error"));
///     assert!(report.line().is_some());
///     Ok(())
/// }
/// ```
///
/// A task need not use it. It may as well return `anyhow::Result<T>`, `eyre::Result<T>`, `Result<T, Box<dyn Error>>` (also
/// with `Send` and `Sync`), [`std::io::Result<T>`] or [`pool_runtime::Result<T>`](crate::Result). The caller then gets an
/// error of the same type. Inside of one that is boxed is a `Report`, which `downcast_ref::<Report>()` finds. An
/// [`io::Error`](std::io::Error) keeps its kind and the OS error number.
///
/// An `anyhow::Error` that the caller gets is made in the caller, so a backtrace that its `{:?}` prints is the caller's.
/// The task's is in the `Report` inside, and in what that prints with `{:?}`.
///
/// An error that has a `Report` among its causes, such as one of `anyhow` that was given a context, becomes a report with
/// the place, the type's name and the backtrace of that one.
///
/// # Formats
///
/// `{}` is the message of the error itself. `{:#}` adds those of its causes, with `: ` between them. `{:?}`, which a `main`
/// that returns the error prints, is for people: messages, place and backtrace on lines of their own. All are safe for
/// terminals and logs: control characters are escaped (`\x1b`), except for ends of lines and tabs.
/// [`messages`](Self::messages) has the texts as the task wrote them.
///
/// # Limits
///
/// At most 64 messages, of nearly 16 KiB each, and 256 KiB of a backtrace are kept. What is cut off is marked.
///
/// `Report` is not `Unpin`, which is how `?` can tell it from the errors that it converts. A future that has one in hand
/// has to be pinned, as most have anyway. An error type that is not `Unpin` either, as it has a `Report` in a field, is
/// converted by `Report::new`, or by `?` once that field is a `Box<Report>`.
pub struct Report(Box<ReportContents>);

#[derive(Clone)]
pub(crate) struct ReportContents {
    pub(crate) error: Cause,
    pub(crate) type_name: Option<Cow<'static, str>>,
    /// File, line and column.
    pub(crate) place: Option<(Cow<'static, str>, u32, u32)>,
    pub(crate) backtrace: Option<Arc<ReportBacktrace>>,
}

/// A backtrace, whose text is made for whoever asks first: to look up its names takes milliseconds, and most reports
/// never show it.
pub(crate) struct ReportBacktrace {
    /// None: it came as a text.
    captured: Option<Backtrace>,
    text: OnceLock<String>,
}

/// A message, and what caused the error that it is of.
#[derive(Clone)]
pub(crate) struct Cause {
    pub(crate) message: String,
    source: Option<Box<Cause>>,
}

/// A report as it is sent.
#[derive(Serialize, Deserialize)]
struct TravellingReport<'r> {
    messages: Vec<Cow<'r, str>>,
    type_name: Option<Cow<'r, str>>,
    place: Option<(Cow<'r, str>, u32, u32)>,
    backtrace: Option<Cow<'r, str>>,
}

/// What is never implemented.
trait NeverImplemented {}

/// Hides from the compiler that a bound never holds, as it depends on a lifetime.
struct WithLifetime<'a>(PhantomData<&'a ()>);

// Without this, the compiler would make it `Unpin`: see the head of this file.
impl<'a> Unpin for Report where WithLifetime<'a>: NeverImplemented {}

impl Report {
    pub(crate) fn from_contents(contents: ReportContents) -> Self {
        Self(Box::new(contents))
    }

    pub(crate) fn contents(&self) -> &ReportContents {
        &self.0
    }

    /// The messages of the error and of its causes, the outermost first. As the task wrote them, which may include what a
    /// terminal obeys: print the `Report` instead where the task is not trusted.
    ///
    /// ```
    /// # use pool_runtime::Report;
    /// let report = Report::new("no room");
    /// assert_eq!(report.messages().collect::<Vec<_>>(), ["no room"]);
    /// ```
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.0.error.chain().map(|cause| cause.message.as_str())
    }

    /// The name of the type of the error that `?` converted, as [`std::any::type_name`] has it: for people, not to be
    /// compared. `None` for what [`Report::new`] makes, as it may be given a text or a boxed error, and for boxed errors
    /// that a task returns.
    pub fn type_name(&self) -> Option<&str> {
        self.0.type_name.as_deref()
    }

    /// The source file in which the error became a report, as the compiler knows it. `None` for boxed errors that a task
    /// returns.
    pub fn file(&self) -> Option<&str> {
        self.0.place.as_ref().map(|(file, ..)| &**file)
    }

    /// The line in [`file`](Self::file), from 1.
    pub fn line(&self) -> Option<u32> {
        self.0.place.as_ref().map(|(_, line, _)| *line)
    }

    /// The column in the line, from 1.
    pub fn column(&self) -> Option<u32> {
        self.0.place.as_ref().map(|(.., column)| *column)
    }

    /// The backtrace of that place, if `RUST_BACKTRACE=1` or `RUST_LIB_BACKTRACE=1` is in the worker's environment. For an
    /// `anyhow::Error` that a task returns, the one that it has; for one that [`Report::new`] is given, that of the call.
    /// In the process that made the report, the first look-up is slow.
    pub fn backtrace(&self) -> Option<&str> {
        self.0.backtrace.as_ref().map(|backtrace| backtrace.text())
    }
}

impl ReportBacktrace {
    /// That of this place, if the environment asks for it.
    pub(crate) fn captured() -> Option<Self> {
        let backtrace = Backtrace::capture();
        let is_wanted = backtrace.status() == BacktraceStatus::Captured;
        is_wanted.then(|| Self { captured: Some(backtrace), text: OnceLock::new() })
    }

    pub(crate) fn from_text(text: Cow<'_, str>) -> Self {
        Self { captured: None, text: kept(text, LONGEST_BACKTRACE).into() }
    }

    fn text(&self) -> &str {
        let text =
            || self.captured.as_ref().map_or_else(String::new, |found| cut(&found.to_string(), LONGEST_BACKTRACE));
        self.text.get_or_init(text)
    }
}

impl Cause {
    /// Some messages, the outermost first. Further ones than are kept of an error are left out.
    pub(crate) fn from_messages(mut messages: Vec<String>) -> Self {
        let mut inner = None;
        messages.truncate(MOST_MESSAGES);
        for message in messages.into_iter().map(|message| kept(message.into(), LONGEST_MESSAGE)).rev() {
            inner = Some(Self { message, source: inner.map(Box::new) });
        }
        inner.unwrap_or(Self { message: String::new(), source: None })
    }

    /// This one and those behind it.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |cause| cause.source.as_deref())
    }
}

impl Clone for Report {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ReportContents { type_name, place, backtrace, .. } = &*self.0;
        let travelling = TravellingReport {
            messages: self.messages().map(Cow::from).collect(),
            type_name: type_name.as_deref().map(Cow::from),
            place: place.as_ref().map(|(file, line, column)| (Cow::from(&**file), *line, *column)),
            backtrace: backtrace.as_ref().map(|backtrace| backtrace.text().into()),
        };
        travelling.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let TravellingReport { messages, type_name, place, backtrace } = Deserialize::deserialize(deserializer)?;
        Ok(Self::from_contents(ReportContents {
            error: Cause::from_messages(messages.into_iter().map(Cow::into_owned).collect()),
            type_name: type_name.map(|name| kept(name, LONGEST_MESSAGE).into()),
            place: place.map(|(file, line, column)| (kept(file, LONGEST_MESSAGE).into(), line, column)),
            backtrace: backtrace.map(|backtrace| ReportBacktrace::from_text(backtrace).into()),
        }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.error, f)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReportContents { error, type_name, place, .. } = &*self.0;
        write!(f, "{error}")?;
        let causes: Vec<_> = error.chain().skip(1).collect();
        if !causes.is_empty() {
            f.write_str("\n\nCaused by:")?;
        }
        for (number, cause) in causes.iter().enumerate() {
            f.write_str("\n    ")?;
            if causes.len() > 1 {
                write!(f, "{number}: ")?;
            }
            f.write_str(&cause.to_string().replace('\n', "\n    "))?;
        }
        if let Some((file, line, column)) = place {
            write!(f, "\n\nLocation:\n    {}:{line}:{column}", foreign::line(&**file))?;
            if let Some(name) = type_name {
                write!(f, " ({})", foreign::line(&**name))?;
            }
        }
        match self.backtrace() {
            Some(backtrace) => write!(f, "\n\nStack backtrace:\n{}", foreign::stream(backtrace.trim_end().as_bytes())),
            None => Ok(()),
        }
    }
}

impl Error for Report {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error.source()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        foreign::block(&self.message).fmt(f)?;
        if f.alternate() {
            self.chain().skip(1).try_for_each(|cause| write!(f, ": {}", foreign::block(&cause.message)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests;
