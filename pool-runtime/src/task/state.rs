//! How the value that an initializer returns becomes the state of a worker.

use crate::codec::Probe;
use crate::error::{DynError, messages, printed};
use crate::panic::kept;
use crate::report::LONGEST_MESSAGE;
use crate::run::Fault;
use crate::task::StateType;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::Deref;

/// Makes a state of a `T`. As for values, the implementation for a [`Probe`] with the most references that applies is
/// what counts.
pub trait ToState<T> {
    /// The type of the state.
    type State: 'static;

    /// The state, or the error's text.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;

    /// The type of the state.
    fn state_type(&self) -> StateType {
        StateType::of::<Self::State>()
    }
}

/// A `Result` with an error that may have causes.
impl<S: 'static, E: Error + 'static> ToState<Result<S, E>> for &&&&Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(boxed).map_err(|error| with_causes(&error))
    }
}

/// A `Result` with a boxed error.
impl<S: 'static, E: Deref<Target: DynError>> ToState<Result<S, E>> for &&&Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(boxed).map_err(|error| with_causes(error.as_error()))
    }
}

/// A `Result` whose error can be displayed.
impl<S: 'static, E: fmt::Display> ToState<Result<S, E>> for &&Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(boxed).map_err(|error| Fault::Initializer(printed(format_args!("{error:#}"), LONGEST_MESSAGE)))
    }
}

/// A `Result` whose error can only be debugged.
impl<S: 'static, E: fmt::Debug> ToState<Result<S, E>> for &Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(boxed).map_err(|error| Fault::Initializer(printed(format_args!("{error:?}"), LONGEST_MESSAGE)))
    }
}

/// Any other value is the state itself.
impl<S: 'static> ToState<S> for Probe<S> {
    type State = S;

    fn state(&self, value: S) -> Result<Box<dyn Any>, Fault> {
        Ok(Box::new(value))
    }
}

fn boxed<S: 'static>(state: S) -> Box<dyn Any> {
    Box::new(state)
}

/// What the error says, and its causes.
#[cold]
fn with_causes(error: &(dyn Error + 'static)) -> Fault {
    Fault::Initializer(kept(messages(error).join(": ").into(), LONGEST_MESSAGE))
}
