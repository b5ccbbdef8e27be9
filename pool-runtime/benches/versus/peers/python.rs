//! Python's pools: `multiprocessing.Pool` and `concurrent.futures.ProcessPoolExecutor`, each in an interpreter of its
//! own, which measures itself on request.

use crate::Result;
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

pub const MULTIPROCESSING: &str = "multiprocessing";
pub const FUTURES: &str = "concurrent.futures";
/// `multiprocessing` as it starts where it does not fork, or is told not to.
pub const SPAWN: &str = "multiprocessing spawn";
/// No pool: the interpreter itself.
pub const LOOP: &str = "Python loop";

/// Is there a `python3`? Its version.
pub fn version() -> Option<&'static str> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let output = Command::new("python3").arg("--version").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    VERSION.get_or_init(ask).as_deref()
}

/// An interpreter with one kind of pool.
pub struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// A file, as workers that are not forked read the program again.
    _script: tempfile::NamedTempFile,
}

impl Python {
    /// None if there is no Python. The pool is made when it is first needed.
    pub fn start(kind: &str, processes: usize) -> Result<Option<Self>> {
        if version().is_none() {
            return Ok(None);
        }
        let mut script = tempfile::Builder::new().prefix("peers").suffix(".py").tempfile()?;
        script.write_all(include_bytes!("peers.py"))?;
        let mut command = Command::new("python3");
        command.arg(script.path()).args([kind, &processes.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (requests, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Ok(Some(Self { child, requests, answers: BufReader::new(answers), _script: script }))
    }

    /// The measure's own figure.
    pub fn ask(&mut self, measure: &str, times: u64, parameter: u64) -> Result<f64> {
        writeln!(self.requests, "{measure} {times} {parameter}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| format!("Python answered {answer:?} to {measure}").into())
    }

    /// For a measure that takes time.
    pub fn time(&mut self, measure: &str, times: u64, parameter: u64) -> Result<Duration> {
        Ok(Duration::from_secs_f64(self.ask(measure, times, parameter)?))
    }

    /// How many steps of its own loop take so long. To be asked of one interpreter for all, as it differs a little.
    pub fn steps(&mut self, microseconds: u64) -> Result<u64> {
        Ok(self.ask("steps", 1, microseconds)? as u64)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends its pool and itself; if it is gone already, there is nothing left to ask.
        let _ = writeln!(self.requests, "end 0 0");
        let _ = self.child.wait();
    }
}
