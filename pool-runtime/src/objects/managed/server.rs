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
use crate::memory::{Regions, StatusPage};
use crate::objects::channel::Receiver;
use crate::os;
use crate::panic::{self, Quiet};
use crate::protocol::Failure;
use crate::run::{Fault, Run};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The stack of a thread that runs methods: as much as the first thread of a process usually has.
const STACK: usize = 1 << 23;

/// How long nobody is let in after the system has refused something for which it gave no reason to hope.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    /// Which server this is, of all that there ever were at its address.
    id: u64,
    shelf: Shelf,
    has_ended: AtomicBool,
}

impl Server {
    pub(crate) fn new(id: u64) -> Result<Self> {
        let shelf = Shelf::new().map_err(|error| Error::os("cannot begin to serve", error))?;
        Ok(Self { id, shelf, has_ended: AtomicBool::new(false) })
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
            let server = self.clone();
            let work = move || {
                os::block_all_signals();
                server.serve(&*wire);
            };
            let spawned = os::spawn_thread("pool-client", Some(STACK), work);
            spawned.map_err(|error| Error::os("cannot serve a client of a manager", error))
        });
        if let Err(error) = served {
            tracing::warn!("{error}");
            std::thread::sleep(REST);
        }
    }

    /// Answers nobody any more, and drops its objects.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.shelf.clear();
    }

    /// Answers one client, until it leaves.
    pub(super) fn serve(&self, wire: &dyn Wire) {
        let _quiet = Quiet::new();
        // Without it, the client's next request has no answer, which tells it that there is no server.
        let Ok(page) = StatusPage::local() else { return };
        let talk = Talk { page: &page, has_handles: wire.has_handles() };
        // What a request refers to is held while it is obeyed.
        while let Ok(Some(request)) = wire.receive() {
            let (reply, handles) = self.answer(&request, talk);
            // An answer without the objects would be a wrong one.
            if self.has_ended.load(Ordering::Acquire) {
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

    pub(super) fn answer(&self, request: &[u8], talk: Talk<'_>) -> Answer {
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

    fn obey(&self, request: &[u8], talk: Talk<'_>) -> Result<Answer, Failure> {
        let unread = |why: CodecError| Failure::Unfit(format!("sends what this server does not understand: {why}"));
        let (request, rest) = open::<Request<'_>>(request).map_err(unread)?;
        let reply = match request {
            Request::Who => Reply::Server(self.id),
            Request::Publish { server, object, name } => {
                self.find("cannot publish", server, object)?;
                self.shelf.publish(name, object);
                Reply::Done
            }
            Request::Open { name, kind } => Reply::Object { number: self.open_published(name, kind)?, life: None },
            Request::Make { constructor, signature } => return self.make(known(constructor, signature)?, rest, talk),
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
        if server != self.id {
            let why = "an object of an earlier server at this address, which is gone: get a new proxy";
            return Err(Failure::Unfit(format!("{what} {why}")));
        }
        let missing = || Failure::Unfit(format!("{what} object {object}, which this server does not have"));
        self.shelf.find(object).ok_or_else(missing)
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

    fn make(&self, constructor: &MethodInfo, rest: Reader<'_>, talk: Talk<'_>) -> Result<Answer, Failure> {
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
type Answer = (Vec<u8>, Regions);

/// What is the same for all requests of one client.
#[derive(Clone, Copy)]
pub(super) struct Talk<'t> {
    pub(super) page: &'t StatusPage,
    /// Replies may refer to handles.
    pub(super) has_handles: bool,
}

fn failed(stage: u32, failure: Failure) -> Vec<u8> {
    let mut writer = Writer::new();
    // The encoding refuses neither strings nor numbers, and there is nothing else in it.
    let _ = Reply::Failed { stage, failure }.begin(&mut writer);
    writer.into_bytes()
}

/// Runs user code, and returns the reply followed by what it has written.
fn run<R>(
    reply: Reply,
    arguments: Reader<'_>,
    talk: Talk<'_>,
    body: impl FnOnce(&mut Run<'_>) -> Result<R, Fault>,
) -> Result<(Answer, R), Failure> {
    let (mut writer, mut handles) = (Writer::new(), Regions::default());
    reply.begin(&mut writer).map_err(|why| Failure::Encode(why.to_string()))?;
    let attached = talk.has_handles.then_some(&mut handles);
    let mut run = Run { page: Some(talk.page), attached, ..Run::new(arguments, &mut writer) };
    let returned = body(&mut run)?;
    Ok(((writer.into_bytes(), handles), returned))
}
