//! How an error of any type becomes a [`Report`], in the process in which it was raised.
//!
//! `?` makes a report of any error type, [`Report::new`] of what `?` does not convert, and the worker of a boxed error
//! that a task returns. Whatever user code prints here is kept up to a length, as it may be without end.

use super::Error;
use crate::codec::{ByValue, Coded, Probe, Reader, Writer};
use crate::panic::cut;
use crate::report::{
    Cause, LONGEST_BACKTRACE, LONGEST_MESSAGE, MOST_MESSAGES, Report, ReportBacktrace, ReportContents,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;
use std::ops::Deref;
use std::panic::Location;

/// Enough for all messages of a report and its backtrace.
const LONGEST_DEBUG: usize = MOST_MESSAGES * LONGEST_MESSAGE + LONGEST_BACKTRACE;

impl<E: StdError + Send + Sync + Unpin + 'static> From<E> for Report {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::raised(&error, Some(type_name::<E>()))
    }
}

impl Report {
    /// A report of what `?` does not convert: a text, a boxed error, an `anyhow::Error`. Its [place](Self::line) is that
    /// of the call.
    ///
    /// ```
    /// # use pool_runtime::Report;
    /// fn even(n: u32) -> Result<u32, Report> {
    ///     if n % 2 == 0 { Ok(n) } else { Err(Report::new(format!("{n} is odd"))) }
    /// }
    ///
    /// fn small(n: u32) -> anyhow::Result<u32> {
    ///     anyhow::ensure!(n < 10, "{n} is large");
    ///     Ok(n)
    /// }
    ///
    /// fn both(n: u32) -> Result<u32, Report> {
    ///     small(even(n)?).map_err(Report::new)
    /// }
    ///
    /// assert_eq!(both(3).unwrap_err().to_string(), "3 is odd");
    /// assert_eq!(both(30).unwrap_err().to_string(), "30 is large");
    /// ```
    #[track_caller]
    pub fn new<E: Into<Box<dyn StdError + Send + Sync>>>(error: E) -> Self {
        // `E` is no name of an error's type: a box, or a text.
        Self::raised(&*error.into(), None)
    }

    #[track_caller]
    fn raised(error: &(dyn StdError + 'static), type_name: Option<&'static str>) -> Self {
        let place = Location::caller();
        Self::of(error, |error| ReportContents {
            error,
            type_name: type_name.map(Into::into),
            place: Some((place.file().into(), place.line(), place.column())),
            backtrace: ReportBacktrace::captured().map(Into::into),
        })
    }

    /// A report of an error about which no more is known than what it says.
    pub(super) fn of_said(error: &(dyn StdError + 'static), backtrace: impl FnOnce() -> Option<String>) -> Self {
        Self::of(error, |error| ReportContents {
            error,
            type_name: None,
            place: None,
            backtrace: backtrace().map(|text| ReportBacktrace::from_text(text.into()).into()),
        })
    }

    /// The report that this error is, or else a new one. If there is a report among the causes, the error was raised
    /// where that one was.
    fn of(error: &(dyn StdError + 'static), make: impl FnOnce(Cause) -> ReportContents) -> Self {
        if let Some(report) = error.downcast_ref::<Self>() {
            return report.clone();
        }
        let said = Cause::from_messages(messages(error));
        Self::from_contents(match inner_report(error) {
            Some(inner) if inner.line().is_some() => ReportContents { error: said, ..inner.contents().clone() },
            Some(inner) => {
                let made = make(said);
                ReportContents { backtrace: inner.contents().backtrace.clone().or(made.backtrace), ..made }
            }
            None => make(said),
        })
    }
}

/// The outermost report among an error and its causes.
fn inner_report<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Report> {
    let mut next = Some(error);
    for _ in 0..MOST_MESSAGES {
        let error = next?;
        let found = error.downcast_ref().or_else(|| error.downcast_ref::<Error>()?.report());
        if found.is_some() {
            return found;
        }
        // What an `io::Error` is made of is none of its sources, as it says the same.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What an error says, and its causes, the outermost first.
pub(crate) fn messages(error: &(dyn StdError + 'static)) -> Vec<String> {
    let (mut messages, mut next) = (Vec::new(), Some(error));
    while let Some(error) = next {
        if messages.len() == MOST_MESSAGES - 1 && error.source().is_some() {
            messages.push("[… more causes]".to_owned());
            break;
        }
        // Those of a report are not as it prints them.
        let report = error.downcast_ref::<Report>().map(|report| &report.contents().error);
        messages.push(match report.or_else(|| error.downcast_ref()) {
            Some(Cause { message, .. }) => message.clone(),
            None => printed(format_args!("{error}"), LONGEST_MESSAGE),
        });
        next = error.source();
    }
    messages
}

/// What user code prints, up to a length. It is not asked for more, which it may have without end.
pub(crate) fn printed(what: fmt::Arguments<'_>, most: usize) -> String {
    struct KeptText {
        text: String,
        most: usize,
        is_cut: bool,
    }

    impl fmt::Write for KeptText {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = if self.is_cut { 0 } else { self.most - self.text.len() };
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
            self.is_cut |= text.len() > room;
            if self.is_cut { Err(fmt::Error) } else { Ok(()) }
        }
    }

    let mut kept = KeptText { text: String::new(), most, is_cut: false };
    let written = kept.write_fmt(what);
    kept.text
        + match written {
            _ if kept.is_cut => " [… more]",
            Err(fmt::Error) => " [the rest cannot be formatted]",
            Ok(()) => "",
        }
}

/// A type that stands for errors of any type.
pub trait DynError {
    /// The error.
    fn as_error(&self) -> &(dyn StdError + 'static);
}

macro_rules! dyn_errors {
    ($($type:ty),*) => {$(
        impl DynError for $type {
            fn as_error(&self) -> &(dyn StdError + 'static) {
                self
            }
        }
    )*};
}

dyn_errors! { dyn StdError, dyn StdError + Send + Sync }

/// The backtrace in what such an error prints for people: `anyhow` writes its own there.
fn printed_backtrace(error: &dyn fmt::Debug) -> Option<String> {
    // The question costs less than the answer, which few ask for.
    if Backtrace::capture().status() != BacktraceStatus::Captured {
        return None;
    }
    let printed = printed(format_args!("{error:?}"), LONGEST_DEBUG);
    let (_, backtrace) = printed.split_once("\n\nStack backtrace:\n")?;
    Some(cut(backtrace, LONGEST_BACKTRACE))
}

/// A result with a boxed error, whatever its type is called: it travels as a report, from which the error is made again.
impl<T, E> ByValue<Result<T, E>> for &&&Probe<Result<T, E>>
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Writes without end, and counts what it has written.
    struct Endless<'c>(&'c Cell<usize>);

    impl fmt::Debug for Endless<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                self.0.set(self.0.get() + 1);
                f.write_str("é")?;
            }
        }
    }

    /// Says that it cannot be formatted, in the middle of it.
    struct Broken;

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn what_is_printed_without_end_is_asked_for_no_more_than_is_kept() {
        let count = Cell::new(0);
        let text = printed(format_args!("{:?}", Endless(&count)), LONGEST_DEBUG);
        assert!(text.len() < LONGEST_DEBUG + 16 && text.ends_with("é [… more]"));
        assert_eq!(count.get(), LONGEST_DEBUG / 2 + 1);
    }

    #[test]
    fn a_text_that_cannot_be_formatted_is_not_said_to_be_cut_off() {
        assert_eq!(printed(format_args!("{Broken}"), 100), "half [the rest cannot be formatted]");
        assert_eq!(printed(format_args!("{Broken}"), 3), "hal [… more]");
        assert_eq!(printed(format_args!("{Broken}"), 4), "half [the rest cannot be formatted]");
        assert_eq!(printed(format_args!("four"), 4), "four");
    }
}
