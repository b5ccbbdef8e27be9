//! A running process can be awaited, and calls back when it has ended, before anyone else is told.

use crate::support::{Signals, await_given, block_on, until};
use pool_runtime::{Process, RunningProcess, task};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[task]
fn wait(release: &Path) -> u32 {
    await_given(release);
    7
}

#[task]
fn double(n: u32) -> u32 {
    assert_ne!(n, 13, "unlucky");
    2 * n
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<R>(process: &mut RunningProcess<R>, waker: &Waker) -> Poll<pool_runtime::Result<R>> {
    Pin::new(process).poll(&mut Context::from_waker(waker))
}

#[test]
fn it_can_be_awaited() {
    let start = |n| Process::new(double::call(n)).start().unwrap();
    assert_eq!(block_on(async { start(start(4).await? + 1).await }).unwrap(), 18);
    let error = block_on(start(13)).unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("unlucky"), "{error}");
    block_on(Process::idle().start().unwrap()).unwrap();
}

#[test]
fn the_latest_waker_is_woken_once_and_the_result_stays() {
    let signals = Signals::new();
    let mut process = Process::new(wait::call(&signals.path("go"))).start().unwrap();
    let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
    for count in [&first, &second, &second] {
        assert!(poll(&mut process, &count.clone().into()).is_pending());
    }
    signals.give("go");
    until("it wakes", || second.0.load(Ordering::SeqCst) > 0);
    for _ in 0..2 {
        let Poll::Ready(returned) = poll(&mut process, Waker::noop()) else { panic!("it woke") };
        assert_eq!(returned.unwrap(), 7);
    }
    assert_eq!(process.join().unwrap(), 7);
    assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn callbacks_run_in_order_before_others_are_told() {
    let signals = Signals::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut process = Process::new(wait::call(&signals.path("go"))).start().unwrap();
    for number in 0..3 {
        let said = said.clone();
        process = process.on_done(move |result| {
            assert_eq!(*result.as_ref().unwrap(), 7);
            std::thread::yield_now();
            said.lock().unwrap().push(number);
        });
    }
    assert_eq!(process.join_timeout(Duration::ZERO).unwrap(), None);
    signals.give("go");
    assert_eq!(process.join().unwrap(), 7);
    assert_eq!(*said.lock().unwrap(), [0, 1, 2]);
    // At once, on this thread.
    let (here, late) = (std::thread::current().id(), said.clone());
    let process = process.on_done(move |_| {
        assert_eq!(std::thread::current().id(), here);
        late.lock().unwrap().push(3);
    });
    assert_eq!(*said.lock().unwrap(), [0, 1, 2, 3]);
    assert_eq!(process.join().unwrap(), 7, "as often as one likes");
}

#[test]
fn a_callback_that_is_not_done_holds_back_the_result_and_one_that_panics_does_not() {
    let (release, released) = mpsc::channel::<()>();
    let process = Process::new(double::call(13)).start().unwrap();
    let mut process = process.on_done(|_| panic!("a panic of a callback, by design")).on_done(move |result| {
        assert!(result.is_err());
        released.recv().unwrap();
    });
    until("it ends", || !process.is_alive());
    assert!(process.join_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert!(poll(&mut process, Waker::noop()).is_pending());
    release.send(()).unwrap();
    assert!(process.join().unwrap_err().is_panic());
}

#[test]
fn a_killed_process_wakes_and_calls_back() {
    let signals = Signals::new();
    let (sender, receiver) = mpsc::channel();
    let process = Process::new(wait::call(&signals.path("never"))).start().unwrap();
    let process = process.on_done(move |result| sender.send(result.as_ref().unwrap_err().signal()).unwrap());
    process.kill().unwrap();
    assert_eq!(block_on(process).unwrap_err().signal(), Some(9));
    assert_eq!(receiver.try_recv(), Ok(Some(9)));
}
