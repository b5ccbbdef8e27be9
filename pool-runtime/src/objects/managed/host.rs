//! A server as its clients see it: where it is, and the conversations with it that are idle.
//!
//! | state | who touches it |
//! |---|---|
//! | `HOSTS` | who reads a proxy, starts or drops a manager, or calls a server that this process does not know |
//! | `idle` | who calls takes a wire, or begins another one, and puts it back; nobody waits for anybody |
//!
//! A proxy says where its server is, and who dials that place proves the key of this process there. So a place is
//! believed only if it came from whoever this process trusts: see [`Host::find`].

use super::message::{Reply, Request, open};
use super::method::MethodInfo;
use super::wire::{Door, MOST, ManagerPlace, Wire, knock};
use crate::authkey::AuthKey;
use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::{Ran, Stage};
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::identity::{self, MadeIn};
use crate::locks::lock;
use crate::memory::referred::{came_with, collect};
use crate::memory::region::Region;
use crate::memory::{Payload, Regions};
use crate::panic;
use crate::protocol::{Failed, Failure};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// So many idle wires are kept for each server: while many threads call at once, few of their wires are idle.
const MOST_IDLE: usize = 8;

/// How long a wire may be idle before it is ended, when the next call or the next proxy that goes finds it so.
const IDLE: Duration = Duration::from_secs(10);

/// So many servers are remembered of which no proxy is left, with their idle wires: proxies come and go with calls.
const MOST_RECENT: usize = 16;

/// How long a server may leave before the key is proved, as one does that has no descriptors, until it is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long who has connected waits to be told which server it is.
const WHO: Duration = Duration::from_secs(60);

/// The servers that this process knows.
static HOSTS: LazyLock<Mutex<Hosts>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Hosts {
    /// By number. A server with a key of its own is known as long as somebody has the manager or a proxy.
    known: HashMap<u64, Weak<Host>>,
    /// Those that were met last, also if nobody has them.
    recent: VecDeque<Arc<Host>>,
    /// When `known` has grown to this, those that are gone are taken out.
    swept_at: usize,
}

/// A server as its clients see it.
pub struct Host {
    pub(super) id: u64,
    pub(super) place: ManagerPlace,
    /// None: that of this process.
    key: Option<AuthKey>,
    /// Which those of its program have.
    door: OnceLock<Door>,
    /// Whether its place may be dialled.
    is_trusted: bool,
    idle: Mutex<Idle>,
}

struct Idle {
    /// A forked process cannot use the wires of its parent.
    made_in: MadeIn,
    /// The one that was used last is the last one.
    wires: VecDeque<IdleWire>,
}

struct IdleWire {
    since: Instant,
    wire: Box<dyn Wire>,
}

impl Idle {
    fn new() -> Mutex<Self> {
        Mutex::new(Self { made_in: MadeIn::this_process(), wires: VecDeque::new() })
    }

    /// Takes out those that nobody has used for long.
    fn take_stale(&mut self) -> Vec<IdleWire> {
        let stale = self.wires.iter().take_while(|idle| idle.since.elapsed() >= IDLE).count();
        self.wires.drain(..stale).collect()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manager at {}", self.place.address())
    }
}

impl Host {
    pub(crate) fn new(id: u64, place: ManagerPlace, key: Option<AuthKey>, door: Option<Door>) -> Arc<Self> {
        let door = door.map_or_else(OnceLock::new, OnceLock::from);
        Arc::new(Self { id, place, key, door, is_trusted: true, idle: Idle::new() })
    }

    /// The server of this number: with the address and key by which this process has met it first, if it has.
    ///
    /// In a process that a program has started, what it reads comes from its parent. In a first process, proxies come
    /// from workers, which may be in a sandbox, and from other programs: then an unknown server is one at whose place
    /// nobody calls. A door can be used, as a worker can pass on no other than it was given, and through it no key is
    /// proved.
    pub(super) fn find(id: u64, place: ManagerPlace, door: Option<Door>) -> Arc<Self> {
        let is_inherited = identity::parent_process().is_some();
        let mut hosts = lock(&HOSTS);
        if let Some(known) = hosts.find(id) {
            drop(hosts);
            if is_inherited && let Some(door) = door {
                known.learn(door);
            }
            return known;
        }
        let door = door.map_or_else(OnceLock::new, OnceLock::from);
        let host = Arc::new(Self { id, place, key: None, door, is_trusted: is_inherited, idle: Idle::new() });
        let forgotten = hosts.remember(&host);
        drop(hosts);
        drop(forgotten);
        host
    }

    pub(super) fn door(&self) -> Option<&Door> {
        self.door.get()
    }

    /// A server that was reached by its address is reached by its door from now on.
    fn learn(&self, door: Door) {
        if self.door.set(door).is_ok() {
            self.hang_up();
        }
    }

    /// Whether requests and replies may refer to handles.
    fn has_handles(&self) -> bool {
        self.door().is_some() && !identity::identity().confined
    }

    /// Proxies that are read from now on use this, as long as somebody has it.
    pub(crate) fn introduce(self: &Arc<Self>) {
        let mut hosts = lock(&HOSTS);
        let before = hosts.forget(self.id);
        let forgotten = hosts.remember(self);
        drop(hosts);
        drop((before, forgotten));
    }

    pub(crate) fn forget(&self) {
        let forgotten = lock(&HOSTS).forget(self.id);
        drop(forgotten);
        self.hang_up();
    }

    /// Called when a proxy goes: ends conversations that have been idle for long.
    pub(super) fn tidy(&self) {
        // Somebody who has it looks as well.
        let stale = self.idle.try_lock().ok().map(|mut idle| match idle.made_in.is_here() {
            true => idle.take_stale(),
            false => Vec::new(),
        });
        drop(stale);
    }

    /// Ends all conversations that are idle.
    fn hang_up(&self) {
        let wires = std::mem::take(&mut lock(&self.idle).wires);
        drop(wires);
    }

    /// Asks which server is at a place.
    pub(crate) fn meet(place: ManagerPlace, key: Option<AuthKey>) -> Result<Arc<Self>> {
        let stranger = Self::new(0, place.clone(), key.clone(), None);
        let request = Request::Who.begin().map_err(|why| Error::invalid(why.to_string()))?;
        let wire = stranger.send(&request.into_bytes(), &[])?;
        if !wire.poll(WHO)? {
            let why = format!("it has not told its number within {WHO:?}: it is stopped, or no manager");
            return Err(Error::invalid(format!("cannot use {stranger:?}: {why}")));
        }
        let reply = stranger.reply(wire)?;
        match open(&reply) {
            Ok((Reply::Server(id), _)) => {
                let host = Self::new(id, place, key, None);
                std::mem::swap(&mut *lock(&host.idle), &mut *lock(&stranger.idle));
                Ok(host)
            }
            _ => Err(stranger.lost(
                "cannot use",
                "what is there is no manager of this library",
                "give the address of one",
            )),
        }
    }

    /// A request without arguments, about an object or a name.
    pub(super) fn request(&self, request: &Request<'_>) -> Result<Reply> {
        let request = request.begin().map_err(|why| Error::invalid(why.to_string()))?;
        let reply = self.ask(&request.into_bytes(), &[])?;
        match open(&reply) {
            Ok((Reply::Failed { failure: Failure::Unfit(why), .. }, _)) => {
                Err(Error::invalid(format!("{self:?}: {}", foreign::line(&why))))
            }
            Ok((Reply::Failed { stage, failure }, _)) => Err(failed(stage, failure)),
            Ok((reply, _)) => Ok(reply),
            Err(why) => Err(self.garbled(&why)),
        }
    }

    /// Calls a method or a constructor: `write` appends the arguments, and `read` reads what the reply is followed by.
    pub(super) fn call<R>(
        &self,
        method: &'static MethodInfo,
        request: &Request<'_>,
        write: impl FnOnce(&mut Writer) -> Result<(), (&'static str, CodecError)>,
        read: impl FnOnce(Reply, &mut Reader<'_>) -> Result<R, CodecError>,
    ) -> Result<R> {
        self.converse(request, write, read).map_err(|error| error.of_method(method.name))
    }

    fn converse<R>(
        &self,
        request: &Request<'_>,
        write: impl FnOnce(&mut Writer) -> Result<(), (&'static str, CodecError)>,
        read: impl FnOnce(Reply, &mut Reader<'_>) -> Result<R, CodecError>,
    ) -> Result<R> {
        let encode = || {
            let mut writer = request.begin().map_err(|why| ("self", why))?;
            write(&mut writer).map(|()| writer.into_bytes())
        };
        let encoded = panic::catch(|| match self.has_handles() {
            true => {
                let (encoded, handles) = collect(encode);
                encoded.map(|bytes| (bytes, handles))
            }
            false => encode().map(|bytes| (bytes, Regions::default())),
        });
        let (request, handles) = match encoded {
            Ok(Ok(request)) => request,
            Ok(Err((argument, why))) => {
                return Err(Error::new(Kind::EncodeArgument(format!("`{argument}` cannot be encoded: {why}"))));
            }
            Err(panic) => return Err(Error::new(Kind::PanickedEncoding { panic })),
        };
        let reply = self.ask(&request, &handles)?;
        let regions = reply.regions();
        let (reply, mut rest) = match open(&reply) {
            Ok((Reply::Failed { stage, failure }, _)) => return Err(failed(stage, failure)),
            Ok(opened) => opened,
            Err(why) => return Err(self.garbled(&why)),
        };
        let decode = || read(reply, &mut rest).and_then(|value| rest.finish().map(|()| value));
        let decoded = panic::catch(|| came_with(regions, decode));
        match decoded {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(why)) => Err(Error::new(Kind::DecodeResult(why.to_string())).with_ran(Ran::Yes)),
            Err(panic) => Err(Error::new(Kind::PanickedDecoding { panic }).with_ran(Ran::Yes)),
        }
    }

    /// Sends a request, and waits for the reply.
    fn ask(&self, request: &[u8], handles: &[Arc<Region>]) -> Result<Payload> {
        if request.len() > MOST {
            return Err(Error::invalid(format!(
                "has arguments of {} bytes, and a message to a manager may have {MOST}: send them in parts",
                request.len()
            )));
        }
        if !self.is_trusted && !self.has_handles() {
            let met = lock(&HOSTS).find(self.id).filter(|met| met.is_trusted);
            return match met {
                Some(met) => met.ask(request, handles),
                None => Err(Error::invalid(format!(
                    "is of {self:?}, which this process does not know: connect to that manager first \
                     (`Manager::connect`)"
                ))),
            };
        }
        let wire = self.send(request, handles)?;
        self.reply(wire)
    }

    /// Waits for the reply to what was sent.
    fn reply(&self, wire: Box<dyn Wire>) -> Result<Payload> {
        match wire.receive() {
            Ok(Some(reply)) => {
                if let Ok((Reply::Busy(why), _)) = open(&reply) {
                    return Err(self.busy(&why));
                }
                self.put_back(wire);
                Ok(reply)
            }
            Ok(None) => Err(self.ended("it has closed the connection")),
            Err(error) if self.is_gone(&error) => Err(self.ended(&error.to_string())),
            Err(error) => Err(error.with_ran(Ran::Maybe)),
        }
    }

    /// Sends a request on a wire that is idle, or else on a new one. If it cannot be sent as a whole, nothing is called.
    fn send(&self, request: &[u8], handles: &[Arc<Region>]) -> Result<Box<dyn Wire>> {
        if let Some(wire) = self.take_wire() {
            if wire.send(request, handles).is_ok() {
                return Ok(wire);
            }
            self.hang_up();
        }
        if self.has_handles()
            && let Some(door) = self.door()
        {
            let wire = knock(door).map_err(|error| self.unreachable(error))?;
            wire.send(request, handles).map_err(|error| self.undelivered(&*wire, error))?;
            return Ok(wire);
        }
        let wire = self.dial()?;
        wire.send(request, handles).map_err(|error| self.undelivered(&*wire, error))?;
        Ok(wire)
    }

    /// The error of a request that could not be sent: the server may have said before why it serves nobody.
    fn undelivered(&self, wire: &dyn Wire, error: Error) -> Error {
        if self.is_gone(&error)
            && let Ok(Some(reply)) = wire.receive()
            && let Ok((Reply::Busy(why), _)) = open(&reply)
        {
            return self.busy(&why);
        }
        self.unreachable(error)
    }

    fn busy(&self, why: &str) -> Error {
        Error::invalid(format!("could not be called, as {self:?} {}", foreign::line(why)))
    }

    /// Begins a conversation by the address. A server that ends, and one that has no descriptors left, leaves in the
    /// middle of the proof of the key: the first is not there the next time, the second may be better then.
    fn dial(&self) -> Result<Box<dyn Wire>> {
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(5));
        loop {
            match self.place.dial(self.key.as_ref()) {
                Err(error) if error.is_unproved() && begun.elapsed() < PATIENCE => std::thread::sleep(pause),
                dialled => return dialled.map_err(|error| self.unreachable(error)),
            }
            pause = (2 * pause).min(Duration::from_millis(500));
        }
    }

    fn take_wire(&self) -> Option<Box<dyn Wire>> {
        let mut idle = lock(&self.idle);
        if !idle.made_in.is_here() {
            // What is dropped here is still open in the process that was forked.
            *idle = Idle { made_in: MadeIn::this_process(), wires: VecDeque::new() };
        }
        let stale = idle.take_stale();
        let wire = idle.wires.pop_back().map(|idle| idle.wire);
        drop(idle);
        drop(stale);
        wire
    }

    fn put_back(&self, wire: Box<dyn Wire>) {
        let mut idle = lock(&self.idle);
        let is_of_use = idle.made_in.is_here() && wire.has_handles() == self.has_handles();
        let rest = if is_of_use && idle.wires.len() < MOST_IDLE {
            idle.wires.push_back(IdleWire { since: Instant::now(), wire });
            None
        } else {
            Some(wire)
        };
        drop(idle);
        drop(rest);
    }

    /// Whether an error says that nobody is there any more. All others are those of this process, or of the way there.
    fn is_gone(&self, error: &Error) -> bool {
        error.is_disconnected()
            || error.io_error().is_some_and(|error| match error.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof => true,
                ErrorKind::NotFound => matches!(self.place, ManagerPlace::Path(_)),
                // So it is with what a process has open that has ended, until its parent has noticed.
                ErrorKind::PermissionDenied => {
                    matches!(&self.place, ManagerPlace::Path(path) if path.starts_with(Path::new("/proc")))
                }
                _ => false,
            })
    }

    fn unreachable(&self, error: Error) -> Error {
        let todo = match identity::identity().confined && !error.is_authentication() {
            true => Some(IN_A_SANDBOX),
            false => None,
        };
        match (self.is_gone(&error), todo) {
            (true, todo) => self.lost("cannot reach", &error.to_string(), todo.unwrap_or(START_ANOTHER)),
            (false, Some(todo)) => Error::invalid(format!("cannot reach {self:?}: {error}; {todo}")),
            (false, None) => error,
        }
    }

    fn ended(&self, why: &str) -> Error {
        self.hang_up();
        self.lost("has lost", why, START_ANOTHER).with_ran(Ran::Maybe)
    }

    fn lost(&self, what: &str, why: &str, todo: &str) -> Error {
        Error::new(Kind::ManagerLost(format!("{what} the manager at {}: {why}; {todo}", self.place.address())))
    }

    fn garbled(&self, why: &CodecError) -> Error {
        self.lost("cannot understand", &format!("it sent a malformed message ({why})"), "is it of this build?")
            .with_ran(Ran::Maybe)
    }
}

/// What to do about one that cannot be reached from a sandbox.
const IN_A_SANDBOX: &str = "this process is in a sandbox, which needs `network(true)` and `inherit_authkey(true)` for \
                            that, and the manager an address such as `127.0.0.1:0`";

/// What to do about a server that has ended.
const START_ANOTHER: &str = "if its server has ended, its objects are gone: start another manager, and make them again";

impl Hosts {
    fn find(&self, id: u64) -> Option<Arc<Host>> {
        self.known.get(&id)?.upgrade()
    }

    /// Adds a host. Returns the one that has to go for it, which is not to be dropped under the lock.
    fn remember(&mut self, host: &Arc<Host>) -> Option<Arc<Host>> {
        if self.known.len() >= self.swept_at {
            self.known.retain(|_, host| host.strong_count() > 0);
            self.swept_at = 2 * self.known.len().max(MOST_RECENT);
        }
        self.known.insert(host.id, Arc::downgrade(host));
        // What nobody vouches for does not take the place of others.
        if host.is_trusted || host.door().is_some() {
            self.recent.push_back(host.clone());
        }
        if self.recent.len() > MOST_RECENT { self.recent.pop_front() } else { None }
    }

    /// Returns the one that was remembered.
    fn forget(&mut self, id: u64) -> Option<Arc<Host>> {
        self.known.remove(&id);
        let at = self.recent.iter().position(|host| host.id == id)?;
        self.recent.remove(at)
    }
}

fn failed(stage: u32, failure: Failure) -> Error {
    Failed { stage: Stage::from_u32(stage), leaving: false, failure }.into()
}
