//! The report of a worker's death and of the call that was lost with it.
//!
//! Its facts come from [`Launched::examine`](crate::peer::spawn::Launched::examine) in `peer/autopsy.rs`, where the
//! process is reaped. Names for the addresses of a backtrace are looked up only on demand.

use crate::dossier::{Loss, backtrace};
use crate::foreign;
use crate::os::{OomKill, signal_name};
use crate::panic::PanicInfo;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What is known of the death of a worker and of the call that was lost with it.
///
/// It prints as a report of several lines. [`Error::dossier`](crate::Error::dossier) returns it.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// #[task]
/// fn dive(depth: u64) -> u64 {
///     std::hint::black_box(dive(depth + 1)) + depth
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(1)?;
///     let error = pool.apply(dive::call(0)).unwrap_err();
///     let dossier = error.dossier().unwrap();
///     assert!(dossier.is_stack_overflow());
///     assert!(dossier.task_name().unwrap().ends_with("dive"));
///     assert!(dossier.backtrace().is_some());
///     println!("{dossier}");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Dossier {
    pub(crate) loss: Arc<Loss>,
    /// The job and the attempt, if a pool's call was lost.
    pub(crate) call: Option<(u64, u32)>,
    pub(crate) time: Option<Duration>,
    /// The file that has all this and the arguments, and the command that runs the call again.
    pub(super) saved: Option<(PathBuf, String)>,
    pub(crate) task: Option<CalledTask>,
    /// The backtrace as text, made on demand.
    pub(super) backtrace: OnceLock<Option<String>>,
}

/// A task by its name, and the file and line of its function, if this program has it.
#[derive(Clone, Debug)]
pub(crate) struct CalledTask {
    pub(crate) name: Cow<'static, str>,
    pub(crate) place: Option<(&'static str, u32)>,
}

impl Dossier {
    /// Of a process that was lost without a pool's call.
    pub(crate) fn of_process(loss: impl Into<Arc<Loss>>) -> Self {
        Self { loss: loss.into(), call: None, time: None, saved: None, task: None, backtrace: OnceLock::new() }
    }

    pub(crate) fn of_call(loss: &Arc<Loss>, job: u64, attempt: u32, time: Option<Duration>) -> Self {
        Self { call: Some((job, attempt)), time, ..Self::of_process(loss.clone()) }
    }

    /// The same, kept in a file.
    #[cfg(test)]
    pub(crate) fn saved_in(self, file: &str) -> Self {
        Self { saved: Some((file.into(), String::new())), ..self }
    }

    /// The process id of the process that died.
    pub fn pid(&self) -> u32 {
        self.loss.pid
    }

    /// The name of the task that was called.
    pub fn task_name(&self) -> Option<&str> {
        self.task.as_ref().map(|task| &*task.name)
    }

    /// The source file of the task.
    pub fn file(&self) -> Option<&str> {
        self.task.as_ref()?.place.map(|(file, _)| file)
    }

    /// The line of the task in [`file`](Self::file).
    pub fn line(&self) -> Option<u32> {
        self.task.as_ref()?.place.map(|(_, line)| line)
    }

    /// The number of the job, as of [`Job::id`](crate::Job::id); each call of a `map` has its own. None for a
    /// [`Process`](crate::Process).
    pub fn job(&self) -> Option<u64> {
        self.call.map(|(job, _)| job)
    }

    /// Which attempt at the call it was, counted from 1.
    pub fn attempt(&self) -> Option<u32> {
        self.call.map(|(_, attempt)| attempt)
    }

    /// About how long the call had been running.
    pub fn duration(&self) -> Option<Duration> {
        self.time
    }

    /// The exit code, if the process exited.
    pub fn exit_code(&self) -> Option<i32> {
        self.loss.status?.code()
    }

    /// The number of the signal that killed the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.loss.status?.signal()
    }

    /// The panic that ended the process, if one did: in a program built with `panic = "abort"`, or a panic while
    /// panicking.
    pub fn panic(&self) -> Option<&PanicInfo> {
        self.loss.panic.as_ref()
    }

    /// Whether a thread of the process overflowed its stack.
    pub fn is_stack_overflow(&self) -> bool {
        self.loss.is_stack_overflow()
    }

    /// The invalid address whose access crashed the process, if its fault handler ran.
    pub fn fault_address(&self) -> Option<u64> {
        self.loss.crash.as_ref()?.fault_address()
    }

    /// Whether the process crashed on its main thread, which runs the tasks, and not on one that a task had started.
    /// None if its fault handler did not run.
    pub fn on_main_thread(&self) -> Option<bool> {
        self.loss.crash.as_ref().map(|crash| crash.on_main)
    }

    /// Whether the kernel's OOM killer ended the process.
    pub fn oom_killer(&self) -> Option<OomKill> {
        self.loss.oom
    }

    /// The processor time of the process's own code, from its start, for all calls that it ran.
    pub fn user_time(&self) -> Option<Duration> {
        self.loss.usage.map(|usage| usage.user)
    }

    /// The processor time of the system for the process.
    pub fn system_time(&self) -> Option<Duration> {
        self.loss.usage.map(|usage| usage.system)
    }

    /// The peak resident memory of the process, in bytes. None if it never exceeded that of the program that started it,
    /// which is then all that the system reports.
    pub fn peak_memory(&self) -> Option<u64> {
        let usage = self.loss.usage.filter(|usage| usage.peak > self.loss.first_peak)?;
        usage.peak.checked_mul(1024)
    }

    /// The number of page faults: all, and the major ones, which read from a file.
    pub fn page_faults(&self) -> Option<(u64, u64)> {
        let usage = self.loss.usage?;
        Some((usage.minor_faults.saturating_add(usage.major_faults), usage.major_faults))
    }

    /// The last lines of the process's standard error, up to 4 KiB. They may come from an earlier call, or from a
    /// process that it started. They are as they were written, which may include what a terminal obeys; where the whole
    /// dossier is printed, such characters are escaped. None if they were [not
    /// captured](crate::PoolBuilder::capture_stderr), and for a [`Process`](crate::Process).
    pub fn stderr(&self) -> Option<&str> {
        let bytes = self.loss.stderr.as_ref()?;
        Some(self.loss.stderr_text.get_or_init(|| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// The functions in which the process crashed, innermost first, if it crashed with `SIGSEGV`, `SIGBUS`, `SIGILL`,
    /// `SIGFPE` or `SIGABRT` and had no handler of its own for that.
    ///
    /// Functions of the program itself have names, and lines if it has debug information. At most 48 frames are noted,
    /// and only the innermost one of a thread that a task has started. The first look-up is slow.
    ///
    /// A task is compiled into the loop that runs it, so that in a build without debug information its own function has
    /// no frame: the last line then has the task's name, and the address in the program's file, for `addr2line`.
    #[cfg(feature = "dossiers")]
    pub fn backtrace(&self) -> Option<&str> {
        let trace = || {
            let found = self.loss.trace.get_or_init(|| self.loss.crash.as_ref().map(backtrace::resolve)).as_ref()?;
            Some(found.text(self.task_name())).filter(|text| !text.is_empty())
        };
        self.backtrace.get_or_init(trace).as_deref()
    }

    /// The file that has all this and the call's arguments, if the pool was told to
    /// [keep dossiers](crate::PoolBuilder::dossiers).
    pub fn saved(&self) -> Option<&Path> {
        self.saved.as_ref().map(|(file, _)| file.as_path())
    }
}

impl fmt::Display for Dossier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = &self.loss;
        f.write_str(&loss.sentence())?;
        if let Some(CalledTask { name, place }) = &self.task {
            write!(f, "\n  task       {name}")?;
            if let Some((file, line)) = place {
                write!(f, " ({file}:{line})")?;
            }
        }
        if let Some((job, attempt)) = self.call {
            write!(f, "\n  call       job {job}, attempt {attempt}")?;
            if let Some(time) = self.time {
                write!(f, ", after about {time:.1?}")?;
            }
        }
        if let Some(signal) = self.signal() {
            let address = self.fault_address().map_or(String::new(), |address| format!(" at address {address:#x}"));
            let thread = match self.on_main_thread() {
                Some(true) => ", on the main thread",
                Some(false) => ", on a thread that a task has started",
                None => "",
            };
            write!(f, "\n  signal     {signal}{}{address}{thread}", signal_name(signal))?;
        }
        if let Some(usage) = loss.usage {
            let (all, read) = self.page_faults().unwrap_or_default();
            write!(f, "\n  used       {:.2?} of its own time, {:.2?} of the system's, ", usage.user, usage.system)?;
            if let Some(peak) = self.peak_memory() {
                write!(f, "{:.1} MiB of memory, ", peak as f64 / f64::from(1 << 20))?;
            }
            write!(f, "{all} page faults ({read} from files)")?;
        }
        if let Some(text) = self.stderr().map(str::trim_end).filter(|text| !text.trim().is_empty()) {
            indented(f, "stderr", text.trim_start_matches('\n'))?;
        }
        #[cfg(feature = "dossiers")]
        if let Some(text) = self.backtrace() {
            indented(f, "backtrace", text.trim_end())?;
        }
        #[cfg(not(feature = "dossiers"))]
        if loss.crash.is_some() {
            indented(f, "backtrace", "none, as this program is built without the feature `dossiers` of pool-runtime")?;
        }
        if let Some((file, replay)) = &self.saved {
            write!(f, "\n  saved      {}\n  run again  {replay}", file.display())?;
        }
        Ok(())
    }
}

fn indented(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    let mut name = name;
    for line in text.lines() {
        write!(f, "\n  {name:<10} {}", foreign::block(line))?;
        name = "";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dossier::Stage,
        os::{Crash, End, Usage},
    };

    fn killed(signal: i32) -> Loss {
        Loss { status: Some(End::Signal(signal)), stage: Stage::Running, ..Loss::of(17) }
    }

    #[test]
    fn a_death_is_one_sentence() {
        let of = |loss: &Loss| loss.sentence();
        assert_eq!(of(&killed(9)), "process 17 was killed by signal 9 (SIGKILL) while running");
        let exited = Loss { status: Some(End::Exited(3)), ..Loss::of(17) };
        assert_eq!(of(&exited), "process 17 exited with code 3 before it began");
        let oom = Loss { oom: Some(OomKill::Certain), ..killed(9) };
        assert_eq!(of(&oom), "process 17 was killed by the kernel's OOM killer while running");
        let maybe = Loss { oom: Some(OomKill::Probable), ..killed(9) };
        assert_eq!(
            of(&maybe),
            "process 17 was killed by signal 9 (SIGKILL), probably by the kernel's OOM killer, while running"
        );
        let crash =
            Crash { signal: 11, code: 1, address: 8, overflow: true, on_main: true, anchor: 0, frames: Vec::new() };
        let overflow = Loss { crash: Some(crash), ..killed(11) };
        assert_eq!(of(&overflow), "process 17 overflowed its stack while running");
    }

    #[test]
    fn what_a_worker_left_is_shown_without_controls() {
        let panic = PanicInfo::from_message("\x1b[2J\nmore".into());
        let loss = Loss { panic: Some(panic), ..killed(6) };
        assert!(loss.sentence().ends_with("it panicked \\x1b[2J\nmore"), "{}", loss.sentence());
        let loss = Loss { fault: Some("sent \x1b[2J\n".into()), ..killed(9) };
        assert_eq!(loss.sentence(), "process 17 sent \\x1b[2J\\n and was killed while running");
    }

    #[test]
    fn a_report_has_a_line_for_each_thing_that_is_known() {
        let bare = Dossier::of_process(Loss::of(17));
        assert_eq!(bare.to_string().lines().count(), 1);
        let usage = Usage {
            user: Duration::from_millis(1500),
            system: Duration::from_millis(2),
            peak: 4096,
            minor_faults: 7,
            major_faults: 1,
        };
        let loss = Loss { usage: Some(usage), first_peak: 1024, stderr: Some(b"a\nb\x1b[0m\n".to_vec()), ..killed(11) };
        let mut dossier = Dossier::of_call(&Arc::new(loss), 3, 2, Some(Duration::from_millis(5)));
        dossier.task = Some(CalledTask { name: "x::y".into(), place: None });
        assert_eq!(
            dossier.to_string(),
            "process 17 was killed by signal 11 (SIGSEGV) while running\n  \
             task       x::y\n  \
             call       job 3, attempt 2, after about 5.0ms\n  \
             signal     11 (SIGSEGV)\n  \
             used       1.50s of its own time, 2.00ms of the system's, 4.0 MiB of memory, 8 page faults (1 from files)\n  \
             stderr     a\n             b\\x1b[0m"
        );
        let parents = Loss { usage: Some(usage), first_peak: 4096, ..killed(11) };
        assert_eq!(Dossier::of_process(parents).peak_memory(), None, "it is the parent's");
    }
}
