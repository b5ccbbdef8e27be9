//! What runs in a worker: one call ([`Run`]), and many of them one after the other ([`Series`]).

pub(crate) mod current;
mod reporter;
mod series;

pub(crate) use reporter::Reporter;
pub use series::Series;
pub(crate) use series::{Pace, SeriesEnd};

use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Stage;
use crate::memory::{Few, StatusPage};
use crate::protocol::Failure;
use std::any::Any;
use std::fmt;

/// Why a call failed in the worker without a panic.
#[derive(Debug)]
pub enum Fault {
    /// The arguments cannot be read.
    Decode(String),
    /// The worker's state is not what the task asks for.
    State(String),
    /// The result cannot be written.
    Encode(String),
    /// The initializer returned an error.
    Initializer(String),
}

impl Fault {
    #[doc(hidden)]
    pub fn argument(name: &'static str) -> impl FnOnce(CodecError) -> Self {
        move |reason| Self::Decode(format!("argument `{name}`: {reason}"))
    }
}

/// One call while it runs in the worker.
pub struct Run<'r> {
    pub(crate) arguments: Reader<'r>,
    pub(crate) result: &'r mut Writer,
    pub(crate) state: Option<&'r mut Box<dyn Any>>,
    /// The result, if it is a few bytes.
    pub(crate) few: Option<Few>,
    /// Where to note how far it is.
    pub(crate) page: Option<&'r StatusPage>,
}

impl<'r> Run<'r> {
    #[doc(hidden)]
    #[inline]
    pub fn arguments(&self) -> Reader<'r> {
        self.arguments.clone()
    }

    /// All arguments are read: the task runs next.
    #[doc(hidden)]
    #[inline(always)]
    pub fn start(&self, arguments: &Reader<'r>) -> Result<(), Fault> {
        arguments.finish().map_err(|reason| Fault::Decode(reason.to_string()))?;
        self.enter(Stage::Running);
        Ok(())
    }

    #[inline]
    pub(crate) fn enter(&self, stage: Stage) {
        if let Some(page) = self.page {
            page.set_stage(stage as u32);
        }
    }

    /// The worker's state.
    #[doc(hidden)]
    pub fn state<S: 'static>(&mut self) -> Result<&mut S, Fault> {
        let state = self.state.as_deref_mut().ok_or_else(|| missing_state::<S>("has none"))?;
        state.downcast_mut().ok_or_else(|| missing_state::<S>("has another"))
    }

    /// The result is encoded as these few bytes.
    #[doc(hidden)]
    #[inline]
    pub fn finish_few(&mut self, few: Few) -> Result<(), Fault> {
        self.few = Some(few);
        Ok(())
    }

    /// Writes the result.
    #[doc(hidden)]
    #[inline]
    pub fn finish(&mut self, write: impl FnOnce(&mut Writer) -> Result<(), CodecError>) -> Result<(), Fault> {
        self.enter(Stage::Encoding);
        write(self.result).map_err(|reason| Fault::Encode(reason.to_string()))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Decode(why) => Self::Decode(why),
            Fault::Encode(why) => Self::Encode(why),
            Fault::State(why) | Fault::Initializer(why) => Self::Unfit(why),
        }
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Run")
    }
}

fn missing_state<S>(what: &str) -> Fault {
    Fault::State(format!("asks for the worker's state `{}`, and this worker {what}", std::any::type_name::<S>()))
}
