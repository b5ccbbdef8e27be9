//! What a proxy has of its object: the server and the object's number there. That is also how a proxy travels.

use super::host::Host;
use super::message::{Reply, Request};
use super::method::MethodInfo;
use super::wire::{Door, ManagerPlace};
use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::memory::referred::{found, is_encoding, take_file};
use crate::memory::region::Region;
use crate::objects::reference::out_of_place;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Refers to an object in a server. A clone refers to the same one.
#[derive(Clone)]
pub struct ObjectRef {
    host: Arc<Host>,
    number: u64,
    /// As long as somebody has this, the object lives: see `shelf.rs`. None: it lives as long as its server.
    life: Option<Arc<Region>>,
}

/// What a constructor has made of its arguments.
#[derive(Debug)]
pub enum Made<E> {
    /// An object.
    Object(ObjectRef),
    /// Its own error.
    Refused(E),
}

type Arguments = Result<(), (&'static str, CodecError)>;

impl ObjectRef {
    /// Runs a constructor; `refusal` reads its own error.
    #[doc(hidden)]
    pub fn make<E>(
        host: &Arc<Host>,
        constructor: &'static MethodInfo,
        write: impl FnOnce(&mut Writer) -> Arguments,
        refusal: impl FnOnce(&mut Reader<'_>) -> Result<E, CodecError>,
    ) -> Result<Made<E>> {
        let (server, signature) = (host.id, constructor.signature_hash());
        let request = Request::Make { server, constructor: constructor.name, signature };
        host.call(constructor, &request, write, |reply, rest| match reply {
            Reply::Object { number, life } => Ok(Made::Object(Self::received(host.clone(), number, life)?)),
            Reply::Refused => refusal(rest).map(Made::Refused),
            _ => Err(out_of_turn()),
        })
    }

    /// Finds what was published by this name.
    #[doc(hidden)]
    pub fn open(host: &Arc<Host>, name: &str, kind: &str) -> Result<Self> {
        match host.request(&Request::Open { server: host.id, name, kind })? {
            Reply::Object { number, .. } => Ok(Self { host: host.clone(), number, life: None }),
            _ => Err(Error::new(Kind::DecodeResult(out_of_turn().to_string())).with_ran(Ran::Yes)),
        }
    }

    fn received(host: Arc<Host>, number: u64, life: Option<u64>) -> Result<Self, CodecError> {
        let life = life.map(take_file).transpose().map_err(CodecError::new)?;
        Ok(Self { host, number, life })
    }

    pub(super) fn publish(&self, host: &Host, name: &str) -> Result<()> {
        if self.host.id != host.id {
            return Err(Error::invalid(format!(
                "cannot publish `{}` at {host:?}: it is an object of {:?}; use that manager",
                name.escape_debug(),
                self.host
            )));
        }
        match host.request(&Request::Publish { server: self.host.id, object: self.number, name })? {
            Reply::Done => Ok(()),
            _ => Err(Error::new(Kind::DecodeResult(out_of_turn().to_string())).with_ran(Ran::Yes)),
        }
    }

    /// Calls a method.
    #[doc(hidden)]
    pub fn call<R>(
        &self,
        method: &'static MethodInfo,
        write: impl FnOnce(&mut Writer) -> Arguments,
        read: impl FnOnce(&mut Reader<'_>) -> Result<R, CodecError>,
    ) -> Result<R> {
        let (server, object) = (self.host.id, self.number);
        let request = Request::Call { server, object, method: method.name, signature: method.signature_hash() };
        self.host.call(method, &request, write, |reply, rest| match reply {
            Reply::Value => read(rest),
            _ => Err(out_of_turn()),
        })
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        self.host.tidy();
    }
}

fn out_of_turn() -> CodecError {
    CodecError::new("the server sent a reply to another request")
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} of {:?}", self.number, self.host)
    }
}

/// The same object of the same server.
impl PartialEq for ObjectRef {
    fn eq(&self, other: &Self) -> bool {
        (self.host.id, self.number) == (other.host.id, other.number)
    }
}

impl Eq for ObjectRef {}

impl Hash for ObjectRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.host.id, self.number).hash(state);
    }
}

/// A server, as it travels: with its door to other processes of the program.
#[derive(Serialize, Deserialize)]
pub(super) struct SentHost {
    server: u64,
    place: ManagerPlace,
    door: Option<Door>,
}

impl SentHost {
    pub(super) fn of(host: &Host) -> Self {
        let door = if is_encoding() { host.door().cloned() } else { None };
        Self { server: host.id, place: host.place.clone(), door }
    }

    pub(super) fn find(self) -> Arc<Host> {
        Host::find(self.server, self.place, self.door)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.life.as_ref().is_some_and(|life| !found(life)) {
            return Err(out_of_place("proxy"));
        }
        let life = self.life.as_ref().map(|life| life.id());
        (SentHost::of(&self.host), self.number, life).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (host, number, life) = <(SentHost, u64, Option<u64>)>::deserialize(deserializer)?;
        Self::received(host.find(), number, life).map_err(de::Error::custom)
    }
}

/// A proxy: what `#[managed]` makes, [`Dict`](crate::Dict) and [`List`](crate::List).
///
/// ```
/// # use pool_runtime::{Dict, Manager, Proxy, Result, enter};
/// fn publish_all(manager: &Manager, proxies: &[(&str, &impl Proxy)]) -> Result<()> {
///     proxies.iter().try_for_each(|(name, proxy)| manager.publish(name, *proxy))
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::start()?;
///     let totals = Dict::<String, u64>::new(&manager)?;
///     publish_all(&manager, &[("totals", &totals)])
/// }
/// ```
pub trait Proxy {
    #[doc(hidden)]
    fn object(&self) -> &ObjectRef;
}
