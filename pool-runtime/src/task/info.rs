//! The table's entry for a task.

use crate::hash::Fnv;
use crate::policy::Wish;
use crate::run::{Fault, Run, Series};
use std::any::{Any, TypeId};
use std::fmt;

/// A registered task, as [`tasks`](crate::tasks) lists them.
pub struct TaskInfo {
    name: &'static str,
    file: &'static str,
    line: u32,
    signature: &'static str,
    pub(crate) body: Body,
    state: Option<fn() -> StateType>,
    pub(crate) wish: Wish,
    /// How many bytes a result has at most, as its type says.
    pub(crate) result_bound: u64,
}

/// What an entry runs.
pub enum Body {
    /// A task: one call, and many calls one after the other, for which it is compiled into the loop.
    Task(fn(&mut Run<'_>) -> Result<(), Fault>, fn(&mut Series<'_>)),
    /// An initializer: reads its arguments, runs, and leaves the worker's state.
    Initializer(fn(&mut Run<'_>) -> Result<Box<dyn Any>, Fault>),
}

impl TaskInfo {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        (file, line): (&'static str, u32),
        signature: &'static str,
        body: Body,
        state: Option<fn() -> StateType>,
        (wish, result_bound): (Wish, u64),
    ) -> Self {
        Self { name, file, line, signature, body, state, wish, result_bound }
    }

    /// The name by which a worker finds the task: `module_path::function`, or that of `#[task(name = "…")]`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The source file of the function.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The line of the function in [`file`](Self::file).
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The function's signature, as it is written.
    pub fn signature(&self) -> &'static str {
        self.signature
    }

    /// Whether it is a `#[task(initializer)]`.
    pub fn is_initializer(&self) -> bool {
        matches!(self.body, Body::Initializer(_))
    }

    /// A hash of the name and the signature: two builds that differ in it do not work together.
    pub(crate) fn signature_hash(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.write(self.name.as_bytes());
        hash.write(self.signature.as_bytes());
        hash.finish()
    }

    /// The state that a task asks for, or that an initializer makes.
    pub(crate) fn state(&self) -> Option<StateType> {
        self.state.map(|state| state())
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("line", &self.line)
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

/// The type of a worker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateType {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl StateType {
    /// The state type `S`.
    pub fn of<S: 'static>() -> Self {
        Self { id: TypeId::of::<S>(), name: std::any::type_name::<S>() }
    }
}

/// Anything in the table.
pub trait Registered: 'static {
    #[doc(hidden)]
    fn info() -> &'static TaskInfo;
}
