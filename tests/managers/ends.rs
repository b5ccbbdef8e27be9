//! How a server ends, and what its clients are told.

use crate::clients::CounterProxy;
use crate::support::{Running, Signals, directory, exists, give, is_alive, run, signal, until};
use pool_runtime::{Dict, List, Manager, Process, Queue, Ran, connection::Address, current_process, managed, task};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::Command;

#[test]
fn it_can_start_again_at_once_at_the_same_address() {
    let directory = directory();
    for address in [Address::from("127.0.0.1:0"), directory.path().join("socket").into()] {
        let mut manager = Manager::builder().address(address).start().unwrap();
        for _ in 0..5 {
            let counter = CounterProxy::new(&manager, 1).unwrap();
            counter.add(1).unwrap();
            let pid = manager.pid().unwrap();
            manager.shutdown().unwrap();
            assert!(!exists(pid));
            manager = Manager::builder().address(manager.address()).start().unwrap();
            // An object of the new server has the same number.
            let other = CounterProxy::new(&manager, 100).unwrap();
            assert!(counter.get().is_err());
            assert_eq!(other.get().unwrap(), 100);
        }
        drop(manager);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn dropping_it_ends_it() {
    let manager = Manager::start().unwrap();
    let (pid, list) = (manager.pid().unwrap(), List::<u32>::new(&manager).unwrap());
    drop(manager);
    assert!(!exists(pid));
    let error = list.push(&1).unwrap_err();
    assert!(error.is_manager_lost() && error.ran() == Ran::No, "{error}");
    let text = error.to_string();
    assert!(text.contains("method `pool_runtime::List::push` cannot reach the manager at `/proc/"), "{text}");
    assert!(text.contains("start another manager"), "{text}");
}

#[test]
fn nothing_of_it_has_a_name() {
    let sockets = || {
        let temporary = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        temporary.filter(|entry| entry.file_name().to_string_lossy().starts_with(".pool-")).count()
    };
    let manager = Manager::start().unwrap();
    until("no socket is left", || sockets() == 0);
    let Address::Path(path) = manager.address().clone() else { panic!("{manager:?}") };
    assert!(std::fs::metadata(path).unwrap().file_type().is_socket());
}

#[test]
fn a_call_that_is_under_way_fails_when_the_server_is_killed() {
    let manager = Manager::start().unwrap();
    let (counter, signals) = (CounterProxy::new(&manager, 0).unwrap(), Signals::new());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| counter.meet(&signals.path("here"), &signals.path("never")));
        signals.await_given("here");
        signal(manager.pid().unwrap(), libc::SIGKILL);
        let error = call.join().unwrap().unwrap_err();
        assert!(error.is_manager_lost() && error.ran() == Ran::Maybe, "{error}");
        assert!(error.to_string().contains("has lost the manager at"), "{error}");
    });
    until("later calls fail too", || counter.get().is_err_and(|error| error.is_manager_lost()));
    let error = manager.shutdown().unwrap_err();
    assert_eq!(error.signal(), Some(libc::SIGKILL), "{error}");
}

#[test]
fn a_call_that_is_under_way_fails_when_it_is_shut_down() {
    let manager = Manager::start().unwrap();
    let (counter, signals) = (CounterProxy::new(&manager, 0).unwrap(), Signals::new());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| counter.meet(&signals.path("here"), &signals.path("never")));
        signals.await_given("here");
        manager.shutdown().unwrap();
        assert!(call.join().unwrap().unwrap_err().is_manager_lost());
    });
    manager.shutdown().unwrap();
}

#[test]
fn ctrl_c_is_not_for_the_server() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    for number in [libc::SIGINT, libc::SIGINT, libc::SIGTERM] {
        signal(manager.pid().unwrap(), number);
        counter.add(1).unwrap();
    }
    assert_eq!(counter.get().unwrap(), 3);
    manager.shutdown().unwrap();
}

#[test]
fn the_server_ends_with_the_program_that_was_killed() {
    let program = env!("CARGO_BIN_EXE_managing");
    let mut running = Running::start(Command::new(program).arg("serve"));
    let lines = running.lines(2);
    let pid = lines[1].parse().unwrap();
    assert!(is_alive(pid));
    running.kill();
    let _ = running.finish();
    until("it ends", || !is_alive(pid));
}

#[test]
fn a_manager_that_was_forgotten_ends_with_main() {
    let ended = run(Command::new(env!("CARGO_BIN_EXE_managing")).arg("forget"));
    let pid = ended.printed().parse().unwrap();
    until("the server has ended", || !is_alive(pid));
}

pub struct Closing(std::path::PathBuf);

#[managed]
impl Closing {
    pub fn new(signal: &Path) -> Self {
        Self(signal.to_owned())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        give(&self.0);
    }
}

#[test]
fn objects_are_dropped_at_an_orderly_end() {
    let signals = Signals::new();
    let manager = Manager::start().unwrap();
    let proxy = ClosingProxy::new(&manager, &signals.path("closed")).unwrap();
    manager.shutdown().unwrap();
    signals.await_given("closed");
    drop(proxy);
}

#[task]
fn hold(proxy: ClosingProxy, holds: &Path) {
    give(holds);
    std::mem::forget(proxy);
    loop {
        std::thread::park();
    }
}

#[test]
fn an_object_goes_with_its_last_proxy_however_that_goes() {
    let signals = Signals::new();
    let manager = Manager::start().unwrap();
    let closing = |name: &str| ClosingProxy::new(&manager, &signals.path(name)).unwrap();
    let is_closed = |name: &str| signals.path(name).exists();
    let first = closing("first");
    let clone = first.clone();
    drop(first);
    drop(closing("second"));
    signals.await_given("second");
    assert!(!is_closed("first"));
    drop(clone);
    signals.await_given("first");
    // In another process, which is killed; on a queue that nobody reads; in another object.
    let process = Process::new(hold::call(closing("held"), &signals.path("holds"))).start().unwrap();
    let queue = Queue::unbounded().unwrap();
    queue.put(&closing("queued")).unwrap();
    let list = List::new(&manager).unwrap();
    list.push(&closing("kept")).unwrap();
    manager.publish("published", &closing("published")).unwrap();
    signals.await_given("holds");
    drop(closing("last"));
    signals.await_given("last");
    assert!(["held", "queued", "kept", "published"].into_iter().all(|name| !is_closed(name)));
    process.kill().unwrap();
    drop(process);
    signals.await_given("held");
    drop(queue);
    signals.await_given("queued");
    let back: ClosingProxy = list.pop().unwrap().unwrap();
    drop(closing("last again"));
    signals.await_given("last again");
    assert!(!is_closed("kept") && !is_closed("published"));
    drop(back);
    signals.await_given("kept");
    manager.shutdown().unwrap();
    signals.await_given("published");
}

/// Whoever calls while it ends gets an error that says so, and nothing else.
#[test]
fn calls_while_it_ends_succeed_or_find_it_gone() {
    for _ in 0..10 {
        let manager = Manager::start().unwrap();
        let counter = CounterProxy::new(&manager, 0).unwrap();
        std::thread::scope(|scope| {
            let callers = [(); 3].map(|()| {
                scope.spawn(|| {
                    loop {
                        match counter.add(1) {
                            Ok(_) => {}
                            Err(error) if error.is_manager_lost() => return,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            });
            until("they call", || counter.get().unwrap() > 20);
            manager.shutdown().unwrap();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        });
    }
}

#[test]
fn only_who_has_started_it_shuts_it_down() {
    let manager = Manager::start().unwrap();
    let other = Manager::connect(manager.address(), current_process().authkey().unwrap()).unwrap();
    assert_eq!(other.pid(), None);
    assert!(other.shutdown().unwrap_err().to_string().contains("only who has started a manager"));
    drop(other);
    Dict::<u32, u32>::new(&manager).unwrap().insert(&1, &1).unwrap();
}

#[test]
fn an_address_that_cannot_be_had_is_told() {
    for (address, why) in [
        ("127.0.0.1:70000", "neither `host:port`"),
        ("/nowhere/socket", "there is no such directory"),
        ("192.0.2.1:0", "no address of this machine"),
    ] {
        let error = Manager::builder().address(address).start().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = Manager::connect("/nowhere/socket", current_process().authkey().unwrap()).unwrap_err();
    assert!(error.is_manager_lost() && error.to_string().contains("no such file"), "{error}");
}

/// It has a copy of everything that is open here.
#[test]
fn a_forked_child_does_not_keep_the_server() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    counter.add(1).unwrap();
    // SAFETY: the child calls nothing but what may be called after a fork in a process of several threads.
    let child = unsafe {
        match libc::fork() {
            0 => loop {
                libc::pause();
            },
            child => child,
        }
    };
    assert!(child > 0);
    // It would be an error if the server had to be killed.
    let ended = manager.shutdown();
    // SAFETY: plain system calls, with a child that nobody else waits for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    ended.unwrap();
}

#[test]
fn a_clone_of_the_manager_keeps_the_server() {
    let manager = Manager::start().unwrap();
    let clone = manager.clone();
    let pid = manager.pid().unwrap();
    drop(manager);
    assert!(exists(pid) && clone.pid() == Some(pid));
    assert_eq!(CounterProxy::new(&clone, 1).unwrap().add(1).unwrap(), 2);
    drop(clone);
    assert!(!exists(pid));
}

/// The object's method goes on until the server ends, and then the object is dropped all the same.
pub struct Busy {
    closed: std::path::PathBuf,
}

#[managed]
impl Busy {
    pub fn new(closed: &Path) -> Self {
        Self { closed: closed.to_owned() }
    }

    pub fn work(&self, begun: &Path, goes_on: &Path) {
        give(begun);
        crate::support::await_given(goes_on);
    }
}

/// Lets a method of another object go on when it is dropped.
impl Drop for Busy {
    fn drop(&mut self) {
        give(&self.closed);
    }
}

#[test]
fn an_object_in_use_is_dropped_when_its_method_has_returned() {
    let (signals, manager) = (Signals::new(), Manager::start().unwrap());
    let busy = BusyProxy::new(&manager, &signals.path("closed")).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| busy.work(&signals.path("begun"), &signals.path("go on")));
        signals.await_given("begun");
        let ending = scope.spawn(|| manager.shutdown().unwrap());
        until("it answers nobody any more", || List::<u8>::new(&manager).is_err());
        assert!(!signals.path("closed").exists());
        signals.give("go on");
        assert!(call.join().unwrap().unwrap_err().is_manager_lost());
        ending.join().unwrap();
    });
    assert!(signals.path("closed").exists());
}

#[test]
fn an_old_manager_makes_and_opens_nothing_in_another_server() {
    let directory = directory();
    let manager = Manager::builder().address(directory.path().join("socket")).start().unwrap();
    let old = Manager::connect(manager.address(), current_process().authkey().unwrap()).unwrap();
    let address = manager.address().clone();
    manager.shutdown().unwrap();
    let manager = Manager::builder().address(address).start().unwrap();
    manager.publish("it", &CounterProxy::new(&manager, 5).unwrap()).unwrap();
    for error in [CounterProxy::new(&old, 1).unwrap_err(), CounterProxy::open(&old, "it").unwrap_err()] {
        assert!(error.to_string().contains("an earlier server at this address, which is gone"), "{error}");
    }
}

fn limit_of(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes there, and that is a limit.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limit) }, 0);
    limit
}

fn set_limit(resource: libc::__rlimit_resource_t, current: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: current, ..limit_of(resource) };
    // SAFETY: it reads a limit that is there.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

#[task]
fn call_without_descriptors(counter: CounterProxy) -> (bool, String, u64) {
    let before = limit_of(libc::RLIMIT_NOFILE).rlim_cur;
    set_limit(libc::RLIMIT_NOFILE, 0);
    let error = counter.get().unwrap_err();
    set_limit(libc::RLIMIT_NOFILE, before);
    (error.is_manager_lost(), error.to_string(), counter.get().unwrap())
}

#[test]
fn what_a_client_has_no_resources_for_is_not_said_of_the_server() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 5).unwrap();
    let process = Process::new(call_without_descriptors::call(counter)).start().unwrap();
    let (is_lost, text, n) = process.join().unwrap();
    assert!(!is_lost && text.to_lowercase().contains("too many open files"), "{text}");
    assert_eq!(n, 5);
}

/// Decides how much memory its server may have.
pub struct Room;

#[managed]
impl Room {
    pub fn new() -> Self {
        Self
    }

    /// There is none for the stack of a thread.
    pub fn narrow(&self) {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split_whitespace().next().unwrap().parse().unwrap();
        set_limit(libc::RLIMIT_AS, pages * 4096 + (2 << 20));
    }

    pub fn widen(&self) {
        set_limit(libc::RLIMIT_AS, limit_of(libc::RLIMIT_AS).rlim_max);
    }
}

#[test]
fn a_server_without_a_thread_for_a_client_says_so() {
    let manager = Manager::start().unwrap();
    let room = RoomProxy::new(&manager).unwrap();
    room.narrow().unwrap();
    let key = current_process().authkey().unwrap();
    let error = Manager::connect(manager.address(), key.clone()).unwrap_err();
    assert!(!error.is_manager_lost() && error.ran() == Ran::No, "{error}");
    assert!(error.to_string().contains("cannot start a thread"), "{error}");
    room.widen().unwrap();
    Manager::connect(manager.address(), key).unwrap();
}
