//! An error that travels: what an error of any type said, where it was raised, and why.
//!
//! Few error types can be serialized, so what a task returns of one is a [`Report`]: its messages, and those of its
//! causes. `?` makes one of any error. Where a task returns a boxed error, such as `anyhow::Error`, the worker sends a
//! report of it, and the caller gets an error of the same type with that report inside; [`io`] does so for `io::Error`.
//!
//! A `Report` is an error itself, and there is an `impl From<E> for Report` for every error `E`. The two overlap with the
//! standard library's `impl From<T> for T`, unless the compiler can tell that `Report` is none of those `E`. It can: they
//! are `Unpin`, as all errors are, and `Report` is not.
//!
//! What comes from another process is printed through [`foreign`], and is never longer than what this process would have
//! sent.

mod io;

use crate::codec::{ByValue, Coded, Reader, Writer};
use crate::foreign;
use crate::panic::cut;
pub(crate) use io::TravellingIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;

/// The most messages of one report. An error may be its own cause, so that there is no end of them.
const MOST_MESSAGES: usize = 64;
/// The longest message, in bytes: more would not be shown.
const LONGEST_MESSAGE: usize = 1 << 14;
/// The longest backtrace, in bytes.
const LONGEST_BACKTRACE: usize = 1 << 18;

/// An error of any type, in a form that travels between processes.
///
/// A task that returns `Result<T, Report>` can use `?` on any error, as with `anyhow::Error`. The caller gets the
/// messages of the error and of its causes, the name of its type, and the place of the `?`. There, `Report` is an error
/// like others: it has a [`source`](std::error::Error::source), and `?` converts it into `anyhow::Error`,
/// `Box<dyn Error>` or [`pool_runtime::Error`](crate::Error).
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
/// [`io::Error`](std::io::Error) keeps its kind and the system's number.
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
/// At most 64 messages, of at most 16 KiB each, and 256 KiB of a backtrace are kept. What is cut off is marked.
///
/// `Report` is not `Unpin`, which is how `?` can tell it from the errors that it converts. A future that has one in hand
/// has to be pinned, as most have anyway; `Report::new` converts errors that are not `Unpin` either.
pub struct Report(Box<ReportContents>);

#[derive(Clone)]
struct ReportContents {
    error: Cause,
    type_name: Option<Cow<'static, str>>,
    /// File, line and column.
    place: Option<(Cow<'static, str>, u32, u32)>,
    backtrace: Option<String>,
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

impl<E: Error + Send + Sync + Unpin + 'static> From<E> for Report {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::raised(&error, type_name::<E>())
    }
}

impl Report {
    /// A report of what `?` does not convert: a text, a boxed error, an `anyhow::Error`.
    ///
    /// ```
    /// # use pool_runtime::Report;
    /// fn even(n: u32) -> Result<u32, Report> {
    ///     if n % 2 == 0 { Ok(n) } else { Err(Report::new(format!("{n} is odd"))) }
    /// }
    ///
    /// assert_eq!(even(3).unwrap_err().to_string(), "3 is odd");
    /// ```
    #[track_caller]
    pub fn new<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        Self::raised(&*error.into(), type_name::<E>())
    }

    #[track_caller]
    fn raised(error: &(dyn Error + 'static), type_name: &'static str) -> Self {
        let place = Location::caller();
        Self::of(error, || ReportContents {
            error: Cause::of(error),
            type_name: Some(type_name.into()),
            place: Some((place.file().into(), place.line(), place.column())),
            backtrace: captured(),
        })
    }

    /// The report that this error is, or else a new one.
    fn of(error: &(dyn Error + 'static), make: impl FnOnce() -> ReportContents) -> Self {
        error.downcast_ref().map_or_else(|| Self(Box::new(make())), Self::clone)
    }

    /// A report of an error about which no more is known than what it says.
    pub(crate) fn of_said(error: &(dyn Error + 'static), backtrace: impl FnOnce() -> Option<String>) -> Self {
        Self::of(error, || ReportContents {
            error: Cause::of(error),
            type_name: None,
            place: None,
            backtrace: backtrace(),
        })
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

    /// The name of the error's type, as [`std::any::type_name`] has it: for people, not to be compared. `None` for errors
    /// whose type was forgotten before, such as the one in an `anyhow::Error`.
    pub fn type_name(&self) -> Option<&str> {
        self.0.type_name.as_deref()
    }

    /// The source file in which the error became a report, as the compiler knows it.
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
    /// `anyhow::Error`, the one that it has.
    pub fn backtrace(&self) -> Option<&str> {
        self.0.backtrace.as_deref()
    }
}

/// The backtrace of this place, if the environment asks for it.
fn captured() -> Option<String> {
    let backtrace = Backtrace::capture();
    (backtrace.status() == BacktraceStatus::Captured).then(|| cut(&backtrace.to_string(), LONGEST_BACKTRACE))
}

impl Cause {
    /// What an error says, and its causes.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let (mut messages, mut next) = (Vec::new(), Some(error));
        while let Some(error) = next {
            if messages.len() == MOST_MESSAGES - 1 && error.source().is_some() {
                messages.push("[… more causes]".to_owned());
                break;
            }
            messages.push(said(error));
            next = error.source();
        }
        Self::from_messages(messages)
    }

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

/// A text of another process, which may have cut it off and left a mark.
fn kept(text: Cow<'_, str>, most: usize) -> String {
    if text.len() <= most + 64 { text.into_owned() } else { cut(&text, most) }
}

/// What an error says, as far as it is kept. It is not asked for more, which it may have without end.
fn said(error: &dyn Error) -> String {
    struct KeptText(String);

    impl fmt::Write for KeptText {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = LONGEST_MESSAGE - self.0.len();
            if text.len() <= room {
                self.0.push_str(text);
                return Ok(());
            }
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            Err(fmt::Error)
        }
    }

    let mut text = KeptText(String::new());
    if write!(text, "{error}").is_err() {
        text.0.push_str(" [… more]");
    }
    text.0
}

/// A type that stands for errors of any type.
pub trait DynError {
    /// The error.
    fn as_error(&self) -> &(dyn Error + 'static);
}

macro_rules! dyn_errors {
    ($($type:ty),*) => {$(
        impl DynError for $type {
            fn as_error(&self) -> &(dyn Error + 'static) {
                self
            }
        }
    )*};
}

dyn_errors! { dyn Error, dyn Error + Send + Sync }

/// The backtrace in what such an error prints for people: `anyhow` writes its own there.
fn printed_backtrace(error: &dyn fmt::Debug) -> Option<String> {
    // The question costs less than the answer, which few ask for.
    if Backtrace::capture().status() != BacktraceStatus::Captured {
        return None;
    }
    let printed = format!("{error:?}");
    let (_, backtrace) = printed.split_once("\n\nStack backtrace:\n")?;
    Some(cut(backtrace, LONGEST_BACKTRACE))
}

/// A result with a boxed error, whatever its type is called: it travels as a report, from which the error is made again.
impl<T, E> ByValue<Result<T, E>> for &&&crate::codec::Probe<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Deref<Target: DynError> + From<Report> + fmt::Debug,
{
    fn encode(&self, value: &Result<T, E>, writer: &mut Writer) -> Coded<()> {
        let report = |error: &E| Report::of_said(error.as_error(), || printed_backtrace(error));
        writer.value(&value.as_ref().map_err(report))
    }

    fn decode(&self, reader: &mut Reader<'_>) -> Coded<Result<T, E>> {
        let value: Result<T, Report> = reader.value()?;
        Ok(value.map_err(E::from))
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
            backtrace: backtrace.as_deref().map(Cow::from),
        };
        travelling.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let TravellingReport { messages, type_name, place, backtrace } = Deserialize::deserialize(deserializer)?;
        Ok(Self(Box::new(ReportContents {
            error: Cause::from_messages(messages.into_iter().map(Cow::into_owned).collect()),
            type_name: type_name.map(|name| kept(name, LONGEST_MESSAGE).into()),
            place: place.map(|(file, line, column)| (kept(file, LONGEST_MESSAGE).into(), line, column)),
            backtrace: backtrace.map(|backtrace| kept(backtrace, LONGEST_BACKTRACE)),
        })))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.error, f)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReportContents { error, type_name, place, backtrace } = &*self.0;
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
        match backtrace {
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
