//! What the system itself takes, and what it says about processes.

use crate::Result;
use std::{
    fs,
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The variable that makes a process end at once, or, if it says so, when its standard input ends.
const MARK: &str = "VERSUS_EMPTY_PROGRAM";

/// The empty program: first thing in `main`.
pub fn end_if_asked() {
    let Ok(mark) = std::env::var(MARK) else { return };
    if mark == "wait" {
        let _ = std::io::stdin().read(&mut [0]);
    }
    std::process::exit(0);
}

/// Start and end of this program without anything in between.
pub fn empty_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(MARK, "end");
    Ok(command)
}

pub fn start_and_wait(command: &mut Command, times: u64) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..times {
        command.status()?;
    }
    Ok(begun.elapsed())
}

/// A process of this program that does nothing; it ends when it is dropped.
pub struct Empty(Child);

impl Empty {
    pub fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Self(command.env(MARK, "wait").stdin(Stdio::piped()).spawn()?))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Copies memory that has been used before.
pub struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Copy {
    pub fn new(size: usize) -> Self {
        Self { from: vec![1; size], to: vec![2; size] }
    }

    pub fn copy(&mut self, times: u64) -> Result<Duration> {
        let begun = Instant::now();
        for _ in 0..times {
            self.to.copy_from_slice(std::hint::black_box(&self.from));
            std::hint::black_box(&mut self.to);
        }
        Ok(begun.elapsed())
    }
}

/// The processes whose parent this is.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // One that has ended meanwhile cannot be read.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name, in parentheses, may contain anything.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// How much time of a processor all threads of a process have used.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: the pointer is to a local variable, which it writes.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(std::io::Error::from_raw_os_error(error).into());
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// How much memory nobody but this process uses, in bytes.
pub fn private_memory(pid: u32) -> Result<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let lines = smaps.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024)
}

/// How much memory this process has, in bytes.
pub fn resident_memory() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split_whitespace().nth(1).ok_or("statm is empty")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

pub fn open_descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Allows as many open files as this process may allow itself.
pub fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
