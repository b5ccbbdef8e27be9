//! Programs that are run to their end, and the files that they need.

use super::{PATIENCE, until};
use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

/// As [`PATIENCE`], for what may have to build programs first.
pub const BUILD_PATIENCE: Duration = Duration::from_secs(900);

/// A program of `tests/programs`, in a process group of its own, whose output goes into files: nobody who inherits them
/// can hold up the test.
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

fn contents(file: &File) -> String {
    // The offset is shared with the program that writes: it is opened anew.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let mut file = File::open(path).expect("an open file");
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file in memory");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file"));
        let clone = |file: &File| file.try_clone().expect("a descriptor");
        let child = command.process_group(0).stdout(clone(&stdout)).stderr(clone(&stderr)).spawn().expect("it starts");
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Waits until it has printed so many lines, and returns them.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        until("lines on standard output", || {
            lines =
                self.stdout().split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect();
            lines.len() >= count
        });
        lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
    }

    /// Waits for its end, and for that of all that it started.
    pub fn finish(self) -> Ended {
        self.finish_within(PATIENCE)
    }

    pub fn finish_within(self, patience: Duration) -> Ended {
        self.ends_within(patience).unwrap_or_else(|still| panic!("{still}"))
    }

    /// As [`finish`](Self::finish); otherwise says what still runs. It is killed then.
    pub fn ends_within(mut self, patience: Duration) -> Result<Ended, String> {
        let (mut status, pid) = (None, self.pid());
        let deadline = Instant::now() + patience;
        loop {
            status = status.or_else(|| self.child.try_wait().expect("a child"));
            // Kill with signal 0 fails once nobody is left in the group.
            // SAFETY: a system call on plain numbers.
            let group_gone = status.is_some() && unsafe { libc::kill(-(pid as i32), 0) } == -1;
            if let Some(status) = status.filter(|_| group_gone) {
                return Ok(Ended { status, stdout: self.stdout(), stderr: self.stderr() });
            }
            if Instant::now() > deadline {
                let what = if status.is_some() { "a process that it started still runs" } else { "it still runs" };
                return Err(format!("{what} after {patience:?}\n{}\n{}", self.stdout(), self.stderr()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: a system call on plain numbers; the group is of this test's making.
        unsafe { libc::kill(-(self.pid() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    Running::start(command).finish()
}

impl Ended {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn printed(&self) -> &str {
        assert!(self.status.success(), "{self:#?}");
        self.stdout.trim_end()
    }
}

/// Copies a program. Another process does it: a descriptor that this one has open for writing would for a moment be
/// open in whatever another test starts meanwhile, and what is open for writing cannot be executed.
pub fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let status = Command::new("cp").arg(from.as_ref()).arg(to).status().expect("cp");
    assert!(status.success(), "{status}");
}

/// Makes an executable file which is a script of the shell. Another process writes it, as above.
pub fn script(path: &Path, body: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(body).status().expect("sh");
    assert!(status.success(), "{status}");
}

/// A new directory, for the files of one test.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Waits until a file is there with a whole line in it, and returns that without its end.
pub fn line_in(path: &Path) -> String {
    let mut line = String::new();
    until(&format!("{} is written", path.display()), || {
        line = std::fs::read_to_string(path).unwrap_or_default();
        line.ends_with('\n')
    });
    line.trim_end().to_owned()
}
