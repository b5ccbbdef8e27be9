//! A server as its clients see it: where it is, and the conversations with it that are idle.
//!
//! | state | who touches it |
//! |---|---|
//! | `HOSTS` | who reads a proxy, starts or drops a manager |
//! | `idle` | who calls takes a wire, or begins another one, and puts it back; nobody waits for anybody |

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
use crate::memory::region::{Region, collect};
use crate::memory::{Payload, Regions};
use crate::panic;
use crate::protocol::{Failed, Failure};
use std::fmt;
use std::sync::{Arc, Mutex};

/// So many idle wires are kept for each server: for as many threads that call at once.
const MOST_IDLE: usize = 64;

/// So many servers are remembered of which no proxy is left, with their idle wires: proxies come and go with calls.
const MOST_HOSTS: usize = 16;

/// The servers that this process knows.
static HOSTS: Mutex<Vec<Arc<Host>>> = Mutex::new(Vec::new());

/// A server as its clients see it.
pub struct Host {
    pub(super) id: u64,
    pub(super) place: ManagerPlace,
    /// None: that of this process.
    key: Option<AuthKey>,
    /// Which those of its program have.
    pub(super) door: Option<Door>,
    idle: Mutex<Idle>,
}

struct Idle {
    /// A forked process cannot use the wires of its parent.
    made_in: MadeIn,
    wires: Vec<Box<dyn Wire>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manager at {}", self.place.address())
    }
}

impl Host {
    pub(crate) fn new(id: u64, place: ManagerPlace, key: Option<AuthKey>, door: Option<Door>) -> Arc<Self> {
        let idle = Idle { made_in: MadeIn::this_process(), wires: Vec::new() };
        Arc::new(Self { id, place, key, door, idle: Mutex::new(idle) })
    }

    /// The server of this number: with the address and key by which this process has met it first, if it has.
    pub(super) fn find(id: u64, place: ManagerPlace, door: Option<Door>) -> Arc<Self> {
        let mut hosts = lock(&HOSTS);
        let known = hosts.iter().position(|host| host.id == id);
        if let Some(known) = known.map(|known| &hosts[known])
            && (known.door.is_some() || door.is_none())
        {
            return known.clone();
        }
        // One that is known without its door is known with it from now on.
        let known = known.map(|known| hosts.remove(known));
        let host = match &known {
            Some(known) => Self::new(id, known.place.clone(), known.key.clone(), door),
            None => Self::new(id, place, None, door),
        };
        let forgotten = remember(&mut hosts, host.clone());
        drop(hosts);
        drop((known, forgotten));
        host
    }

    /// Whether requests and replies may refer to handles.
    fn has_handles(&self) -> bool {
        self.door.is_some() && !identity::identity().confined
    }

    /// Proxies that are read from now on use this.
    pub(crate) fn introduce(self: &Arc<Self>) {
        let mut hosts = lock(&HOSTS);
        hosts.retain(|host| host.id != self.id);
        let forgotten = remember(&mut hosts, self.clone());
        drop(hosts);
        drop(forgotten);
    }

    pub(crate) fn forget(&self) {
        lock(&HOSTS).retain(|host| host.id != self.id);
        self.hang_up();
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
        let reply = stranger.ask(&request.into_bytes(), &[])?;
        match open(&reply) {
            Ok((Reply::Server(id), _)) => {
                let host = Self {
                    id,
                    place,
                    key,
                    door: None,
                    idle: Mutex::new(Idle {
                        made_in: MadeIn::this_process(),
                        wires: std::mem::take(&mut lock(&stranger.idle).wires),
                    }),
                };
                Ok(Arc::new(host))
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
        // What the reply refers to is held until it is decoded.
        let reply = self.ask(&request, &handles)?;
        let (reply, mut rest) = match open(&reply) {
            Ok((Reply::Failed { stage, failure }, _)) => return Err(failed(stage, failure)),
            Ok(opened) => opened,
            Err(why) => return Err(self.garbled(&why)),
        };
        let decoded = panic::catch(|| read(reply, &mut rest).and_then(|value| rest.finish().map(|()| value)));
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
        let wire = self.send(request, handles)?;
        match wire.receive() {
            Ok(Some(reply)) => {
                self.put_back(wire);
                Ok(reply)
            }
            Ok(None) => Err(self.ended("it has closed the connection")),
            Err(error) => Err(self.ended(&error.to_string())),
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
        let unreachable = |error: Error| self.unreachable(&error.to_string());
        if self.has_handles()
            && let Some(door) = &self.door
        {
            let wire = knock(door).map_err(unreachable)?;
            wire.send(request, handles).map_err(unreachable)?;
            return Ok(wire);
        }
        let wire = self.place.dial(self.key.as_ref()).map_err(|error| match error {
            // A server that ends leaves in the middle; one that knows another key says so.
            error if error.is_authentication() && !error.is_unproved() => error,
            error => unreachable(error),
        })?;
        wire.send(request, handles).map_err(unreachable)?;
        Ok(wire)
    }

    fn take_wire(&self) -> Option<Box<dyn Wire>> {
        let mut idle = lock(&self.idle);
        if !idle.made_in.is_here() {
            // What is dropped here is still open in the process that was forked.
            *idle = Idle { made_in: MadeIn::this_process(), wires: Vec::new() };
        }
        idle.wires.pop()
    }

    fn put_back(&self, wire: Box<dyn Wire>) {
        let mut idle = lock(&self.idle);
        let is_kept = idle.wires.len() < MOST_IDLE && idle.made_in.is_here();
        let rest = if is_kept {
            idle.wires.push(wire);
            None
        } else {
            Some(wire)
        };
        drop(idle);
        drop(rest);
    }

    fn unreachable(&self, why: &str) -> Error {
        let todo = match identity::identity().confined {
            true => {
                "this process is in a sandbox, which needs `network(true)` and `inherit_authkey(true)` for that, and the \
                 manager an address such as `127.0.0.1:0`"
            }
            false => START_ANOTHER,
        };
        self.lost("cannot reach", why, todo)
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

/// What to do about a server that has ended.
const START_ANOTHER: &str = "if its server has ended, its objects are gone: start another manager, and make them again";

/// Adds a host. Returns one that nobody uses and that has to go for it.
fn remember(hosts: &mut Vec<Arc<Host>>, host: Arc<Host>) -> Option<Arc<Host>> {
    hosts.push(host);
    let unused = || hosts.iter().position(|host| Arc::strong_count(host) == 1);
    let at = if hosts.len() > MOST_HOSTS { unused() } else { None };
    at.map(|at| hosts.remove(at))
}

fn failed(stage: u32, failure: Failure) -> Error {
    Failed { stage: Stage::from_u32(stage), leaving: false, failure }.into()
}
