//! Whether the kernel's OOM killer, which ends processes where memory has run out, has ended a process.
//!
//! The kernel's log names whom it killed, if this process may read it and shares the kernel's numbering of processes.
//! Otherwise, counters of the machine and of the process's cgroup tell that some process was killed.

use crate::locks::lock;
use crate::os::{OomKill, monotonic};
use rustix::io::{Errno, read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, io};

#[derive(Debug)]
pub(crate) struct OomWatch {
    pid: u32,
    /// Since the machine has started.
    began: Duration,
    counters: Arc<Counters>,
}

const MACHINE: &str = "/proc/vmstat";

/// The clocks of the kernel's log and of this process differ by less.
const CLOCKS: Duration = Duration::from_secs(5);

type Counters = Vec<(PathBuf, u64)>;

/// Reads the counters, once for all processes that begin to work at about the same time, as reading takes long.
fn counters() -> Arc<Counters> {
    const SAME_TIME: Duration = Duration::from_secs(1);
    static LATEST: Mutex<Option<(Instant, Arc<Counters>)>> = Mutex::new(None);
    let mut latest = lock(&LATEST);
    if let Some((_, counters)) = latest.as_ref().filter(|(at, _)| at.elapsed() < SAME_TIME) {
        return counters.clone();
    }
    // Processes are in the cgroup of their parent, or in one below.
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = [PathBuf::from(MACHINE)].into_iter().chain(cgroup_files(&memberships));
    let counters = Arc::new(files.filter_map(|file| Some((file.clone(), read_count(&file)?))).collect());
    *latest = Some((Instant::now(), Arc::clone(&counters)));
    counters
}

impl OomWatch {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid, began: Duration::from_nanos(monotonic()), counters: counters() }
    }

    /// To be called after something other than this process has killed it.
    pub(crate) fn ask(&self) -> Option<OomKill> {
        let risen = |of_machine: bool| {
            let files = self.counters.iter().filter(|(file, _)| (file.as_path() == Path::new(MACHINE)) == of_machine);
            files.filter_map(|(file, before)| Some(read_count(file)? > *before)).reduce(|one, other| one || other)
        };
        let (group, machine) = (risen(false), risen(true));
        // The machine's counter counts all kills; reading the log takes longer.
        let possible = group == Some(true) || machine == Some(true) || (group, machine) == (None, None);
        if possible { verdict(self.is_logged().ok(), group, machine) } else { None }
    }

    /// Does the kernel's log say that it has killed this process? An error if the log cannot be read back to when the
    /// process began, or numbers processes differently.
    fn is_logged(&self) -> io::Result<bool> {
        const FIRST_NAMESPACE: &str = "pid:[4026531836]";
        /// More records than a log has.
        const RECORDS: usize = 1 << 16;
        if fs::read_link("/proc/self/ns/pid")?.to_str() != Some(FIRST_NAMESPACE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let log = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        let mut record = [0; 1 << 13];
        // Is nothing missing since the process began?
        let mut whole = None;
        for _ in 0..RECORDS {
            match read(&log, &mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    whole.get_or_insert_with(|| reaches_back(&record, self.began));
                    if killed(&record).is_some_and(|(at, pid)| pid == self.pid && at + CLOCKS >= self.began) {
                        return Ok(true);
                    }
                }
                // It was overwritten before it was read: the next one can be read.
                Err(Errno::PIPE) => whole = Some(false),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if whole == Some(true) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// What follows from the log, if all of it could be read, and from whether the counters of the cgroup and of the
/// machine have risen, if there are any.
fn verdict(logged: Option<bool>, group: Option<bool>, machine: Option<bool>) -> Option<OomKill> {
    match (logged, group.or(machine)) {
        (Some(true), _) => Some(OomKill::Certain),
        (None, Some(true)) => Some(OomKill::Probable),
        _ => None,
    }
}

/// Is this record, the first that the log still has, the very first, or from before that time?
fn reaches_back(record: &str, began: Duration) -> bool {
    let mut numbers = record.split([',', ';']).skip(1).map(|number| number.parse::<u64>().ok());
    let (sequence, micros) = (numbers.next().flatten(), numbers.next().flatten());
    sequence == Some(0) || micros.is_some_and(|micros| Duration::from_micros(micros) + CLOCKS < began)
}

/// When and whom the OOM killer has killed, if this record of the log says so.
fn killed(record: &str) -> Option<(Duration, u32)> {
    let (head, message) = record.split_once(';')?;
    let [priority, _, micros, ..] = head.split(',').collect::<Vec<_>>()[..] else { return None };
    let (before, behind) = message.split_once("Killed process ")?;
    // Only from the kernel itself: what programs write into the log has another facility.
    if priority.parse::<u32>().ok()? >> 3 != 0 || !before.to_ascii_lowercase().contains("out of memory") {
        return None;
    }
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((Duration::from_micros(micros.parse().ok()?), digits.parse().ok()?))
}

/// How often the OOM killer has killed, by one of the files that count it.
fn read_count(file: &Path) -> Option<u64> {
    count(&fs::read_to_string(file).ok()?)
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The files that count for the cgroups of a process, by what it says of them.
fn cgroup_files(memberships: &str) -> Vec<PathBuf> {
    let file = |line: &str| {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { return None };
        let under = |root: &str, name: &str| PathBuf::from(root).join(path.trim_start_matches('/')).join(name);
        if controllers.is_empty() {
            let unified = under("/sys/fs/cgroup", "memory.events");
            return Some(if unified.exists() { unified } else { under("/sys/fs/cgroup/unified", "memory.events") });
        }
        let memory = controllers.split(',').any(|name| name == "memory");
        memory.then(|| under("/sys/fs/cgroup/memory", "memory.oom_control"))
    };
    memberships.lines().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_whom_it_killed() {
        let at = Duration::from_micros(123_456_789);
        let global = "3,1234,123456789,-;Out of memory: Killed process 4711 (worker) total-vm:1kB, anon-rss:1kB";
        let cgroup = "3,1234,123456789,-;Memory cgroup out of memory: Killed process 4711 (a;b) total-vm:1kB";
        let flags = "3,1234,123456789,-,caller=T1;Memory cgroup out of memory: Killed process 4711 (x)\n KEY=value\n";
        for record in [global, cgroup, flags] {
            assert_eq!(killed(record), Some((at, 4711)), "{record}");
        }
        for other in [
            "",
            ";",
            "3,1,2",
            "3,1,x,-;Out of memory: Killed process 1 (x)",
            "3,1,2,-;Killed process 1 (x)",
            "3,1,2,-;Out of memory: Killed process  (x)",
            "3,1,2,-;Out of memory: Killed process 99999999999 (x)",
            "3,1,2,-;worker invoked oom-killer: gfp_mask=0xcc0",
            // Facility 1: somebody has written it.
            "12,1,2,-;Out of memory: Killed process 1 (x)",
        ] {
            assert_eq!(killed(other), None, "{other}");
        }
    }

    #[test]
    fn counters_are_found_and_read() {
        assert_eq!(count("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 3\n"), Some(1));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(count("pgfault 1\noom_kill 12\nnuma_hit 1\n"), Some(12));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(count("oom_kill x\n"), None);
        let files = cgroup_files("9:name=systemd:/\n4:cpu,memory:/some/where\n3:cpuset:/\nnonsense\n");
        assert_eq!(files, [PathBuf::from("/sys/fs/cgroup/memory/some/where/memory.oom_control")]);
        let files = cgroup_files("0::/user.slice/a:b\n");
        assert!(files.len() == 1 && files[0].ends_with("user.slice/a:b/memory.events"), "{files:?}");
    }

    #[test]
    fn what_the_log_does_not_say_did_not_happen() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdict(yes, no, yes), Some(OomKill::Certain));
        // Somebody was killed, and it was another one.
        assert_eq!(verdict(no, yes, yes), None);
        assert_eq!(verdict(no, None, yes), None);
        // Nobody can read the log: who was killed was in this cgroup, or elsewhere.
        assert_eq!(verdict(None, yes, yes), Some(OomKill::Probable));
        assert_eq!(verdict(None, no, yes), None);
        assert_eq!(verdict(None, None, yes), Some(OomKill::Probable));
        assert_eq!(verdict(None, None, None), None);
    }

    #[test]
    fn a_log_that_begins_too_late_is_not_whole() {
        let began = Duration::from_secs(100);
        assert!(reaches_back("6,0,123000000,-;Linux version", began));
        assert!(reaches_back("6,17,80000000,-;text", began));
        for other in ["6,17,99000000,-;text", "6,17,123000000,-;text", "6,x,y,-;text", "", "6"] {
            assert!(!reaches_back(other, began), "{other}");
        }
    }

    #[test]
    fn nobody_was_killed_just_now() {
        let watch = OomWatch::new(std::process::id());
        assert_ne!(watch.ask(), Some(OomKill::Certain));
    }
}
