//! How the value that an initializer returns becomes the state of a worker.

use crate::run::Fault;
use crate::task::StateType;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

/// Picks how the value of an initializer becomes a state, as [`Probe`](crate::codec::Probe) does for values: the
/// implementation of [`ToState`] with the most references that applies.
#[derive(Debug)]
pub struct StateProbe<T>(PhantomData<T>);

impl<T> StateProbe<T> {
    /// The probe of `T`.
    #[expect(clippy::new_without_default, reason = "made by the macro alone")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// Makes a state of a `T`.
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
impl<S: 'static, E: fmt::Display> ToState<Result<S, E>> for &&StateProbe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as _).map_err(|error| Fault::Initializer(error.to_string()))
    }
}

/// A `Result` whose error can only be debugged.
impl<S: 'static, E: fmt::Debug> ToState<Result<S, E>> for &StateProbe<Result<S, E>> {
    type State = S;

    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as _).map_err(|error| Fault::Initializer(format!("{error:?}")))
    }
}

/// Any other value is the state itself.
impl<S: 'static> ToState<S> for StateProbe<S> {
    type State = S;

    fn state(&self, value: S) -> Result<Box<dyn Any>, Fault> {
        Ok(Box::new(value))
    }
}
