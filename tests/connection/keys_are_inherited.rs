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
    AuthKey::new(key).set_current().expect("it is a key");
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

/// How often something is in the writable memory of this process, apart from the buffer with which it looks.
fn copies_of(wanted: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let memory = std::fs::File::open("/proc/self/mem").expect("this process's memory");
    let mut buffer = vec![0; 1 << 16];
    let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a list");
    // By address: a mapping that grows while the list is read can be in it twice.
    let mut found = std::collections::BTreeSet::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [mut at, end] = [from, to].map(|number| u64::from_str_radix(number, 16).expect("an address"));
        // What lies across the border of two pieces is read with both.
        while let Some(read) = memory.read_at(&mut buffer, at).ok().filter(|read| *read > wanted.len() && at < end) {
            let read = read.min((end - at) as usize);
            let hits = buffer[..read].windows(wanted.len()).enumerate().filter(|(_, bytes)| *bytes == wanted);
            found.extend(hits.map(|(offset, _)| at + offset as u64).filter(|hit| !own.contains(hit)));
            at += if at + (read as u64) < end { (read - wanted.len() + 1) as u64 } else { read as u64 };
        }
    }
    found.len()
}

/// How many copies of its key it has.
#[task]
fn copies_of_the_key() -> usize {
    let key = current_process().authkey().expect("a key");
    copies_of(key.as_bytes().last_chunk::<16>().expect("so many bytes"))
}

/// How many copies of its key a process has before it starts another one, and afterwards; and how many that one has.
#[task]
fn copies_before_and_after(length: usize) -> [usize; 3] {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at * at / 7 + at) as u8).collect();
    bytes[length - 32..].copy_from_slice(AuthKey::random().expect("bytes").as_bytes());
    AuthKey::from(bytes).set_current().expect("a key");
    let key = current_process().authkey().expect("a key");
    // Its beginning may be overwritten by chance, where memory is used anew.
    let part = key.as_bytes().last_chunk::<16>().expect("so many bytes");
    let before = copies_of(part);
    let of_child = Process::new(copies_of_the_key::call()).start().expect("it starts").join().expect("a number");
    [before, copies_of(part), of_child]
}

#[test]
fn starting_a_process_leaves_no_copy_behind() {
    for length in [32, 1000, 64 << 10] {
        let process = Process::new(copies_before_and_after::call(length)).start().unwrap();
        let [before, after, of_child] = process.join().unwrap();
        assert_eq!((after, of_child), (before, 1), "of {length} bytes, and {before} before");
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
