//! A job that waits in a worker that dies is run elsewhere, once.

use crate::support::{over_every_transport, pids, pool, signal, until};
use pool_runtime::{Ran, task};
use std::{fs, io::Write as _, path::Path};

over_every_transport! { a_call_that_has_not_started_is_run_elsewhere_and_once }

#[task]
fn note(file: &Path, line: u32) -> u32 {
    let mut file = fs::File::options().append(true).create(true).open(file).expect("the file");
    writeln!(file, "{line}").expect("the file");
    line
}

#[task]
fn begin_and_hang(sign: &Path) {
    fs::write(sign, "").expect("the sign");
    loop {
        std::thread::park();
    }
}

fn a_call_that_has_not_started_is_run_elsewhere_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sign) = (dir.path().join("log"), dir.path().join("sign"));
    let pool = pool(1);
    // Calls that are known to be short are sent ahead, behind the one that hangs.
    pool.map(|n| note::call(&log, n), 0..50).unwrap();
    let hanging = pool.apply_async(begin_and_hang::call(&sign));
    let behind: Vec<_> = (100..120).map(|n| pool.apply_async(note::call(&log, n))).collect();
    until("the call hangs", || sign.exists());
    signal(pids(&pool)[0], libc::SIGKILL);
    let error = hanging.get().unwrap_err();
    assert_eq!((error.signal(), error.ran()), (Some(libc::SIGKILL), Ran::Yes));
    for (n, job) in (100..120).zip(behind) {
        assert_eq!(job.get().unwrap(), n);
    }
    let lines: Vec<u32> = fs::read_to_string(&log).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let expected: Vec<u32> = (0..50).chain(100..120).collect();
    assert_eq!(lines, expected, "each ran once, in order");
}
