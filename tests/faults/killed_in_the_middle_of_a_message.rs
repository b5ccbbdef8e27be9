//! A worker is killed while an argument larger than any buffer is on its way, and while such a result is.

use crate::support::{over_every_transport, pids, pool, signal, until};
use pool_runtime::{Process, task};

over_every_transport! {
    an_argument_on_its_way_to_a_dead_worker_goes_to_the_next_one,
    a_result_on_its_way_from_a_dead_worker_is_lost_and_nothing_else,
}

const LARGE: usize = 32 << 20;

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn filled(length: usize) -> Vec<u8> {
    vec![7; length]
}

fn an_argument_on_its_way_to_a_dead_worker_goes_to_the_next_one() {
    let pool = pool(1);
    let first = pids(&pool)[0];
    signal(first, libc::SIGSTOP);
    let mut job = pool.apply_async(length::call(&vec![1; LARGE]));
    // It does not read: whoever sends is stuck in the middle.
    assert!(job.get_timeout(std::time::Duration::from_millis(100)).unwrap_err().is_timeout());
    signal(first, libc::SIGKILL);
    assert_eq!(job.get().unwrap(), LARGE);
    assert_ne!(pids(&pool)[0], first);
}

fn a_result_on_its_way_from_a_dead_worker_is_lost_and_nothing_else() {
    let pool = pool(1);
    let mut lost = 0;
    for round in 0..40 {
        until("there is a worker", || !pids(&pool).is_empty());
        let pid = pids(&pool)[0];
        let job = pool.apply_async(filled::call(LARGE));
        // Somewhere between the beginning and the end.
        std::thread::sleep(std::time::Duration::from_millis(round));
        signal(pid, libc::SIGKILL);
        match job.get() {
            Ok(value) => assert_eq!(value.len(), LARGE),
            Err(error) => {
                assert!(error.is_worker_lost(), "{error}");
                lost += 1;
            }
        }
        assert_eq!(pool.apply(length::call(&[1, 2, 3])).unwrap(), 3);
    }
    assert!(lost > 0, "no worker was hit in time");
}

#[test]
fn a_process_is_killed_while_either_is_on_its_way() {
    // It has not begun to read its argument, and whoever started it does not wait for that.
    let process = Process::new(length::call(&vec![1; LARGE])).start().unwrap();
    signal(process.pid(), libc::SIGSTOP);
    process.kill().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(libc::SIGKILL));
    let mut lost = 0;
    for round in 0..20 {
        let process = Process::new(filled::call(LARGE)).start().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round));
        process.kill().unwrap();
        match process.join() {
            Ok(value) => assert_eq!(value.len(), LARGE),
            Err(error) => {
                assert_eq!(error.signal(), Some(libc::SIGKILL), "{error}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "no process was hit in time");
}
