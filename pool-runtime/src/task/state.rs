//! How the value that an initializer returns becomes the state of a worker.

use crate::run::Fault;
use crate::task::StateType;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

/// Picks how the value of an initializer becomes a state, as [`Probe`](crate::codec::Probe) does for values.
#[derive(Debug)]
pub struct StateProbe<T>(PhantomData<T>);

impl<T> StateProbe<T> {
    /// The probe of `T`.
    #[expect(clippy::new_without_default, reason = "made by the macro alone")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// A `Result` whose error can be displayed.
pub trait StateOrError<T> {
    /// The state, or the error's text.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static, E: fmt::Display> StateOrError<Result<S, E>> for &&StateProbe<Result<S, E>> {
    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as Box<dyn Any>).map_err(|error| Fault::Initializer(error.to_string()))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}

/// A `Result` whose error can only be debugged.
pub trait StateOrDebug<T> {
    /// The state, or the error's text.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static, E: fmt::Debug> StateOrDebug<Result<S, E>> for &StateProbe<Result<S, E>> {
    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as Box<dyn Any>).map_err(|error| Fault::Initializer(format!("{error:?}")))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}

/// Any other value is the state itself.
pub trait StateItself<T> {
    /// The state.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static> StateItself<S> for StateProbe<S> {
    fn state(&self, value: S) -> Result<Box<dyn Any>, Fault> {
        Ok(Box::new(value))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}
