use super::*;
use crate::codec::{Reader, Writer};
use std::any::type_name;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// An error with as many causes as it says.
#[derive(Debug)]
struct Nested(u32, Option<Box<Nested>>);

impl Nested {
    fn new(depth: u32) -> Self {
        (1..depth).fold(Self(0, None), |inner, level| Self(level, Some(Box::new(inner))))
    }
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl Error for Nested {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|inner| inner as _)
    }
}

/// An error that is its own cause, and says something without end.
#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        loop {
            f.write_str("é and ")?;
        }
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

fn travelled(report: &Report) -> Report {
    let mut writer = Writer::new();
    writer.value(report).unwrap();
    Reader::new(&writer.into_bytes()).value().unwrap()
}

#[test]
fn each_format_says_what_it_promises() {
    let report = Report::from(Nested::new(3));
    let place = format!("{}:{}:{}", file!(), line!() - 1, report.column().unwrap());
    for report in [&report, &travelled(&report)] {
        assert_eq!(report.to_string(), "level 2");
        assert_eq!(format!("{report:#}"), "level 2: level 1: level 0");
        let printed = format!("{report:?}");
        let name = type_name::<Nested>();
        let start = format!("level 2\n\nCaused by:\n    0: level 1\n    1: level 0\n\nLocation:\n    {place} ({name})");
        assert!(printed.starts_with(&start), "{printed}");
        let first = report.source().unwrap();
        assert_eq!((first.to_string(), first.source().unwrap().to_string()), ("level 1".into(), "level 0".into()));
    }
}

#[test]
fn what_is_without_end_is_cut_off() {
    let report = Report::from(Endless);
    let travelled = travelled(&report);
    assert!(report.messages().eq(travelled.messages()), "nothing more is cut off on the way");
    let messages: Vec<_> = report.messages().collect();
    assert_eq!((messages.len(), messages[MOST_MESSAGES - 1]), (MOST_MESSAGES, "[… more causes]"));
    assert!(messages[0].len() <= LONGEST_MESSAGE + 16 && messages[0].ends_with(" [… more]"));
    for report in [&report, &travelled] {
        let shown = report.to_string();
        assert!(shown.ends_with("[… more]"), "{}", &shown[shown.len() - 40..]);
    }

    let whole = Report::from(Nested::new(64));
    assert_eq!(whole.messages().last(), Some("level 0"));
    assert_eq!(Report::from(Nested::new(65)).messages().last(), Some("[… more causes]"));
}

#[test]
fn what_another_process_sends_is_cut_off_too() {
    let long = "x".repeat(LONGEST_MESSAGE * 2);
    let sent = TravellingReport {
        messages: vec![Cow::from(&long); 1000],
        type_name: Some(Cow::from(&long)),
        place: Some((Cow::from(&long), 1, 1)),
        backtrace: Some("x".repeat(LONGEST_BACKTRACE * 2).into()),
    };
    let mut writer = Writer::new();
    writer.value(&sent).unwrap();
    let report: Report = Reader::new(&writer.into_bytes()).value().unwrap();
    assert_eq!(report.messages().count(), MOST_MESSAGES);
    let texts = report.messages().chain(report.type_name()).chain(report.file());
    assert!(texts.map(str::len).max() < Some(LONGEST_MESSAGE + 64));
    assert!(report.backtrace().unwrap().len() < LONGEST_BACKTRACE + 64);
    let (shown, left) = (report.to_string(), LONGEST_MESSAGE);
    assert!(shown.ends_with(&format!("x [… {left} bytes more]")), "{}", &shown[shown.len() - 60..]);
}

#[test]
fn a_report_of_a_text_or_of_a_box_has_a_place_and_no_type() {
    for report in [Report::new("a text"), Report::new(Box::<dyn Error + Send + Sync>::from(Nested::new(1)))] {
        assert_eq!((report.type_name(), report.file()), (None, Some(file!())));
    }
    assert_eq!(Report::from(Nested::new(1)).type_name(), Some(type_name::<Nested>()));
}

#[test]
fn the_texts_of_a_report_among_the_causes_stay_as_they_were_written() {
    #[derive(Debug, thiserror::Error)]
    #[error("around")]
    struct Around(#[source] Report);

    let report = Report::new(Around(Report::new("\x1b[2J")));
    assert_eq!(report.messages().collect::<Vec<_>>(), ["around", "\x1b[2J"]);
}

#[test]
fn a_backtrace_is_captured_at_once_and_printed_later() {
    let backtrace = ReportBacktrace { captured: Some(Backtrace::force_capture()), text: OnceLock::new() };
    let report = Report::from_contents(ReportContents {
        backtrace: Some(Arc::new(backtrace)),
        ..Report::new("late").contents().clone()
    });
    let text = |report: &Report| report.contents().backtrace.as_ref().unwrap().text.get().cloned();
    assert_eq!((report.to_string(), text(&report)), ("late".to_owned(), None));
    let there = travelled(&report.clone());
    assert!(report.backtrace().unwrap().contains("a_backtrace_is_captured_at_once_and_printed_later"));
    assert_eq!((there.backtrace(), text(&report).as_deref()), (report.backtrace(), report.backtrace()));
}

#[test]
fn a_report_may_be_caught_with_a_panic() {
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe + Send + Sync>() {}
    is_unwind_safe::<Report>();
}

#[test]
fn a_report_stays_what_it_is() {
    fn again(report: Report) -> Result<(), Report> {
        Err(report)?
    }
    let report = Report::from(Nested::new(2));
    let line = report.line();
    let again = again(report).unwrap_err();
    assert_eq!((again.line(), again.type_name()), (line, Some(type_name::<Nested>())));
    let boxed: Box<dyn Error + Send + Sync> = again.into();
    assert_eq!(Report::new(boxed).line(), line, "also in a box");
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    let report = Report::new("\x1b[2J\u{202e}two\nlines");
    assert_eq!(report.to_string(), "\\x1b[2J\\u{202e}two\nlines");
    assert!(!format!("{report:?}{report:#}").contains(['\x1b', '\u{202e}']));
    assert_eq!(report.messages().next(), Some("\x1b[2J\u{202e}two\nlines"));
}
