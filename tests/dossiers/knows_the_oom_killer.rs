//! A worker that the kernel's OOM killer ends is told from one that somebody else killed.
//!
//! It takes a cgroup in which memory can run out. `POOL_TEST_CGROUP` names a directory that was made for that: one of
//! cgroup v2 in which the memory controller is enabled for children, or one of v1's memory hierarchy. Without it, only
//! the rest is tested: to make a cgroup where somebody else runs the machine is not a test's business.

use crate::support::{over_every_transport, pool};
use pool_runtime::{OomKill, Pool, Ran, task};
use std::path::{Path, PathBuf};

over_every_transport! {
    a_kill_is_no_want_of_memory,
    a_kill_for_want_of_memory_is_told,
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

#[task]
fn die() {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGKILL) };
}

#[task]
fn take_memory(bytes: usize) -> usize {
    vec![1_u8; bytes].iter().map(|byte| usize::from(*byte)).sum()
}

fn a_kill_is_no_want_of_memory() {
    let error = pool(1).apply(die::call()).unwrap_err();
    // On a machine that kills others meanwhile, it may seem so; the kernel's log never says it.
    assert_ne!(error.dossier().unwrap().oom_killer(), Some(OomKill::Certain), "{error}");
}

/// A cgroup with so much memory, for as long as it lives.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(parent: &Path, bytes: usize) -> Self {
        let path = parent.join(format!("pool-test-{}-{}", std::process::id(), crate::support::transport_name()));
        std::fs::create_dir(&path).expect("a cgroup");
        let cgroup = Self(path);
        let (limit, swap) = match cgroup.0.join("memory.max").exists() {
            true => ("memory.max", ("memory.swap.max", "0".to_owned())),
            false => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes.to_string())),
        };
        std::fs::write(cgroup.0.join(limit), bytes.to_string()).expect("a limit");
        // A kernel may have no swap to count.
        let _ = std::fs::write(cgroup.0.join(swap.0), swap.1);
        cgroup
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process is moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        crate::support::until("the cgroup is removed", || std::fs::remove_dir(&self.0).is_ok());
    }
}

fn a_kill_for_want_of_memory_is_told() {
    let Some(parent) = std::env::var_os("POOL_TEST_CGROUP") else {
        println!("skipped: POOL_TEST_CGROUP names no cgroup in which this test may make others");
        return;
    };
    let cgroup = Cgroup::new(Path::new(&parent), 64 << 20);
    let pool: Pool = pool(1);
    cgroup.take(pool.apply(pid::call()).unwrap());
    let error = pool.apply(take_memory::call(256 << 20)).unwrap_err();
    assert!(error.is_out_of_memory() && error.is_worker_lost(), "{error}");
    assert_eq!((error.signal(), error.ran()), (Some(libc::SIGKILL), Ran::Yes));
    assert!(error.to_string().contains("OOM killer"), "{error}");
    assert!(error.dossier().unwrap().oom_killer().is_some());
    assert_eq!(pool.apply(take_memory::call(1 << 20)).unwrap(), 1 << 20, "the next worker is outside of it");
    drop(pool);
}
