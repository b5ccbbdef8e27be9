//! Connects to a listener.

use super::challenge::{Challenger, Side, Terms};
use super::session::{AuthFailure, Session};
use super::{Address, Connection};
use crate::authkey::AuthKey;
use crate::error::{Error, Kind, Result};
use crate::os::{Socket, SocketPlace};
use std::time::{Duration, Instant};

/// How long a client waits by default, in all: a listener may be busy for a while before it accepts.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Which key both sides are to have.
#[derive(Clone, Debug, Default)]
pub(super) enum Keying {
    #[default]
    OfProcess,
    Key(AuthKey),
    None,
}

impl Keying {
    /// None: nobody is asked for a key.
    pub(super) fn terms(&self, allow_md5: bool) -> Result<Option<Terms>> {
        let key = match self {
            Self::OfProcess => AuthKey::current()?,
            Self::Key(key) => key.clone(),
            Self::None => return Ok(None),
        };
        key.check()?;
        Ok(Some(Terms { key, allow_md5 }))
    }
}

/// Makes connections to a [`Listener`](super::Listener): Python's `Client`.
///
/// A key proves that whoever is at the other end has it, or passes on what somebody says who has it. **Whoever can make
/// a client connect to it can be let in, in that client's place, by any listener with the same key.** The protocol,
/// which is CPython's, cannot tell. So have clients connect only where nobody else can listen, such as a Unix socket in
/// a directory of this user's own, or give each listener a key of its own.
///
/// ```
/// use pool_runtime::connection::{Client, Listener};
///
/// let listener = Listener::bind("127.0.0.1:0")?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(|| Client::connect(address));
/// listener.accept()?.send_bytes(b"welcome")?;
/// let connection = client.join().expect("no panic")?;
/// assert_eq!(connection.recv_bytes()?.as_deref(), Some(&b"welcome"[..]));
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Client;

impl Client {
    /// Connects with the [key of this process](AuthKey::current), which the processes of one program have in common.
    /// For anything else, see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    ///
    /// ```
    /// # use pool_runtime::connection::Client;
    /// let error = Client::connect("no/such/socket").unwrap_err();
    /// assert!(error.to_string().contains("start the listener first"));
    /// ```
    pub fn connect(address: impl Into<Address>) -> Result<Connection> {
        Self::builder().connect(address)
    }

    /// A client with options.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client};
    /// # use std::time::Duration;
    /// let client = Client::builder().authkey(AuthKey::new("secret")).timeout(Duration::from_secs(5));
    /// assert!(client.connect("no/such/socket").is_err());
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder { keying: Keying::default(), allow_md5: false, timeout: TIMEOUT }
    }
}

/// The options of a [`Client`].
///
/// | option | default |
/// |---|---|
/// | [`authkey`](Self::authkey), [`no_authkey`](Self::no_authkey) | the key of this process |
/// | [`allow_md5`](Self::allow_md5) | no |
/// | [`timeout`](Self::timeout) | 60 seconds |
///
/// ```
/// # use pool_runtime::connection::{Client, Listener};
/// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
/// let connection = Client::builder().no_authkey().connect(listener.address())?;
/// connection.send_bytes(b"hello")?;
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a client does nothing until it connects"]
pub struct ClientBuilder {
    keying: Keying,
    allow_md5: bool,
    timeout: Duration,
}

impl ClientBuilder {
    /// The key that both sides prove to have.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client};
    /// let client = Client::builder().authkey(AuthKey::new("secret"));
    /// assert!(!format!("{client:?}").contains("secret"));
    /// ```
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.keying = Keying::Key(key);
        self
    }

    /// Neither side proves anything: as in Python without `authkey`. Whoever listens at the address is believed. A
    /// listener with a key does not accept this client.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// Client::builder().no_authkey().connect(listener.address())?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn no_authkey(mut self) -> Self {
        self.keying = Keying::None;
        self
    }

    /// Whether a peer may prove its key, and have this side prove it, with HMAC-MD5: CPython before 3.12 can do nothing
    /// else. MD5 is broken for other purposes, and best avoided.
    ///
    /// ```
    /// # use pool_runtime::connection::Client;
    /// let client = Client::builder().allow_md5(true);
    /// assert!(client.connect("no/such/socket").is_err());
    /// ```
    pub fn allow_md5(mut self, allowed: bool) -> Self {
        self.allow_md5 = allowed;
        self
    }

    /// How long [`connect`](Self::connect) may take in all, whatever the peer does meanwhile: until it accepts, and
    /// both sides have proved their key.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// # use std::time::Duration;
    /// // It never accepts.
    /// let listener = Listener::bind("127.0.0.1:0")?;
    /// let client = Client::builder().timeout(Duration::from_millis(100));
    /// let error = client.connect(listener.address()).unwrap_err();
    /// assert!(error.to_string().contains("within 100ms") || error.to_string().contains("in time"));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Connects to the listener at an address.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or does not accept in time; or one side has not proved its key to the other
    /// ([`Error::is_authentication`]).
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client, Listener};
    /// let key = AuthKey::new("secret");
    /// let listener = Listener::builder().authkey(key.clone()).bind("127.0.0.1:0")?;
    /// let address = listener.address().clone();
    /// let client = std::thread::spawn(|| Client::builder().authkey(key).connect(address));
    /// listener.accept()?;
    /// assert!(client.join().expect("no panic").is_ok());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn connect(&self, address: impl Into<Address>) -> Result<Connection> {
        self.connect_to(&address.into())
    }

    fn connect_to(&self, address: &Address) -> Result<Connection> {
        let terms = self.keying.terms(self.allow_md5)?;
        let deadline = Instant::now().checked_add(self.timeout);
        let connect = |place: SocketPlace<'_>, left| Socket::connect(place, share(Instant::now(), deadline, left));
        let (socket, place) = address.first("connect to", connect)?;
        let peer = format!("the listener at {address}");
        let internet = match place {
            SocketPlace::Internet(address) => Some(address),
            SocketPlace::File(_) => None,
        };
        let socket = match terms {
            None => socket,
            Some(terms) => {
                let (challenger, first) = Challenger::new(terms, Side::Client)?;
                let session = Session::begin(socket, challenger, first);
                session.and_then(|session| self.authenticate(session, deadline)).map_err(|why| refused(&peer, &why))?
            }
        };
        Ok(Connection::new(socket, peer, internet))
    }

    fn authenticate(&self, mut session: Session, deadline: Option<Instant>) -> Result<Socket, AuthFailure> {
        while !session.advance()? {
            // A peer that sends a byte at a time never lets the wait itself end.
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || !session.socket.await_readable(deadline)? {
                let before = session.waits_for();
                return Err(AuthFailure::Late { limit: self.timeout, before });
            }
        }
        Ok(session.socket)
    }
}

/// When the first of so many tries has to end, so that all of them have as long.
fn share(now: Instant, deadline: Option<Instant>, tries: u32) -> Option<Instant> {
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / tries.max(1))
}

/// The error of a connection that did not come about.
pub(super) fn refused(peer: &str, why: &AuthFailure) -> Error {
    let text = format!("cannot authenticate the connection with {peer}: {why}");
    Error::new(match why {
        AuthFailure::Left { .. } => Kind::Unproved(text),
        _ => Kind::Authentication(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_does_not_take_all_of_the_time() {
        let now = Instant::now();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        assert_eq!(share(now, after(60), 3), after(20));
        assert_eq!(share(now, after(60), 1), after(60));
        assert_eq!(share(now, None, 3), None);
        // It is late already.
        assert_eq!(share(now + Duration::from_secs(9), after(1), 2), after(9));
    }
}
