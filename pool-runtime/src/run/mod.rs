//! What a task's expansion runs in a worker: one call ([`Run`]), or the calls of a chunk ([`Series`]). It is compiled into
//! the user's program for each task; the loop around it, which receives chunks, is in `worker/`.

pub(crate) mod current;
mod reporter;
mod series;

pub(crate) use reporter::Reporter;
pub use series::Series;
pub(crate) use series::{Pace, SeriesEnd};

use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Stage;
use crate::memory::{Regions, ShortBytes, StatusPage, referred};
use crate::protocol::Failure;
use std::any::Any;

/// Why a call failed in the worker without a panic.
#[derive(Debug)]
pub enum Fault {
    /// The arguments cannot be read.
    Decode(String),
    /// The worker does not have the state, or the task, that is asked for.
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
    pub(crate) short: Option<ShortBytes>,
    /// Where its stage is noted.
    pub(crate) page: Option<&'r StatusPage>,
    /// Where the regions go to which the result refers.
    pub(crate) attached: Option<&'r mut Regions>,
}

impl<'r> Run<'r> {
    #[inline(always)]
    pub(crate) fn new(arguments: Reader<'r>, result: &'r mut Writer) -> Self {
        Self { arguments, result, state: None, short: None, page: None, attached: None }
    }

    #[doc(hidden)]
    #[inline]
    pub fn arguments(&self) -> Reader<'r> {
        self.arguments.clone()
    }

    /// All arguments have been read, and the task runs next.
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

    #[doc(hidden)]
    pub fn state<S: 'static>(&mut self) -> Result<&mut S, Fault> {
        let missing = |what| {
            let wanted = std::any::type_name::<S>();
            Fault::State(format!("asks for the worker's state `{wanted}`, and this worker {what}"))
        };
        let state = self.state.as_deref_mut().ok_or_else(|| missing("has none"))?;
        state.downcast_mut().ok_or_else(|| missing("has another"))
    }

    #[doc(hidden)]
    #[inline]
    pub fn finish_short(&mut self, short: ShortBytes) -> Result<(), Fault> {
        self.short = Some(short);
        Ok(())
    }

    /// As [`finish`](Self::finish). Where nothing goes that the result refers to, one that refers to something is refused.
    #[doc(hidden)]
    pub fn finish_reply(&mut self, write: impl FnOnce(&mut Writer) -> Result<(), CodecError>) -> Result<(), Fault> {
        if self.attached.is_some() {
            return self.finish(write);
        }
        self.enter(Stage::Encoding);
        write(self.result).map_err(|reason| Fault::Encode(reason.to_string()))
    }

    #[doc(hidden)]
    #[inline]
    pub fn finish(&mut self, write: impl FnOnce(&mut Writer) -> Result<(), CodecError>) -> Result<(), Fault> {
        self.enter(Stage::Encoding);
        let (written, regions) = referred::collect(|| write(self.result));
        // What a result that could not be written refers to is not the next one's.
        if written.is_ok()
            && !regions.is_empty()
            && let Some(attached) = &mut self.attached
        {
            **attached = regions;
        }
        written.map_err(|reason| Fault::Encode(reason.to_string()))
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
