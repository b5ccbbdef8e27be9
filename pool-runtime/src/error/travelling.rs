//! An [`Error`] that goes to another process: there, it says and answers what it does here.
//!
//! Its kind stays here, with what only this process can use: dossiers, messages. What travels is the text, the answers to
//! all questions, and the few values that methods return. A report of a task's error travels as it is.

use super::io_error::TravellingIo;
use super::{Error, ErrorInner, Kind, Question, TravelledError, messages};
use crate::dossier::Ran;
use crate::foreign;
use crate::panic::{PanicInfo, kept};
use crate::report::{Cause, LONGEST_MESSAGE, Report};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;

/// A question, and who answers it.
type Asked = (Question, fn(&Error) -> bool);

const QUESTIONS: [Asked; 15] = [
    (Question::WorkerLost, Error::is_worker_lost),
    (Question::WouldBlock, Error::is_would_block),
    (Question::Disconnected, Error::is_disconnected),
    (Question::Timeout, Error::is_timeout),
    (Question::Pending, Error::is_pending),
    (Question::OutOfMemory, Error::is_out_of_memory),
    (Question::StackOverflow, Error::is_stack_overflow),
    (Question::Cancelled, Error::is_cancelled),
    (Question::Closed, Error::is_closed),
    (Question::Authentication, Error::is_authentication),
    (Question::Exhausted, Error::is_exhausted),
    (Question::ManagerLost, Error::is_manager_lost),
    (Question::Encode, Error::is_encode),
    (Question::Decode, Error::is_decode),
    (Question::ResultTooLarge, Error::is_result_too_large),
];

/// The longest text that is kept of one that came. Those of other processes are no longer, however much was escaped.
const LONGEST_TEXT: usize = 1 << 18;

/// An error as it is sent.
#[derive(Serialize, Deserialize)]
struct TravellingError {
    task: Option<String>,
    is_of_method: bool,
    index: Option<usize>,
    job: Option<u64>,
    ran: Ran,
    attempts: u32,
    kind: TravellingKind,
}

#[derive(Serialize, Deserialize)]
enum TravellingKind {
    /// It is whole there.
    Reported(Report),
    Other(Box<TravellingFacts>),
}

/// What is known of an error without its kind.
#[derive(Serialize, Deserialize)]
struct TravellingFacts {
    text: String,
    answers: u32,
    exit_code: Option<i32>,
    signal: Option<i32>,
    panic: Option<PanicInfo>,
    raw_text: Option<String>,
    lost_items: Option<u64>,
    io_error: Option<TravellingIo>,
    causes: Vec<String>,
    dossier_file: Option<String>,
}

impl From<&Error> for TravellingKind {
    fn from(error: &Error) -> Self {
        if let Kind::Reported(report) = &error.0.kind {
            return Self::Reported(report.clone());
        }
        let yes = QUESTIONS.iter().filter(|(_, ask)| ask(error));
        Self::Other(Box::new(TravellingFacts {
            text: error.0.kind.to_string(),
            answers: yes.fold(0, |answers, (question, _)| answers | question.bit()),
            exit_code: error.exit_code(),
            signal: error.signal(),
            panic: error.panic().cloned(),
            raw_text: error.raw_text().map(str::to_owned),
            lost_items: error.lost_items(),
            io_error: error.io_error().map(TravellingIo::from),
            causes: error.source().map(messages).unwrap_or_default(),
            dossier_file: error.dossier_file().map(Cow::into_owned),
        }))
    }
}

impl From<TravellingKind> for Kind {
    fn from(kind: TravellingKind) -> Self {
        let facts = match kind {
            TravellingKind::Reported(report) => return Self::Reported(report),
            TravellingKind::Other(facts) => *facts,
        };
        let text = |text: String| kept(text.into(), LONGEST_TEXT);
        Self::Travelled(Box::new(TravelledError {
            text: text(facts.text),
            answers: facts.answers,
            exit_code: facts.exit_code,
            signal: facts.signal,
            panic: facts.panic.map(|panic| panic.kept(LONGEST_TEXT)),
            raw_text: facts.raw_text.map(text),
            lost_items: facts.lost_items,
            io_error: facts.io_error.map(|error| Arc::new(error.into())),
            cause: (!facts.causes.is_empty()).then(|| Cause::from_messages(facts.causes)),
            dossier_file: facts.dossier_file.map(|file| kept(file.into(), LONGEST_MESSAGE)),
        }))
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let travelling = TravellingError {
            task: self.task_name().map(str::to_owned),
            is_of_method: self.0.noun == METHOD,
            index: self.index(),
            job: self.job(),
            ran: self.ran(),
            attempts: self.attempts(),
            kind: self.into(),
        };
        travelling.serialize(serializer)
    }
}

/// What has the name that an error begins with, if it is not a task.
pub(super) const METHOD: &str = "method";
pub(super) const TASK: &str = "task";

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let TravellingError { task, is_of_method, index, job, ran, attempts, kind } =
            Deserialize::deserialize(deserializer)?;
        let name = |task: String| foreign::line(&kept(task.into(), LONGEST_MESSAGE)).to_string();
        Ok(Self(Box::new(ErrorInner {
            task: task.map(|task| name(task).into()),
            noun: if is_of_method { METHOD } else { TASK },
            index,
            job,
            ran,
            attempts,
            kind: kind.into(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use crate::dossier::{Dossier, Loss};
    use std::io;
    use std::time::Duration;

    /// An error with causes down to 1.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Chained(u32, #[source] Option<Box<Chained>>);

    impl Chained {
        fn new(depth: u32) -> Self {
            Self(depth, (depth > 1).then(|| Box::new(Self::new(depth - 1))))
        }
    }

    fn travelled(error: &Error) -> Error {
        let mut writer = Writer::new();
        writer.value(error).unwrap();
        Reader::new(&writer.into_bytes()).value().unwrap()
    }

    #[test]
    fn an_error_says_and_answers_elsewhere_what_it_does_here() {
        let panic = PanicInfo::from_message("\x1b[2J".to_owned());
        let errors = [
            Error::new(Kind::NotYet(Duration::from_secs(1))).of_task("named").at_input(3).of_job(9),
            Error::new(Kind::Terminated).with_ran(Ran::Maybe).with_attempts(3),
            Error::new(Kind::QueueClosed),
            Error::new(Kind::Disconnected).of_method("get"),
            Error::new(Kind::ItemsLost(7)),
            Error::new(Kind::InitializerPanicked(panic)).with_ran(Ran::Yes),
            Error::new(Kind::DecodeArgument("\x1b[2J".to_owned())),
            Error::new(Kind::Exhausted("too many".to_owned())),
            Error::os("cannot try", io::Error::from(io::ErrorKind::NotFound)),
            Error::pool_failed(2, Error::os("cannot try", io::Error::from_raw_os_error(2))),
            Error::os("cannot try", io::Error::other(Error::from(Report::from(Chained::new(2))))),
            Error::from(Report::from(Error::from(Report::new("inner")))),
            Error::from(Report::from(Chained::new(3))).of_task("named").with_attempts(2),
            Error::new(Kind::Lost(Dossier::of_process(Loss::of(17)).saved_in("/tmp/\x1b[2J.dossier"))),
        ];
        for error in errors {
            // Twice: it may go on.
            let there = travelled(&travelled(&error));
            assert_eq!(there.to_string(), error.to_string());
            assert_eq!(format!("{there:?} {there:#}"), format!("{error:?} {error:#}"));
            let [here, beyond] = [&error, &there].map(|error| error.report().map(|report| format!("{report:?}")));
            assert_eq!(here, beyond);
            for (question, ask) in QUESTIONS {
                assert_eq!(ask(&there), ask(&error), "{question:?} of {error}");
            }
            assert_eq!((there.ran(), there.attempts()), (error.ran(), error.attempts()));
            assert_eq!((there.index(), there.job()), (error.index(), error.job()));
            assert_eq!((there.task_name(), there.raw_text()), (error.task_name(), error.raw_text()));
            assert_eq!((there.panic(), there.lost_items()), (error.panic(), error.lost_items()));
            let [here, there] = [&error, &there].map(|error| error.io_error().map(|io| (io.kind(), io.raw_os_error())));
            assert_eq!(here, there);
        }
    }

    #[test]
    fn the_file_of_a_dossier_is_named_there_too() {
        let saved = Dossier::of_process(Loss::of(17)).saved_in("/tmp/17.dossier");
        let there = travelled(&Error::new(Kind::Lost(saved)));
        assert!(there.to_string().ends_with("; its dossier is in /tmp/17.dossier"), "{there}");
    }

    #[test]
    fn a_long_text_is_cut_off_once() {
        let error = Error::new(Kind::DecodeArgument("x".repeat(20_000)));
        assert!(error.to_string().ends_with("x… (3616 more bytes)"));
        assert_eq!(travelled(&error).to_string(), error.to_string());
        let message = Report::from(Error::invalid("y".repeat(20_000))).to_string();
        assert!(message.ends_with("y [… more]") && !message.contains("bytes"));
        let whole = Error::from(Report::new("z".repeat(20_000)));
        assert_eq!(format!("{:#}", travelled(&whole)), format!("{whole}"));
    }

    #[test]
    fn what_another_process_sends_is_kept_up_to_a_length() {
        let long = || "x".repeat(LONGEST_TEXT * 2);
        let facts = TravellingFacts {
            text: long(),
            answers: 0,
            exit_code: None,
            signal: None,
            panic: Some(PanicInfo::from_message(long())),
            raw_text: Some(long()),
            lost_items: None,
            io_error: None,
            causes: Vec::new(),
            dossier_file: Some(long()),
        };
        let sent = TravellingError {
            task: Some(long()),
            is_of_method: false,
            index: None,
            job: None,
            ran: Ran::No,
            attempts: 1,
            kind: TravellingKind::Other(facts.into()),
        };
        let mut writer = Writer::new();
        writer.value(&sent).unwrap();
        let error: Error = Reader::new(&writer.into_bytes()).value().unwrap();
        let texts = [error.raw_text(), error.task_name(), error.panic().map(PanicInfo::message)];
        assert!(texts.into_iter().all(|text| text.unwrap().len() <= LONGEST_TEXT + 64));
        assert!(error.to_string().len() < LONGEST_TEXT + 3 * LONGEST_MESSAGE);
        assert_eq!(travelled(&error).to_string(), error.to_string(), "nothing is cut off a second time");
    }

    #[test]
    fn every_question_has_a_bit_of_its_own() {
        let bits = QUESTIONS.iter().fold(0, |bits, (question, _)| bits | question.bit());
        assert_eq!(bits.count_ones() as usize, QUESTIONS.len());
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed_of_what_came() {
        let mut error = Error::invalid("\x1b[2J").of_task("\x1b]52;");
        error.0.task = Some("\x1b]52;".into());
        assert_eq!(travelled(&error).to_string(), "task `\\x1b]52;` \\x1b[2J");
    }

    #[test]
    fn a_cause_within_the_system_s_error_is_a_source() {
        let error = Error::os("cannot try", io::Error::other(Report::from(Chained::new(2))));
        assert_eq!(format!("{error} / {error:#}"), "cannot try: 2 / cannot try: 2: 1");
        assert_eq!(format!("{error:#?}"), "cannot try: 2\n  caused by: 1");
    }

    #[test]
    fn no_source_says_what_the_error_has_said() {
        let system = || io::Error::from_raw_os_error(2);
        for error in [Error::os("cannot try", system()), Error::pool_failed(2, Error::os("cannot try", system()))] {
            assert!(error.to_string().contains("(os error 2)") && error.source().is_none(), "{error:?}");
            assert_eq!(error.io_error().and_then(io::Error::raw_os_error), Some(2));
        }
    }
}
