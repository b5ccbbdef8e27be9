//! What is known of a worker that died, and of the call that it took along.

use crate::{error::Stage, panic::PanicInfo};
use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

/// How a process was lost.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) pid: u32,
    /// None if somebody else reaped the process, or if it is not dead but no longer makes sense.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stage: Stage,
    /// The panic that ended the process, where one did (`panic = "abort"`, a panic while panicking).
    pub(crate) panic: Option<PanicInfo>,
    /// What is wrong with a worker that had to be killed.
    pub(crate) fault: Option<String>,
}

/// What is known of the death of a worker, and of the call that it took along.
#[derive(Clone, Debug)]
pub struct Dossier {
    pub(crate) loss: Arc<Loss>,
    /// The job's number and the attempt at it, if it was a call of a pool that was lost.
    pub(crate) call: Option<(u64, u32)>,
    /// How long the call had been running, about.
    pub(crate) time: Option<Duration>,
    /// Where all this was written to, with the arguments.
    pub(crate) saved: Option<PathBuf>,
}

impl Dossier {
    /// Of a process that was lost with no call of a pool.
    pub(crate) fn of_process(loss: Loss) -> Self {
        Self { loss: Arc::new(loss), call: None, time: None, saved: None }
    }

    /// Of a call that was lost with its worker.
    pub(crate) fn of_call(loss: &Arc<Loss>, job: u64, attempt: u32, time: Option<Duration>) -> Self {
        Self { loss: loss.clone(), call: Some((job, attempt)), time, saved: None }
    }

    /// The process that died.
    pub fn pid(&self) -> u32 {
        self.loss.pid
    }

    /// Which attempt at the call it was, from 1.
    pub fn attempt(&self) -> Option<u32> {
        self.call.map(|(_, attempt)| attempt)
    }

    /// For how long the call had been running, about.
    pub fn duration(&self) -> Option<Duration> {
        self.time
    }

    /// The file that has all this and the call's arguments, if the pool was told to
    /// [keep dossiers](crate::PoolBuilder).
    pub fn saved(&self) -> Option<&Path> {
        self.saved.as_deref()
    }
}
