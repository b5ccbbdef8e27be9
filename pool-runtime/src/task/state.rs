//! How the value that an initializer returns becomes the state of a worker.

use crate::codec::Probe;
use crate::run::Fault;
use crate::task::StateType;
use std::any::Any;
use std::fmt;

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

/// A `Result` whose error can be displayed.
impl<S: 'static, E: fmt::Display> ToState<Result<S, E>> for &&Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as _).map_err(|error| Fault::Initializer(error.to_string()))
    }
}

/// A `Result` whose error can only be debugged.
impl<S: 'static, E: fmt::Debug> ToState<Result<S, E>> for &Probe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as _).map_err(|error| Fault::Initializer(format!("{error:?}")))
    }
}

/// Any other value is the state itself.
impl<S: 'static> ToState<S> for Probe<S> {
    type State = S;

    fn state(&self, value: S) -> Result<Box<dyn Any>, Fault> {
        Ok(Box::new(value))
    }
}
