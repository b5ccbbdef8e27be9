//! The key of a process: its workers, its processes and theirs have the same, by no way that others can see.

use crate::peer::{bound, tcp};
use crate::support::Signals;
use pool_runtime::{
    Backend, Pool, Process, Sandbox,
    connection::{AuthKey, Client, Listener},
    current_process, parent_process, task,
};
use std::path::Path;

fn own() -> Vec<u8> {
    current_process().authkey().expect("a key").as_bytes().to_vec()
}

/// The keys of this process, and of what it starts, and what that starts.
#[task]
fn keys_below(levels: u32) -> Vec<Vec<u8>> {
    let mut keys = vec![own()];
    if levels > 0 {
        keys.extend(Process::new(keys_below::call(levels - 1)).start().expect("it starts").join().expect("keys"));
    }
    keys
}

#[task]
fn connect_and_say_hello(address: &str) -> Result<(), String> {
    let connection = Client::connect(address).map_err(|error| error.to_string())?;
    connection.send_bytes(b"hello").map_err(|error| error.to_string())
}

#[test]
fn everybody_below_has_the_same() {
    let key = own();
    assert_eq!((key.len(), own()), (32, key.clone()));
    assert_eq!(Process::new(keys_below::call(2)).start().unwrap().join().unwrap(), vec![key.clone(); 3]);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(keys_below::call, [0, 1]).unwrap(), [vec![key.clone(); 1], vec![key.clone(); 2]]);
    let threads = Pool::builder().processes(1).backend(Backend::Threads).build().unwrap();
    assert_eq!(threads.apply(keys_below::call(0)).unwrap(), [key]);
}

#[test]
fn a_worker_connects_to_its_parent() {
    let listener = bound(Listener::builder());
    let address = tcp(&listener).to_string();
    let pool = Pool::new(1).unwrap();
    let job = pool.apply_async(connect_and_say_hello::call(&address));
    assert_eq!(listener.accept().unwrap().recv_bytes().unwrap().unwrap(), b"hello");
    assert_eq!(job.get().unwrap(), Ok(()));
}

#[test]
fn a_sandbox_keeps_it_out_unless_it_is_asked_for() {
    let key = own();
    let key_in = |sandbox: Sandbox| {
        let process = Process::new(keys_below::call(0)).sandbox(sandbox).start().unwrap();
        process.join().unwrap().remove(0)
    };
    let (one, other) = (key_in(Sandbox::strict()), key_in(Sandbox::strict()));
    assert!(one.len() == 32 && one != key && one != other);
    assert_ne!(key_in(Sandbox::none().network(false)), key);
    assert_eq!(key_in(Sandbox::strict().inherit_authkey(true)), key);
    // Limits alone make nobody a stranger.
    assert_eq!(key_in(Sandbox::none().core_size(0)), key);
    assert_ne!(key_in(Sandbox::none().inherit_authkey(false)), key);

    let listener = bound(Listener::builder());
    let address = tcp(&listener).to_string();
    let sandbox = Sandbox::strict().network(true);
    let pool = Pool::builder().processes(1).sandbox(sandbox).build().unwrap();
    let job = pool.apply_async(connect_and_say_hello::call(&address));
    assert!(listener.accept().unwrap_err().is_authentication());
    let refused = job.get().unwrap().unwrap_err();
    assert!(refused.contains("it refused the key of this side"), "{refused}");
}

#[task]
fn set_and_pass_on(key: &str) -> Vec<Vec<u8>> {
    AuthKey::new(key).set_current();
    keys_below(1)
}

#[test]
fn a_key_that_is_set_is_passed_on() {
    let before = own();
    let process = Process::new(set_and_pass_on::call("mine")).start().unwrap();
    assert_eq!(process.join().unwrap(), [b"mine", b"mine"]);
    assert_eq!(own(), before);
}

#[task]
fn ask_for_the_parents() -> String {
    parent_process().expect("a parent").authkey().unwrap_err().to_string()
}

#[test]
fn nobody_tells_the_key_of_another_process() {
    let text = Process::new(ask_for_the_parents::call()).start().unwrap().join().unwrap();
    assert!(text.contains("cannot tell the key of process `MainProcess`"), "{text}");
}

#[task]
fn say_that_it_runs_and_wait(runs: &Path, goes_on: &Path) {
    own();
    crate::support::give(runs);
    crate::support::await_given(goes_on);
}

/// The key as it may have been written: its bytes, or as text.
fn shows(text: &[u8], key: &[u8]) -> bool {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{key:?}");
    let contains = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    // Eight bytes of it are too many.
    key.chunks_exact(8).any(contains)
        || contains(hex.as_bytes())
        || contains(hex.to_uppercase().as_bytes())
        || contains(list.trim_matches(['[', ']']).as_bytes())
}

#[test]
fn it_is_not_where_others_look() {
    let (key, signals) = (own(), Signals::new());
    assert!(shows(format!("{:02x?} {key:?}", key).as_bytes(), &key) && !shows(b"nothing", &key));
    let [runs, goes_on] = ["runs", "go on"].map(|name| signals.path(name));
    let call = say_that_it_runs_and_wait::call(&runs, &goes_on);
    let process = Process::new(call).start().unwrap();
    signals.await_given("runs");
    for file in ["environ", "cmdline"] {
        for pid in [process.pid(), std::process::id()] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!text.is_empty() && !shows(&text, &key), "{file} of {pid}");
        }
    }
    signals.give("go on");
    process.join().unwrap();
    let authkey = current_process().authkey().unwrap();
    let listener = Listener::builder().authkey(authkey.clone()).bind("127.0.0.1:0").unwrap();
    let client = Client::builder().authkey(authkey.clone());
    for text in [format!("{authkey:?} {listener:?} {client:?}"), format!("{authkey:#?} {listener:#?} {client:#?}")] {
        assert!(text.contains("AuthKey(…)") && !shows(text.as_bytes(), &key), "{text}");
    }
}

#[task]
fn crash_with_the_key() {
    own();
    std::process::abort();
}

#[test]
fn it_is_in_no_dossier() {
    let (key, directory) = (own(), crate::support::directory());
    let pool = Pool::builder().processes(1).dossiers(directory.path()).build().unwrap();
    let error = pool.apply(crash_with_the_key::call()).unwrap_err();
    let saved = error.dossier().and_then(|dossier| dossier.saved()).expect("a file").to_owned();
    assert!(!shows(&std::fs::read(saved).unwrap(), &key) && !shows(format!("{error:?}").as_bytes(), &key));
}
