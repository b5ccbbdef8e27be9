//! What a proxy has of its object: the server and the object's number there. That is also how a proxy travels.

use super::host::Host;
use super::message::{Reply, Request};
use super::method::MethodInfo;
use super::wire::ManagerPlace;
use crate::codec::{CodecError, Reader, Writer};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Refers to an object in a server. A clone refers to the same one.
///
/// For now it does not keep the object: see `shelf.rs`, which decides that.
#[derive(Clone)]
pub struct ObjectRef {
    host: Arc<Host>,
    number: u64,
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
        let request = Request::Make { constructor: constructor.name, signature: constructor.signature_hash() };
        host.call(constructor, &request, write, |reply, rest| match reply {
            Reply::Object(number) => Ok(Made::Object(Self { host: host.clone(), number })),
            Reply::Refused => refusal(rest).map(Made::Refused),
            _ => Err(out_of_turn()),
        })
    }

    /// Finds what was published by this name.
    #[doc(hidden)]
    pub fn open(host: &Arc<Host>, name: &str, kind: &str) -> Result<Self> {
        match host.request(&Request::Open { name, kind })? {
            Reply::Object(number) => Ok(Self { host: host.clone(), number }),
            _ => Err(Error::invalid(out_of_turn().to_string())),
        }
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
            _ => Err(Error::invalid(out_of_turn().to_string())),
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

#[derive(Serialize, Deserialize)]
struct SentObject {
    server: u64,
    place: ManagerPlace,
    number: u64,
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Host { id, place, .. } = &*self.host;
        SentObject { server: *id, place: place.clone(), number: self.number }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SentObject { server, place, number } = SentObject::deserialize(deserializer)?;
        Ok(Self { host: Host::find(server, place), number })
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
