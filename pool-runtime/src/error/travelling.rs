//! An [`Error`] that goes to another process: there, it says and answers what it does here.
//!
//! Its kind stays here, with what only this process can use: dossiers, messages. What travels is the text, the answers to
//! all questions, and the few values that methods return.

use super::{Error, ErrorInner, Kind, Question, TravelledError};
use crate::dossier::Ran;
use crate::foreign;
use crate::panic::PanicInfo;
use crate::report::{Cause, TravellingIo};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

/// An error as it is sent.
#[derive(Serialize, Deserialize)]
struct TravellingError {
    task: Option<String>,
    is_of_method: bool,
    index: Option<usize>,
    job: Option<u64>,
    ran: Ran,
    attempts: u32,
    text: String,
    answers: u32,
    exit_code: Option<i32>,
    signal: Option<i32>,
    panic: Option<PanicInfo>,
    raw_text: Option<String>,
    lost_items: Option<u64>,
    io_error: Option<TravellingIo>,
    causes: Vec<String>,
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let yes = QUESTIONS.iter().filter(|(_, ask)| ask(self));
        let causes = self.source().map(|source| Cause::of(source).chain().map(|cause| cause.message.clone()).collect());
        let travelling = TravellingError {
            task: self.task_name().map(str::to_owned),
            is_of_method: self.0.noun == METHOD,
            index: self.index(),
            job: self.job(),
            ran: self.ran(),
            attempts: self.attempts(),
            text: self.0.kind.to_string(),
            answers: yes.fold(0, |answers, (question, _)| answers | question.bit()),
            exit_code: self.exit_code(),
            signal: self.signal(),
            panic: self.panic().cloned(),
            raw_text: self.raw_text().map(str::to_owned),
            lost_items: self.lost_items(),
            io_error: self.io_error().map(TravellingIo::from),
            causes: causes.unwrap_or_default(),
        };
        travelling.serialize(serializer)
    }
}

/// What has the name that an error begins with, if it is not a task.
pub(super) const METHOD: &str = "method";
pub(super) const TASK: &str = "task";

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let TravellingError {
            task,
            is_of_method,
            index,
            job,
            ran,
            attempts,
            text,
            answers,
            exit_code,
            signal,
            panic,
            raw_text,
            lost_items,
            io_error,
            causes,
        } = Deserialize::deserialize(deserializer)?;
        let travelled = TravelledError {
            text,
            answers,
            exit_code,
            signal,
            panic,
            raw_text,
            lost_items,
            io_error: io_error.map(|error| Arc::new(error.into())),
            cause: (!causes.is_empty()).then(|| Cause::from_messages(causes)),
        };
        Ok(Self(Box::new(ErrorInner {
            task: task.map(|task| foreign::line(&task).to_string().into()),
            noun: if is_of_method { METHOD } else { TASK },
            index,
            job,
            ran,
            attempts,
            kind: Kind::Travelled(Box::new(travelled)),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use crate::report::Report;
    use std::io;
    use std::time::Duration;

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
            Error::from(Report::from(Error::from(Report::new("inner")))),
        ];
        for error in errors {
            // Twice: it may go on.
            let there = travelled(&travelled(&error));
            assert_eq!(there.to_string(), error.to_string());
            assert_eq!(format!("{there:?}"), format!("{error:?}"));
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
    fn no_source_says_what_the_error_has_said() {
        let system = || io::Error::from_raw_os_error(2);
        for error in [Error::os("cannot try", system()), Error::pool_failed(2, Error::os("cannot try", system()))] {
            assert!(error.to_string().contains("(os error 2)") && error.source().is_none(), "{error:?}");
            assert_eq!(error.io_error().and_then(io::Error::raw_os_error), Some(2));
        }
    }
}
