use super::host::Host;
use super::message::{Reply, Request, open};
use super::reference::ObjectRef;
use super::server::{Conversation, Server};
use super::value::enclosed;
use super::wire::{ManagerPlace, Wire};
use crate::codec::{Reader, Writer};
use crate::connection::Listener;
use crate::dossier::{Ran, Stage};
use crate::error::Result;
use crate::fuzz::{Kind, Plan, run};
use crate::memory::{Payload, Region, StatusPage};
use crate::protocol::Failure;
use serde::Serialize;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Another way to reach a server than sockets.
struct InMemory(Sender<Vec<u8>>, Mutex<Receiver<Vec<u8>>>);

impl InMemory {
    fn pair() -> [Self; 2] {
        let ((one, other_end), (other, one_end)) = (channel(), channel());
        [Self(one, Mutex::new(one_end)), Self(other, Mutex::new(other_end))]
    }

    fn ask(&self, request: Writer) -> (Reply, Vec<u8>) {
        self.send(&request.into_bytes(), &[]).unwrap();
        let reply = self.receive().unwrap().expect("a reply").into_vec();
        let (reply_head, _) = open::<Reply>(&reply).unwrap();
        (reply_head, reply)
    }
}

impl Wire for InMemory {
    fn send(&self, message: &[u8], _: &[Arc<Region>]) -> Result<()> {
        // Nobody is there to read it: the next receive says so.
        let _ = self.0.send(message.to_vec());
        Ok(())
    }

    fn receive(&self) -> Result<Option<Payload>> {
        Ok(self.1.lock().expect("no panic").recv().ok().map(Payload::from))
    }

    fn poll(&self, _: Duration) -> Result<bool> {
        unreachable!("nobody waits for this one")
    }

    fn has_handles(&self) -> bool {
        false
    }
}

const LIST: &str = "pool_runtime::List";

fn hash_of(method: &str) -> u64 {
    super::method::find(method).expect("it is there").signature_hash()
}

/// A request for a new list, with its argument.
fn make() -> Writer {
    let (constructor, signature) = ("pool_runtime::List::new", hash_of("pool_runtime::List::new"));
    let mut request = Request::Make { server: 7, constructor, signature }.begin().unwrap();
    request.text("List<u8>").unwrap();
    request
}

fn call(server: u64, object: u64, method: &str) -> Writer {
    let signature = super::method::find(method).map_or(0, |found| found.signature_hash());
    Request::Call { server, object, method, signature }.begin().unwrap()
}

#[test]
fn a_server_answers_over_any_wire_until_its_client_leaves() {
    let [client, served] = InMemory::pair();
    let server = Arc::new(Server::new(7).unwrap());
    let serving = std::thread::spawn(move || server.serve(&served));
    assert!(matches!(client.ask(Request::Who.begin().unwrap()).0, Reply::Server(7)));
    assert!(matches!(client.ask(make()).0, Reply::Object { number: 1, .. }));
    let mut push = call(7, 1, "pool_runtime::List::push");
    push.value(&enclosed("item", "text").unwrap()).unwrap();
    assert!(matches!(client.ask(push).0, Reply::Value));
    let (reply, whole) = client.ask(call(7, 1, "pool_runtime::List::len"));
    assert!(matches!(reply, Reply::Value));
    assert_eq!(open::<Reply>(&whole).unwrap().1.value::<usize>().unwrap(), 1);
    assert!(matches!(
        client.ask(Request::Publish { server: 7, object: 1, name: "it" }.begin().unwrap()).0,
        Reply::Done
    ));
    let opened = client.ask(Request::Open { server: 7, name: "it", kind: LIST }.begin().unwrap()).0;
    assert!(matches!(opened, Reply::Object { number: 1, .. }));
    drop(client);
    serving.join().unwrap();
}

#[test]
fn what_is_not_offered_is_refused() {
    let [client, served] = InMemory::pair();
    std::thread::spawn(move || Server::new(7).unwrap().serve(&served));
    assert!(matches!(client.ask(make()).0, Reply::Object { number: 1, .. }));
    let refused = |request: Writer| match client.ask(request).0 {
        Reply::Failed { stage, failure: Failure::Unfit(why) } if stage == Stage::Decoding as u32 => why,
        other => panic!("{other:?}"),
    };
    let wrong_signature = Request::Call { server: 7, object: 1, method: "pool_runtime::List::len", signature: 0 };
    for (request, why) in [
        (call(7, 1, "pool_runtime::List::secret"), "not to be called by clients"),
        (call(7, 1, "pool_runtime::List::new"), "is a constructor"),
        (call(7, 1, "pool_runtime::Dict::len"), "this object is another"),
        (call(7, 2, "pool_runtime::List::len"), "which this server does not have"),
        (call(6, 1, "pool_runtime::List::len"), "an earlier server"),
        (wrong_signature.begin().unwrap(), "another signature in the server: `fn len(&self) -> usize`"),
        (
            Request::Make {
                server: 7,
                constructor: "pool_runtime::List::len",
                signature: hash_of("pool_runtime::List::len"),
            }
            .begin()
            .unwrap(),
            "was called as a constructor",
        ),
        (Request::Publish { server: 7, object: 9, name: "it" }.begin().unwrap(), "which this server does not have"),
        (
            Request::Make { server: 6, constructor: "pool_runtime::List::new", signature: 0 }.begin().unwrap(),
            "is called at an earlier server",
        ),
        (Request::Open { server: 6, name: "it", kind: LIST }.begin().unwrap(), "an earlier server"),
        (Request::Open { server: 7, name: "it", kind: LIST }.begin().unwrap(), "nothing is published as `it`"),
        (Writer::new(), "does not understand"),
    ] {
        let told = refused(request);
        assert!(told.contains(why), "{told}");
    }
}

/// Whatever a client sends, it is answered.
#[test]
fn any_request_has_an_answer() {
    let server = Server::new(7).unwrap();
    let page = StatusPage::local().unwrap();
    let talk = Conversation { page: &page, has_handles: true };
    let mut insert = call(7, 1, "pool_runtime::List::insert");
    insert.value(&3_usize).unwrap();
    insert.value(&enclosed("item", "text").unwrap()).unwrap();
    let mut extend = call(7, 1, "pool_runtime::List::extend");
    extend.value(&Vec::from([1_u8, 2].map(|item| enclosed("item", &item).unwrap()))).unwrap();
    let requests = [
        Request::Who.begin().unwrap(),
        make(),
        insert,
        extend,
        call(7, 1, "pool_runtime::List::pop"),
        Request::Publish { server: 7, object: 1, name: "it" }.begin().unwrap(),
        Request::Open { server: 7, name: "it", kind: LIST }.begin().unwrap(),
    ];
    let corpus: Vec<Vec<u8>> = requests.into_iter().map(Writer::into_bytes).collect();
    for request in &corpus {
        let (reply, _) = server.answer(request, talk);
        assert!(!matches!(open::<Reply>(&reply).unwrap().0, Reply::Failed { .. }), "{request:?}");
    }
    let (made, memory) = (make().into_bytes(), |length| (64 << 10) + 64 * length);
    let tried = run(Plan { name: "requests to a manager", corpus, memory }, |request| {
        let server = Server::new(7).unwrap();
        server.answer(&made, talk);
        let (reply, _) = server.answer(request, talk);
        match open::<Reply>(&reply).expect("a reply").0 {
            Reply::Failed { failure: Failure::Panicked(panic), .. } => panic!("{panic}"),
            Reply::Failed { stage, failure } => Kind::of((stage, Kind::of_text(&format!("{failure:?}")))),
            other => Kind::of(std::mem::discriminant(&other)),
        }
    });
    assert!(tried.kinds > 8, "{tried:?}");
}

fn place_of(path: &Path) -> ManagerPlace {
    ManagerPlace::of(&path.into()).unwrap()
}

/// What a worker has made up must not have this process prove its key there.
#[test]
fn nobody_calls_where_a_stranger_says_that_a_manager_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = Listener::bind(&path).unwrap();
    /// As `SentHost` travels.
    #[derive(Serialize)]
    struct Forged {
        server: u64,
        place: ManagerPlace,
        door: Option<u8>,
    }
    let mut writer = Writer::new();
    writer.value(&(Forged { server: 77, place: place_of(&path), door: None }, 1_u64, None::<u64>)).unwrap();
    let forged: ObjectRef = Reader::new(&writer.into_bytes()).value().unwrap();
    let error = ObjectRef::publish(&forged, &forged_host(&path), "it").unwrap_err();
    assert!(error.to_string().contains("connect to that manager first"), "{error}");
    assert!(!error.is_manager_lost() && error.ran() == Ran::No);
    assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
}

fn forged_host(path: &Path) -> Arc<Host> {
    Host::find(77, place_of(path), None)
}

#[test]
fn a_server_that_somebody_holds_is_known_whatever_comes() {
    let of_number = |number, path: &str| Host::new(number, place_of(Path::new(path)), None, None);
    let held = of_number(1001, "/held");
    held.introduce();
    (2000..2100).for_each(|number| of_number(number, "/others").introduce());
    let strangers: Vec<_> = (3000..3100).map(|number| Host::find(number, place_of(Path::new("/x")), None)).collect();
    assert!(Arc::ptr_eq(&held, &Host::find(1001, place_of(Path::new("/elsewhere")), None)));
    // The last ones are known without anybody, and strangers do not take their place.
    let last = Host::find(2099, place_of(Path::new("/elsewhere")), None);
    assert_eq!((last.place.clone(), strangers.len()), (place_of(Path::new("/others")), 100));
    drop(held);
}
