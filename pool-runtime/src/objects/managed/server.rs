//! The server of a manager: answers the requests of its clients, each on a thread of its own.
//!
//! No request can harm another client: whatever it is, it is answered by its result or by the reason why there is none,
//! and a panic is such a reason.

use super::message::{Reply, Request, open};
use super::method::{self, MethodBody, MethodInfo};
use super::shelf::{Shelf, Stored};
use super::wire::{MOST, PipeEnd, Wire, WireListener};
use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Stage;
use crate::error::{Error, Result};
use crate::locks::{lock, sleep_on};
use crate::memory::referred::came_with;
use crate::memory::{Regions, StatusPage};
use crate::objects::channel::Receiver;
use crate::os;
use crate::panic::{self, Quiet};
use crate::protocol::Failure;
use crate::run::{Fault, Run};
use crate::targets::MANAGER;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The stack of a thread that runs methods: as much as the first thread of a process usually has.
const STACK: usize = 1 << 23;

/// How long nobody is let in after the system has refused something for which it gave no reason to hope.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    /// Which server this is, of all that there ever were at its address.
    id: u64,
    shelf: Shelf,
    /// Whoever answers a request adds itself to `answering` before it looks at `has_ended`; who ends it does the
    /// reverse.
    has_ended: AtomicBool,
    answering: AtomicUsize,
    /// Notified when a request was answered after the end.
    is_through: (Mutex<()>, Condvar),
}

/// A request is being answered.
struct Answering<'s>(&'s Server);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::SeqCst);
        if self.0.has_ended.load(Ordering::SeqCst) {
            let _guard = lock(&self.0.is_through.0);
            self.0.is_through.1.notify_all();
        }
    }
}

impl Server {
    pub(crate) fn new(id: u64) -> Result<Self> {
        let shelf = Shelf::new().map_err(|error| Error::os("cannot begin to serve", error))?;
        let (has_ended, answering) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(Self { id, shelf, has_ended, answering, is_through: Default::default() })
    }

    /// Serves all who come, for ever, and drops what nobody has a proxy of any more.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub(crate) fn open(self: &Arc<Self>, listener: Arc<WireListener>, door: Receiver<PipeEnd>) -> io::Result<()> {
        let start = |name: &str, work: Box<dyn FnOnce(Arc<Self>) + Send>| {
            let server = self.clone();
            let work = move || {
                os::block_all_signals();
                work(server);
            };
            os::spawn_thread(name, None, work).map(drop)
        };
        start("pool-manager", Box::new(move |server| server.listen(&listener)))?;
        start("pool-door", Box::new(move |server| server.answer_door(&door)))?;
        start("pool-shelf", Box::new(|server| server.shelf.tend()))
    }

    fn listen(self: &Arc<Self>, listener: &WireListener) {
        loop {
            self.let_in(listener.accept());
        }
    }

    fn answer_door(self: &Arc<Self>, door: &Receiver<PipeEnd>) {
        while let Some(pipe) = door.recv().transpose() {
            self.let_in(pipe.map(|pipe| Box::new(pipe) as _));
        }
    }

    /// Serves a client on a thread of its own.
    fn let_in(self: &Arc<Self>, client: Result<Box<dyn Wire>>) {
        let served = client.and_then(|wire| {
            let (server, wire) = (self.clone(), Arc::<dyn Wire>::from(wire));
            let served = wire.clone();
            let work = move || {
                os::block_all_signals();
                server.serve(&*served);
            };
            let spawned = os::spawn_thread("pool-client", Some(STACK), work);
            spawned.map_err(|error| {
                // Whether or not it has sent its request. It reads this before it finds the end.
                let _ = wire.send(&reply(&Reply::Busy(format!("cannot start a thread: {error}"))), &[]);
                Error::os("cannot serve a client of a manager", error)
            })
        });
        if let Err(error) = served {
            tracing::warn!(target: MANAGER, "{error}");
            std::thread::sleep(REST);
        }
    }

    /// Answers nobody any more, and drops its objects, once the calls that are under way are through. An object whose
    /// method does not return in this time is not dropped.
    pub(crate) fn end(&self, patience: Duration) {
        self.has_ended.store(true, Ordering::SeqCst);
        let deadline = Instant::now().checked_add(patience);
        let mut guard = lock(&self.is_through.0);
        while self.answering.load(Ordering::SeqCst) > 0 {
            match sleep_on(&self.is_through.1, guard, deadline) {
                Some(woken) => guard = woken,
                None => break,
            }
        }
        self.shelf.clear();
    }

    /// None: it has ended.
    fn begin(&self) -> Option<Answering<'_>> {
        self.answering.fetch_add(1, Ordering::SeqCst);
        let answering = Answering(self);
        (!self.has_ended.load(Ordering::SeqCst)).then_some(answering)
    }

    /// Answers one client, until it leaves.
    pub(super) fn serve(&self, wire: &dyn Wire) {
        let _quiet = Quiet::new();
        let page = match StatusPage::local() {
            Ok(page) => page,
            Err(error) => {
                let _ = wire.send(&reply(&Reply::Busy(format!("has no memory for another client: {error}"))), &[]);
                return;
            }
        };
        let talk = Conversation { page: &page, has_handles: wire.has_handles() };
        // What a request refers to is held while it is obeyed.
        while let Ok(Some(request)) = wire.receive() {
            // An answer without the objects would be a wrong one.
            let Some(answering) = self.begin() else { return };
            let (reply, handles) = came_with(request.regions(), || self.answer(&request, talk));
            drop(answering);
            if self.has_ended.load(Ordering::SeqCst) {
                return;
            }
            if let Err(error) = wire.send(&reply, &handles) {
                let failure = Failure::Encode(format!("it cannot be sent: {error}"));
                let is_sent = !handles.is_empty() && wire.send(&failed(Stage::Encoding as u32, failure), &[]).is_ok();
                if !is_sent {
                    return;
                }
            }
        }
    }

    pub(super) fn answer(&self, request: &[u8], talk: Conversation<'_>) -> ServedReply {
        let page = talk.page;
        page.begin(Stage::Decoding as u32);
        let answered = panic::catch(|| self.obey(request, talk));
        let stage = page.stage();
        page.set_stage(Stage::Idle as u32);
        let failure = match answered {
            Ok(Ok((reply, _))) if reply.len() > MOST => {
                let length = reply.len();
                Failure::Encode(format!(
                    "it has {length} bytes, and a message of a manager may have {MOST}: return less"
                ))
            }
            Ok(Ok(reply)) => return reply,
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Panicked(panic),
        };
        (failed(stage, failure), Regions::default())
    }

    fn obey(&self, request: &[u8], talk: Conversation<'_>) -> Result<ServedReply, Failure> {
        let unread = |why: CodecError| Failure::Unfit(format!("sends what this server does not understand: {why}"));
        let (request, rest) = open::<Request<'_>>(request).map_err(unread)?;
        let reply = match request {
            Request::Who => Reply::Server(self.id),
            Request::Publish { server, object, name } => {
                self.find("cannot publish", server, object)?;
                // It may have gone since.
                if !self.shelf.publish(name, object) {
                    return Err(missing("cannot publish", object));
                }
                Reply::Done
            }
            Request::Open { server, name, kind } => {
                self.check("cannot open what was published by", server)?;
                Reply::Object { number: self.open_published(name, kind)?, life: None }
            }
            Request::Make { server, constructor, signature } => {
                self.check("is called at", server)?;
                return self.make(known(constructor, signature)?, rest, talk);
            }
            Request::Call { server, object, method, signature } => {
                let method = known(method, signature)?;
                let stored = self.find("is called on", server, object)?;
                let MethodBody::Method(body) = method.body else {
                    return Err(Failure::Unfit("is a constructor, and was called as a method".into()));
                };
                return run(Reply::Value, rest, talk, |run| body(&*stored.object, run)).map(|(reply, ())| reply);
            }
        };
        rest.finish().map_err(unread)?;
        run(reply, rest, talk, |_| Ok(())).map(|(reply, ())| reply)
    }

    /// `what` is what is done to the object.
    fn find(&self, what: &str, server: u64, object: u64) -> Result<Stored, Failure> {
        self.check(&format!("{what} an object of"), server)?;
        self.shelf.find(object).ok_or_else(|| missing(what, object))
    }

    /// Refuses what is meant for another server.
    fn check(&self, what: &str, server: u64) -> Result<(), Failure> {
        match server == self.id {
            true => Ok(()),
            false => Err(Failure::Unfit(format!(
                "{what} an earlier server at this address, which is gone: get a new proxy, or connect again"
            ))),
        }
    }

    fn open_published(&self, name: &str, kind: &str) -> Result<u64, Failure> {
        let Some((number, stored)) = self.shelf.published(name) else {
            let why = "call `publish` where the manager was started";
            return Err(Failure::Unfit(format!("nothing is published as `{name}`: {why}")));
        };
        match stored.kind == kind {
            true => Ok(number),
            false => {
                let why = format!("what is published as `{name}` is a `{}`, not a `{kind}`", stored.kind);
                Err(Failure::Unfit(why))
            }
        }
    }

    fn make(&self, constructor: &MethodInfo, rest: Reader<'_>, talk: Conversation<'_>) -> Result<ServedReply, Failure> {
        let MethodBody::Constructor(body) = constructor.body else {
            return Err(Failure::Unfit("is a method, and was called as a constructor".into()));
        };
        let (refused, made) = run(Reply::Refused, rest, talk, body)?;
        let Some(object) = made else { return Ok(refused) };
        let kept = self.shelf.put(constructor.kind, object, talk.has_handles);
        let (number, life) = kept.map_err(|error| Failure::Unfit(format!("cannot keep the object: {error}")))?;
        let mut writer = Writer::new();
        let reply = Reply::Object { number, life: life.as_ref().map(|life| life.id()) };
        reply.begin(&mut writer).map_err(|why| Failure::Encode(why.to_string()))?;
        Ok((writer.into_bytes(), life.into_iter().collect::<Vec<_>>().into()))
    }
}

fn missing(what: &str, object: u64) -> Failure {
    Failure::Unfit(format!("{what} object {object}, which this server does not have"))
}

/// Finds what a client calls. It may be another program, or another build of this one.
fn known(name: &str, signature: u64) -> Result<&'static MethodInfo, Failure> {
    let Some(method) = method::find(name) else {
        let why = "it is hidden by `#[managed(skip)]`, or the server is another program or an older build";
        return Err(Failure::Unfit(format!("is not to be called by clients: {why}")));
    };
    if method.signature_hash() != signature {
        return Err(Failure::Unfit(format!(
            "has another signature in the server: `{}`; build both programs from the same source",
            method.signature
        )));
    }
    Ok(method)
}

/// A reply, and what it refers to.
type ServedReply = (Vec<u8>, Regions);

/// What is the same for all requests of one client.
#[derive(Clone, Copy)]
pub(super) struct Conversation<'t> {
    pub(super) page: &'t StatusPage,
    /// Replies may refer to handles.
    pub(super) has_handles: bool,
}

fn failed(stage: u32, failure: Failure) -> Vec<u8> {
    reply(&Reply::Failed { stage, failure })
}

fn reply(reply: &Reply) -> Vec<u8> {
    let mut writer = Writer::new();
    // The encoding refuses neither strings nor numbers, and there is nothing else in it.
    let _ = reply.begin(&mut writer);
    writer.into_bytes()
}

/// Runs user code, and returns the reply followed by what it has written.
fn run<R>(
    reply: Reply,
    arguments: Reader<'_>,
    talk: Conversation<'_>,
    body: impl FnOnce(&mut Run<'_>) -> Result<R, Fault>,
) -> Result<(ServedReply, R), Failure> {
    let (mut writer, mut handles) = (Writer::new(), Regions::default());
    reply.begin(&mut writer).map_err(|why| Failure::Encode(why.to_string()))?;
    let attached = talk.has_handles.then_some(&mut handles);
    let mut run = Run { page: Some(talk.page), attached, ..Run::new(arguments, &mut writer) };
    let returned = body(&mut run)?;
    Ok(((writer.into_bytes(), handles), returned))
}
