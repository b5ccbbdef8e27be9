//! How a client of a manager reaches its server: the one place that knows that it is by sockets, and with which key.
//!
//! Another way, such as shared memory, is another implementation of [`Wire`], and another variant of [`ManagerPlace`].

use crate::authkey::AuthKey;
use crate::connection::{Address, Client, Connection, Listener};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The longest message, in bytes. Longer ones are refused before they are sent.
pub(crate) const MOST: usize = 1 << 30;

/// One conversation: a client asks, and the server answers. Dropping it ends it for the other side.
pub(crate) trait Wire: Send + Sync {
    /// Sends a message of at most [`MOST`] bytes, as a whole.
    fn send(&self, message: &[u8]) -> Result<()>;

    /// Waits for a message. None: the other side has ended the conversation, or is dead.
    fn receive(&self) -> Result<Option<Vec<u8>>>;
}

impl Wire for Connection {
    fn send(&self, message: &[u8]) -> Result<()> {
        self.send_bytes(message)
    }

    fn receive(&self) -> Result<Option<Vec<u8>>> {
        self.recv_bytes()
    }
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
            if let Some(wire) = self.accept_for(std::time::Duration::MAX)? {
                return Ok(wire);
            }
        }
    }

    /// As [`accept`](Self::accept), for at most so long.
    pub(crate) fn accept_for(&self, patience: std::time::Duration) -> Result<Option<Box<dyn Wire>>> {
        match self.0.accept_timeout(patience) {
            Ok(connection) => Ok(connection.map(|connection| Box::new(connection) as _)),
            Err(error) if error.is_authentication() || error.is_exhausted() => {
                tracing::warn!("a manager could not let in a client: {error}");
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
