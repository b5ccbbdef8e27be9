//! A manager that another program has started.

use crate::support::{Running, run};
use pool_runtime::{Dict, Manager, connection::AuthKey, managed};
use std::process::Command;

/// The program has an object of this name, too, with other functions for clients.
pub struct Hits {
    n: u64,
}

#[managed(name = "hits")]
impl Hits {
    pub fn new() -> Self {
        Self { n: 0 }
    }

    pub fn hit(&mut self) -> u64 {
        self.n += 1;
        self.n
    }

    /// The program does not let clients call it.
    pub fn secret(&self) -> u64 {
        self.n
    }

    /// The program's takes another type.
    pub fn hit_times(&mut self, times: u64) -> u64 {
        self.n += times;
        self.n
    }
}

const KEY: &str = "known to both programs";

/// The program, and where its manager is.
fn program() -> (Running, String) {
    let running = Running::start(Command::new(env!("CARGO_BIN_EXE_managing")).arg("serve"));
    let address = running.lines(2)[0].clone();
    (running, address)
}

#[test]
fn it_is_used_from_here() {
    let (_running, address) = program();
    let manager = Manager::connect(&address, AuthKey::new(KEY)).unwrap();
    let hits = HitsProxy::open(&manager, "hits").unwrap();
    assert_eq!([(); 3].map(|()| hits.hit().unwrap()), [1, 2, 3]);
    let ages = Dict::<String, u32>::open(&manager, "ages").unwrap();
    assert_eq!(ages.get("bob").unwrap(), Some(42));
    // One more is made there, and published from here.
    manager.publish("more", &HitsProxy::new(&manager).unwrap()).unwrap();
    let printed = run(Command::new(env!("CARGO_BIN_EXE_managing")).args(["hit", &address, "more"]));
    assert_eq!(printed.printed(), "1");
    assert_eq!(HitsProxy::open(&manager, "more").unwrap().hit().unwrap(), 2);
}

#[test]
fn the_key_is_needed() {
    let (_running, address) = program();
    for key in ["wrong", "known to both program", "known to both programs "] {
        let error = Manager::connect(&address, AuthKey::new(key)).unwrap_err();
        assert!(error.is_authentication(), "{error}");
    }
    Manager::connect(&address, AuthKey::new(KEY)).unwrap();
}

#[test]
fn what_is_not_published_or_not_for_clients_is_refused() {
    let (_running, address) = program();
    let manager = Manager::connect(&address, AuthKey::new(KEY)).unwrap();
    let refused = |error: pool_runtime::Error, why: &str| assert!(error.to_string().contains(why), "{error}");
    refused(HitsProxy::open(&manager, "hidden").unwrap_err(), ": nothing is published as `hidden`");
    refused(
        HitsProxy::open(&manager, "ages").unwrap_err(),
        "what is published as `ages` is a `pool_runtime::Dict`, not a `hits`",
    );
    refused(Dict::<String, u32>::open(&manager, "hits").unwrap_err(), "not a `pool_runtime::Dict`");
    refused(
        Dict::<String, u64>::open(&manager, "ages").unwrap_err(),
        "is opened as a `Dict<alloc::string::String, u64>`",
    );
    let hits = HitsProxy::open(&manager, "hits").unwrap();
    let error = hits.secret().unwrap_err();
    assert!(error.to_string().starts_with("method `hits::secret` is not to be called by clients"), "{error}");
    refused(
        hits.hit_times(2).unwrap_err(),
        "another signature in the server: `fn hit_times(&mut self, times: u32) -> u64`",
    );
    assert_eq!(hits.hit().unwrap(), 1);
}
