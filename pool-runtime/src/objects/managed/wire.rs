//! How a client of a manager reaches its server: the one place that knows that it is by pipes or sockets, and with which
//! key.
//!
//! Who was given a [`Door`], which travels between the processes of one program, sends the other end of a pipe through it:
//! what is said then passes through shared memory, and may have handles in it. All others, and those that are confined and
//! may not make pipes, use the address and prove the key.

use crate::authkey::AuthKey;
use crate::connection::{Address, Client, Connection, Listener};
use crate::error::{Error, Result};
use crate::memory::Payload;
use crate::memory::region::Region;
use crate::objects::channel::{Pipe, Receiver, Sender, channel, pipe};
use crate::targets::MANAGER;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The longest message, in bytes. Longer ones are refused before they are sent.
pub(crate) const MOST: usize = 1 << 30;

/// One conversation: a client asks, and the server answers. Dropping it ends it for the other side.
pub(crate) trait Wire: Send + Sync {
    /// Sends a message of at most [`MOST`] bytes, as a whole, and the handles to which it refers.
    fn send(&self, message: &[u8], handles: &[Arc<Region>]) -> Result<()>;

    /// Waits for a message. None: the other side has ended the conversation, or is dead.
    fn receive(&self) -> Result<Option<Payload>>;

    /// Waits for at most so long. False: [`receive`](Self::receive) would still wait.
    fn poll(&self, patience: Duration) -> Result<bool>;

    /// Whether messages may refer to handles.
    fn has_handles(&self) -> bool;
}

impl Wire for Connection {
    fn send(&self, message: &[u8], handles: &[Arc<Region>]) -> Result<()> {
        match handles {
            [] => self.send_bytes(message),
            _ => Err(Error::invalid("a message to an address cannot have handles of shared memory and open files")),
        }
    }

    fn receive(&self) -> Result<Option<Payload>> {
        // As they are: of a key, no copy is to be left.
        Ok(self.recv_bytes()?.map(Payload::Heap))
    }

    fn poll(&self, patience: Duration) -> Result<bool> {
        Connection::poll(self, patience)
    }

    fn has_handles(&self) -> bool {
        false
    }
}

/// The end of a pipe through which raw messages go.
pub(crate) type PipeEnd = Pipe<(), ()>;

impl Wire for PipeEnd {
    fn send(&self, message: &[u8], handles: &[Arc<Region>]) -> Result<()> {
        self.send_raw(message, handles)
    }

    fn receive(&self) -> Result<Option<Payload>> {
        self.recv_raw()
    }

    fn poll(&self, patience: Duration) -> Result<bool> {
        Pipe::poll(self, patience)
    }

    fn has_handles(&self) -> bool {
        true
    }
}

/// Where clients of the same program send the server's ends of their pipes.
pub(crate) type Door = Sender<PipeEnd>;

/// A door, and what the server has of it.
pub(crate) fn door() -> Result<(Door, Receiver<PipeEnd>)> {
    channel()
}

/// Begins a conversation through a door.
pub(super) fn knock(door: &Door) -> Result<Box<dyn Wire>> {
    let (here, there) = pipe()?;
    door.send(&there)?;
    Ok(Box::new(here))
}

/// Where a server is, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ManagerPlace {
    Socket(SocketAddr),
    Host(String, u16),
    Path(PathBuf),
}

impl ManagerPlace {
    /// A path is made absolute, as it may be read where the current directory is another one.
    pub(crate) fn of(address: &Address) -> Result<Self> {
        Ok(match address {
            Address::Socket(address) => Self::Socket(*address),
            Address::Host(host, port) => Self::Host(host.clone(), *port),
            Address::Path(path) => Self::Path(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Address::Invalid(text) => {
                let why = "it is neither `host:port`, with a port from 0 to 65535, nor a path";
                return Err(Error::invalid(format!(
                    "a manager cannot have the address `{}`: {why}",
                    text.escape_debug()
                )));
            }
        })
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Socket(address) => Address::Socket(*address),
            Self::Host(host, port) => Address::Host(host.clone(), *port),
            Self::Path(path) => Address::Path(path.clone()),
        }
    }

    /// Begins a conversation. Without a key, it is that of this process: proxies travel without one.
    pub(crate) fn dial(&self, key: Option<&AuthKey>) -> Result<Box<dyn Wire>> {
        let client = match key {
            Some(key) => Client::builder().authkey(key.clone()),
            None => Client::builder(),
        };
        Ok(Box::new(client.connect(self.address())?))
    }
}

/// Where conversations begin: the server's end of [`ManagerPlace::dial`].
#[derive(Debug)]
pub(crate) struct WireListener(Listener);

impl WireListener {
    /// At a place, or where only processes of this user find it.
    pub(crate) fn bind(place: Option<&ManagerPlace>, key: AuthKey) -> Result<Self> {
        let builder = Listener::builder().authkey(key);
        let bound = match place {
            Some(place) => builder.bind(place.address()),
            None => builder.bind_hidden(),
        };
        bound.map(Self)
    }

    pub(crate) fn place(&self) -> Result<ManagerPlace> {
        ManagerPlace::of(self.0.address())
    }

    /// Waits for a client that has the key. Those that do not have it are passed over.
    pub(crate) fn accept(&self) -> Result<Box<dyn Wire>> {
        loop {
            if let Some(wire) = self.accept_for(Duration::MAX)? {
                return Ok(wire);
            }
        }
    }

    /// As [`accept`](Self::accept), for at most so long.
    pub(crate) fn accept_for(&self, patience: Duration) -> Result<Option<Box<dyn Wire>>> {
        match self.0.accept_timeout(patience) {
            Ok(connection) => Ok(connection.map(|connection| Box::new(connection) as _)),
            Err(error) if error.is_authentication() || error.is_exhausted() => {
                tracing::warn!(target: MANAGER, "a manager could not let in a client: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves nothing behind when the process ends without dropping it.
    pub(crate) fn remove(&self) {
        self.0.remove_file();
    }
}
