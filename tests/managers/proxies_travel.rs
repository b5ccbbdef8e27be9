//! Proxies as values: in structs, in results, and in other objects.

use crate::clients::CounterProxy;
use pool_runtime::connection::AuthKey;
use pool_runtime::{Dict, List, Manager, Pool, Queue, Sandbox, managed, task};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Team {
    name: String,
    members: List<String>,
    score: Option<CounterProxy>,
}

#[task]
fn join_in(team: &Team, name: &str) -> Team {
    team.members.push(name).unwrap();
    team.score.as_ref().unwrap().add(10).unwrap();
    Team { name: format!("{} with {name}", team.name), ..team.clone() }
}

#[test]
fn inside_of_structs_there_and_back() {
    let manager = Manager::start().unwrap();
    let score = Some(CounterProxy::new(&manager, 0).unwrap());
    let team = Team { name: "reds".into(), members: List::new(&manager).unwrap(), score };
    let pool = Pool::new(1).unwrap();
    let team = pool.apply(join_in::call(&team, "bob")).unwrap();
    assert_eq!(team.name, "reds with bob");
    assert_eq!(team.members.to_vec().unwrap(), ["bob"]);
    assert_eq!(team.score.unwrap().get().unwrap(), 10);
}

pub struct Board {
    counters: Vec<CounterProxy>,
    by_name: Option<Dict<String, CounterProxy>>,
}

#[managed]
impl Board {
    pub fn new() -> Self {
        Self { counters: Vec::new(), by_name: None }
    }

    pub fn keep(&mut self, counter: CounterProxy) {
        self.counters.push(counter);
    }

    pub fn name_them(&mut self, by_name: Dict<String, CounterProxy>) {
        self.by_name = Some(by_name);
    }

    /// Calls other objects of this server, as any client does.
    pub fn add_to_all(&self, n: u64) -> Vec<u64> {
        self.counters.iter().map(|counter| counter.add(n).unwrap()).collect()
    }

    pub fn find(&self, name: &str) -> Option<CounterProxy> {
        self.by_name.as_ref()?.get(name).unwrap()
    }

    pub fn first(&self) -> CounterProxy {
        self.counters[0].clone()
    }
}

#[test]
fn inside_of_other_objects() {
    let manager = Manager::start().unwrap();
    let board = BoardProxy::new(&manager).unwrap();
    let counters = [1, 2].map(|start| CounterProxy::new(&manager, start).unwrap());
    counters.iter().for_each(|counter| board.keep(counter.clone()).unwrap());
    assert_eq!(board.add_to_all(10).unwrap(), [11, 12]);
    assert_eq!(board.first().unwrap(), counters[0]);
    let by_name = Dict::new(&manager).unwrap();
    by_name.insert("two", &counters[1]).unwrap();
    board.name_them(by_name).unwrap();
    assert_eq!(board.find("two").unwrap().unwrap().add(1).unwrap(), 13);
    assert_eq!(board.find("three").unwrap(), None);
}

#[test]
fn objects_of_one_manager_hold_those_of_another() {
    let [one, other] = [(); 2].map(|()| Manager::start().unwrap());
    let board = BoardProxy::new(&one).unwrap();
    let counter = CounterProxy::new(&other, 1).unwrap();
    board.keep(counter.clone()).unwrap();
    assert_eq!(board.add_to_all(1).unwrap(), [2]);
    other.shutdown().unwrap();
    let error = board.add_to_all(1).unwrap_err();
    assert!(error.panic().unwrap().message().contains("cannot reach the manager at"), "{error}");
}

#[test]
fn on_a_queue() {
    let manager = Manager::start().unwrap();
    let queue = Queue::unbounded().unwrap();
    queue.put(&CounterProxy::new(&manager, 4).unwrap()).unwrap();
    assert_eq!(queue.get().unwrap().unwrap().add(1).unwrap(), 5);
}

#[task]
fn add_one(counter: &CounterProxy) -> Result<u64, String> {
    counter.add(1).map_err(|error| error.to_string())
}

#[test]
fn a_sandbox_lets_them_through_if_it_is_told_to() {
    let manager = Manager::builder().address("127.0.0.1:0").start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    let within = |sandbox: Sandbox| {
        let pool = Pool::builder().processes(1).sandbox(sandbox).build().unwrap();
        pool.apply(add_one::call(&counter)).unwrap()
    };
    let refused = within(Sandbox::strict()).unwrap_err();
    assert!(refused.contains("cannot reach the manager at 127.0.0.1:"), "{refused}");
    assert!(refused.contains("this process is in a sandbox"), "{refused}");
    assert_eq!(within(Sandbox::strict().network(true).inherit_authkey(true)), Ok(1));
    let stranger = within(Sandbox::strict().network(true)).unwrap_err();
    assert!(stranger.contains("key"), "{stranger}");
}

#[test]
fn a_key_of_its_own_is_known_to_its_starter_and_its_server() {
    let key = AuthKey::new("a key that no other process has");
    let manager = Manager::builder().authkey(key.clone()).start().unwrap();
    let board = BoardProxy::new(&manager).unwrap();
    board.keep(CounterProxy::new(&manager, 1).unwrap()).unwrap();
    // In the server, and back here.
    assert_eq!(board.add_to_all(1).unwrap(), [2]);
    assert_eq!(board.first().unwrap().add(1).unwrap(), 3);
    // Processes of this program need no key.
    assert_eq!(Pool::new(1).unwrap().apply(add_one::call(&board.first().unwrap())).unwrap(), Ok(4));
    let refused = Manager::connect(manager.address(), AuthKey::new("a key that nobody has")).unwrap_err();
    assert!(refused.is_authentication(), "{refused}");
}
