//! Accepts connections.
//!
//! ```text
//!   accepted by the kernel ──▶ pending: proves its key ──▶ Connection
//!                                  │
//!                                  └──▶ refused, late, gone
//! ```
//!
//! One thread at a time has the turn: it waits for the listener's socket and all that are pending at once, so that a
//! client that is silent holds up nobody else. Other threads that accept wait for the turn.
//!
//! | state | who touches it |
//! |---|---|
//! | `turn` | whoever has the turn takes the pending sessions out, and puts them back when it returns |

use super::challenge::{Challenger, Side, Terms};
use super::client::{Keying, refused};
use super::session::{AuthFailure, Session};
use super::{Address, Connection};
use crate::authkey::{self, AuthKey};
use crate::error::{Error, Kind, Result};
use crate::identity::MadeIn;
use crate::locks::{lock, sleep_on};
use crate::os::{self, Handle, Socket, SocketFile};
use crate::targets::CONNECTION;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a client may take to prove its key, by default.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);

/// How many clients may be at it at once. The next one takes the place of the one that has longest not proved its key;
/// others stay with the kernel only where all have.
const MOST_PENDING: usize = 256;

/// How many clients are taken before those that are pending are looked at again, which may be done or late.
const MOST_AT_ONCE: usize = 64;

/// How long no client is taken after there were no resources for one: whoever tries again at once is not kept busy.
const REST: Duration = Duration::from_millis(100);

/// Waits at an address for clients: Python's `Listener`.
///
/// | option of [`builder`](Self::builder) | default |
/// |---|---|
/// | [`authkey`](ListenerBuilder::authkey), [`no_authkey`](ListenerBuilder::no_authkey) | the key of this process |
/// | [`allow_md5`](ListenerBuilder::allow_md5) | no |
/// | [`auth_timeout`](ListenerBuilder::auth_timeout) | 10 seconds |
///
/// Dropping it ends it: the address is free at once, and the file of a Unix socket is removed. Connections that were
/// accepted stay.
///
/// ```
/// use pool_runtime::connection::{Client, Listener};
///
/// # fn main() -> pool_runtime::Result<()> {
/// let listener = Listener::bind("127.0.0.1:0")?;
/// let address = listener.address().clone();
/// std::thread::scope(|scope| {
///     scope.spawn(|| Client::connect(address)?.send_bytes(b"hello"));
///     let connection = listener.accept()?;
///     assert_eq!(connection.recv_bytes()?.as_deref(), Some(&b"hello"[..]));
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    /// To be removed at the end.
    file: Option<(PathBuf, SocketFile)>,
    /// The file that has no name any more: the address leads through this handle.
    _hidden: Option<Handle>,
    made_in: MadeIn,
    terms: Option<Terms>,
    auth_timeout: Duration,
    turn: Mutex<Option<Waiting>>,
    turn_is_free: Condvar,
}

/// Clients that have yet to prove their key, in the order in which they came.
#[derive(Debug)]
struct Waiting {
    pending: Vec<Pending>,
    /// When a thread last waited for them. Their time stands still while none does.
    left_at: Instant,
    /// Until when no new client is taken.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    session: Session,
    from: Option<SocketAddr>,
    deadline: Option<Instant>,
}

/// The options of a [`Listener`].
///
/// ```
/// # use pool_runtime::connection::{AuthKey, Listener};
/// let listener = Listener::builder().authkey(AuthKey::new("secret")).bind("127.0.0.1:0")?;
/// assert!(listener.address().to_string().starts_with("127.0.0.1:"));
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a listener does nothing until it is bound"]
pub struct ListenerBuilder {
    keying: Keying,
    allow_md5: bool,
    auth_timeout: Duration,
}

impl ListenerBuilder {
    /// The key that both sides prove to have.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Listener};
    /// let listener = Listener::builder().authkey(AuthKey::new("secret"));
    /// assert!(!format!("{listener:?}").contains("secret"));
    /// ```
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.keying = Keying::Key(key);
        self
    }

    /// Neither side proves anything, as in Python without `authkey`: **everybody who reaches the address is let in.**
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let _client = Client::builder().no_authkey().connect(listener.address())?;
    /// listener.accept()?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn no_authkey(mut self) -> Self {
        self.keying = Keying::None;
        self
    }

    /// As [`ClientBuilder::allow_md5`](super::ClientBuilder::allow_md5).
    ///
    /// ```
    /// # use pool_runtime::connection::Listener;
    /// Listener::builder().allow_md5(true).bind("127.0.0.1:0")?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn allow_md5(mut self, allowed: bool) -> Self {
        self.allow_md5 = allowed;
        self
    }

    /// How long a client may take in all to prove its key, whatever it does meanwhile. Time in which no thread accepts
    /// does not count.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// # use std::time::Duration;
    /// let listener = Listener::builder().auth_timeout(Duration::from_millis(10)).bind("127.0.0.1:0")?;
    /// // Says nothing.
    /// let _client = Client::builder().no_authkey().connect(listener.address())?;
    /// let error = listener.accept().unwrap_err();
    /// assert!(error.is_authentication() && error.to_string().contains("within 10ms"));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn auth_timeout(mut self, limit: Duration) -> Self {
        self.auth_timeout = limit;
        self
    }

    /// Listens at an address.
    ///
    /// A Unix socket that a killed program has left is replaced. To connect to it, a client needs the right to write to
    /// it: who has that says this process's `umask`, and the directories above.
    ///
    /// # Errors
    ///
    /// Another listener has the address; it is none of this machine; or the path is too long, its directory is missing,
    /// or something else is there.
    ///
    /// ```
    /// # use pool_runtime::connection::Listener;
    /// let listener = Listener::builder().bind("127.0.0.1:0")?;
    /// let error = Listener::builder().bind(listener.address()).unwrap_err();
    /// assert!(error.to_string().contains("another listener has this address"));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn bind(&self, address: impl Into<Address>) -> Result<Listener> {
        self.bind_to(address.into())
    }

    fn bind_to(&self, wanted: Address) -> Result<Listener> {
        let terms = self.keying.terms(self.allow_md5)?;
        let ((socket, file), _) = wanted.first("listen on", |place, _| Socket::listen(place))?;
        let local = socket.local_address();
        let local = local.map_err(|error| Error::os(format!("cannot find out where {wanted} is"), error))?;
        let address = local.map_or(wanted, Address::Socket);
        let file = match (&address, file) {
            // It is removed there, whatever the current directory is then.
            (Address::Path(path), Some(file)) => {
                Some((std::path::absolute(path).unwrap_or_else(|_| path.clone()), file))
            }
            _ => None,
        };
        Ok(Listener {
            socket,
            address,
            file,
            _hidden: None,
            made_in: MadeIn::this_process(),
            terms,
            auth_timeout: self.auth_timeout,
            turn: Mutex::new(Some(Waiting { pending: Vec::new(), left_at: Instant::now(), rests_until: None })),
            turn_is_free: Condvar::new(),
        })
    }
}

impl ListenerBuilder {
    /// Listens where only processes of this user find it, by an address that no other listener has had, and of which
    /// nothing is left in whatever way this process ends.
    pub(crate) fn bind_hidden(&self) -> Result<Listener> {
        let mut drawn = [0; 16];
        authkey::fill_randomly(&mut drawn, "choose an address")?;
        let name: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
        let directories = [std::env::temp_dir(), "/tmp".into(), "/dev/shm".into()];
        let mut refused = None;
        for directory in directories {
            match self.bind(directory.join(format!(".pool-{name}"))) {
                Ok(mut listener) => {
                    let Some((path, _)) = listener.file.take() else { return Ok(listener) };
                    let hidden = os::hide_socket_file(&path);
                    let (file, address) = hidden.map_err(|error| {
                        Error::os(
                            "cannot listen without an address of its own (give it one, as in `127.0.0.1:0`)",
                            error,
                        )
                    })?;
                    (listener._hidden, listener.address) = (Some(file), Address::Path(address));
                    return Ok(listener);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::invalid("there is no directory for temporary files")))
    }
}

/// The turn of one thread: what it does not take, it leaves for the next one.
struct Turn<'l> {
    listener: &'l Listener,
    pending: Vec<Pending>,
    rests_until: Option<Instant>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (pending, rests_until) = (std::mem::take(&mut self.pending), self.rests_until);
        *lock(&self.listener.turn) = Some(Waiting { pending, left_at: Instant::now(), rests_until });
        self.listener.turn_is_free.notify_one();
    }
}

impl Listener {
    /// Listens at an address, for clients with the [key of this process](AuthKey::current), which the processes of one
    /// program have in common. For anything else, see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`ListenerBuilder::bind`].
    ///
    /// ```
    /// # use pool_runtime::connection::Listener;
    /// let path = std::env::temp_dir().join(format!("listener-{}", std::process::id()));
    /// let listener = Listener::bind(&path)?;
    /// assert!(path.exists());
    /// drop(listener);
    /// assert!(!path.exists());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn bind(address: impl Into<Address>) -> Result<Self> {
        Self::builder().bind(address)
    }

    /// A listener with options.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Listener};
    /// Listener::builder().authkey(AuthKey::new("secret")).bind("127.0.0.1:0")?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder { keying: Keying::default(), allow_md5: false, auth_timeout: AUTH_TIMEOUT }
    }

    /// Where it listens: with the port that it was given, if it asked for port 0.
    ///
    /// ```
    /// # use pool_runtime::connection::{Address, Listener};
    /// let listener = Listener::bind("127.0.0.1:0")?;
    /// assert!(matches!(listener.address(), Address::Socket(address) if address.port() != 0));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client that proves its key.
    ///
    /// Several clients can be at it at a time: one that is silent, or slow, holds up no other one. Clients that leave
    /// without having sent anything are passed over. If 256 are at it, or if there are no descriptors or no memory for
    /// another one, the one that has longest not proved its key is dropped for the next one.
    ///
    /// # Errors
    ///
    /// A client did not prove its key, or not in time: [`Error::is_authentication`]. As in Python, that is told, as
    /// otherwise nobody would learn that a key is wrong; the listener goes on, so **a server does not end because of
    /// it**:
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client, Listener};
    /// # let listener = Listener::bind("127.0.0.1:0")?;
    /// # let address = listener.address().clone();
    /// # let clients = std::thread::spawn(move || {
    /// #     let _ = Client::builder().authkey(AuthKey::new("wrong")).connect(&address);
    /// #     Client::connect(&address).map(drop)
    /// # });
    /// let connection = loop {
    ///     match listener.accept() {
    ///         Ok(connection) => break connection,
    ///         Err(error) if error.is_authentication() || error.is_exhausted() => eprintln!("{error}"),
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// # assert_eq!(connection.recv_bytes()?, None);
    /// # clients.join().expect("no panic")?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// Or this process, or the system, has no descriptors or no memory left for a connection, and no client that could
    /// be dropped for it: [`Error::is_exhausted`]. That passes when other connections are closed. So **a server does
    /// not end because of it** either, and need not wait itself: the next call takes no new client for a tenth of a
    /// second.
    ///
    /// Or the process was forked from the one that made the listener.
    pub fn accept(&self) -> Result<Connection> {
        loop {
            if let Some(connection) = self.accept_until(None)? {
                return Ok(connection);
            }
        }
    }

    /// As [`accept`](Self::accept), but waits at most so long. `None`: no client came, or none has proved its key yet.
    /// It can go on with that in the next call.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// ```
    /// # use pool_runtime::connection::Listener;
    /// # use std::time::Duration;
    /// let listener = Listener::bind("127.0.0.1:0")?;
    /// assert!(listener.accept_timeout(Duration::from_millis(10))?.is_none());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn accept_timeout(&self, patience: Duration) -> Result<Option<Connection>> {
        self.accept_until(Instant::now().checked_add(patience))
    }

    fn accept_until(&self, deadline: Option<Instant>) -> Result<Option<Connection>> {
        // Before the turn, which a thread may have had that does not exist here.
        self.made_in.check("listener")?;
        let Some(mut turn) = self.take_turn(deadline) else { return Ok(None) };
        loop {
            let readable = turn.wait(deadline).map_err(|error| self.failed(error))?;
            // Those that came first come first. What is not read now is still there the next time.
            let mut at = 0;
            for has_sent in &readable[1..] {
                let before = turn.pending.len();
                if *has_sent && let Some(ended) = turn.advance(at) {
                    return ended.map(Some);
                }
                // One that is gone has made place for the next one.
                at += usize::from(turn.pending.len() == before);
            }
            if readable[0]
                && let Some(connection) = turn.accept()?
            {
                return Ok(Some(connection));
            }
            let now = Instant::now();
            if let Some(late) = turn.pending.iter().position(|one| one.deadline.is_some_and(|deadline| deadline <= now))
            {
                let late = turn.pending.remove(late);
                let why = AuthFailure::Late { limit: self.auth_timeout, before: late.session.waits_for() };
                return Err(refused(&self.name_of(late.from), &why));
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(None);
            }
        }
    }

    /// None: others had it until the deadline.
    fn take_turn(&self, deadline: Option<Instant>) -> Option<Turn<'_>> {
        let mut turn = lock(&self.turn);
        let Waiting { mut pending, left_at, rests_until } = loop {
            match turn.take() {
                Some(waiting) => break waiting,
                None => turn = sleep_on(&self.turn_is_free, turn, deadline)?,
            }
        };
        drop(turn);
        let away = left_at.elapsed();
        for one in &mut pending {
            one.deadline = one.deadline.and_then(|deadline| deadline.checked_add(away));
        }
        Some(Turn { listener: self, pending, rests_until })
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::os(format!("cannot accept a connection on {}", self.address), error)
    }

    fn name_of(&self, client: Option<SocketAddr>) -> String {
        client.map_or_else(|| format!("a client of {}", self.address), |client| format!("the client at {client}"))
    }
}

impl Turn<'_> {
    /// Waits until something can be done, or somebody is late. Returns whether there may be a new client, and then
    /// which of those that are pending have sent something.
    fn wait(&mut self, deadline: Option<Instant>) -> std::io::Result<Vec<bool>> {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|until| *until > now);
        let ends = self.pending.iter().filter_map(|one| one.deadline).chain(deadline).chain(self.rests_until);
        let timeout = ends.min().map(|first| first.saturating_duration_since(now));
        let sockets = self.pending.iter().map(|one| one.session.socket.handle());
        if self.rests_until.is_none() && (self.pending.len() < MOST_PENDING || self.oldest_stranger().is_some()) {
            return os::wait_any([self.listener.socket.handle()].into_iter().chain(sockets), timeout);
        }
        let mut readable = os::wait_any(sockets, timeout)?;
        readable.insert(0, false);
        Ok(readable)
    }

    /// Goes on with one that is pending. None: it is still pending, or it is gone without a word.
    fn advance(&mut self, at: usize) -> Option<Result<Connection>> {
        let outcome = self.pending[at].session.advance();
        if matches!(outcome, Ok(false)) {
            return None;
        }
        let Pending { session, from, .. } = self.pending.remove(at);
        let name = self.listener.name_of(from);
        match outcome {
            Ok(_) => Some(Ok(Connection::new(session.socket, name, from))),
            Err(AuthFailure::Left { has_spoken: false, .. }) => {
                tracing::debug!(target: CONNECTION, "{name} left before it sent anything");
                None
            }
            Err(why) => Some(Err(refused(&name, &why))),
        }
    }

    /// The place of the one that has longest not proved its key.
    fn oldest_stranger(&self) -> Option<usize> {
        self.pending.iter().position(|one| !one.session.peer_has_proved())
    }

    /// Drops the one that has longest not proved its key. False: all have.
    fn drop_a_stranger(&mut self, why: &str) -> bool {
        let Some(at) = self.oldest_stranger() else { return false };
        let dropped = self.pending.remove(at);
        tracing::debug!(target: CONNECTION, "{} was dropped before it had proved its key, as {why}", self.listener.name_of(dropped.from));
        true
    }

    /// Takes a client that has come. If there are no resources for it, one that has not proved its key makes place.
    fn take_client(&mut self) -> Result<Option<(Socket, Option<SocketAddr>)>> {
        loop {
            match self.listener.socket.accept() {
                Ok(taken) => return Ok(taken),
                Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => {
                    if !self.drop_a_stranger("there were no resources for another client") {
                        self.rests_until = Instant::now().checked_add(REST);
                        return Err(Error::new(Kind::Exhausted(format!(
                            "cannot accept a connection on {}, as this process or the system has no descriptors or no \
                             memory left for it: close connections that are not needed, or raise the limit. Clients \
                             wait meanwhile; call `accept` again. ({error})",
                            self.listener.address
                        ))));
                    }
                }
                Err(error) => return Err(self.listener.failed(error)),
            }
        }
    }

    /// Takes those that have come; the first one, if nobody is asked for a key.
    fn accept(&mut self) -> Result<Option<Connection>> {
        let listener = self.listener;
        for _ in 0..MOST_AT_ONCE {
            if self.pending.len() >= MOST_PENDING && self.oldest_stranger().is_none() {
                break;
            }
            let Some((socket, from)) = self.take_client()? else { break };
            let Some(terms) = &listener.terms else {
                return Ok(Some(Connection::new(socket, listener.name_of(from), from)));
            };
            let (challenger, first) = Challenger::new(terms.clone(), Side::Listener)?;
            let deadline = Instant::now().checked_add(listener.auth_timeout);
            match Session::begin(socket, challenger, first) {
                Ok(session) => {
                    if self.pending.len() >= MOST_PENDING {
                        self.drop_a_stranger("too many were at it");
                    }
                    self.pending.push(Pending { session, from, deadline });
                }
                Err(AuthFailure::Left { .. }) => {
                    tracing::debug!(target: CONNECTION, "{} has left already", listener.name_of(from))
                }
                Err(why) => return Err(refused(&listener.name_of(from), &why)),
            }
        }
        Ok(None)
    }
}

impl Listener {
    /// Removes the file of its socket, as far as it is still that one.
    pub(crate) fn remove_file(&self) {
        // A forked child has a copy.
        if let Some((path, file)) = self.file.as_ref().filter(|_| self.made_in.is_here()) {
            os::remove_socket_file(path, file);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove_file();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    /// However many come and leave, those that are pending are looked at.
    #[test]
    fn not_all_that_have_come_are_taken_at_once() {
        let listener = Listener::builder().bind("127.0.0.1:0").unwrap();
        let address = listener.socket.local_address().unwrap().unwrap();
        let clients: Vec<_> = (0..MOST_AT_ONCE + 10).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut turn = listener.take_turn(None).unwrap();
        for taken in [MOST_AT_ONCE, MOST_AT_ONCE + 10] {
            assert!(turn.accept().unwrap().is_none());
            assert_eq!(turn.pending.len(), taken);
        }
        drop(clients);
    }
}
