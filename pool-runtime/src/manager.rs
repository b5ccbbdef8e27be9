//! How a [`Manager`]'s server is started: a process with one call, which serves until it is told to end.
//!
//! ```text
//!   who starts it                               server process
//!     listens where only this user can ──▶ start ─▶ connects (its key is inherited)
//!     place, key ────────────────────────────────▶ listens there
//!                ◀──────────────────────────────── place, number, or why not
//!     …                                             a thread for each client
//!     stop       ────────────────────────────────▶ ends
//! ```
//!
//! The connection between the two is the server's lifeline: it ends when the other side does. A forked child may have a
//! copy of it, so the server is also told. If the other side is killed, the kernel kills the server, too, as any
//! process of this library.

use crate::authkey::{self, AuthKey};
use crate::codec::{Reader, Writer};
use crate::connection::Address;
use crate::error::{Error, Result};
use crate::locks::lock;
use crate::objects::managed::{self, Door, Host, ManagerPlace, PipeEnd, Server, ServerProcess, Wire, WireListener};
use crate::objects::{Manager, Receiver};
use crate::os;
use crate::process::{Process, RunningProcess};
use pool_macros::task;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often it is looked whether a server that does not come has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a server may take to end before it is killed. Half of it is for calls that are under way.
const GRACE: Duration = Duration::from_secs(10);

/// The options of a [`Manager`] that is started.
///
/// | option | default |
/// |---|---|
/// | [`address`](Self::address) | one that nobody but processes of this user reaches, and that leaves nothing behind |
/// | [`authkey`](Self::authkey) | the key of this process |
/// | [`name`](Self::name) | `Manager-1`, `Manager-2`, … |
///
/// ```
/// # use pool_runtime::{Manager, Result, enter};
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::builder().name("counters").start()?;
///     assert!(manager.pid().is_some());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a manager does nothing until it is started"]
pub struct ManagerBuilder {
    address: Option<Address>,
    key: Option<AuthKey>,
    name: Option<String>,
}

impl ManagerBuilder {
    /// Where the server listens: a path, or `host:port`, where port 0 is a free one. Tasks in a sandbox, and programs on
    /// other machines, need one.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// let manager = Manager::builder().address("127.0.0.1:0").start()?;
    /// assert!(manager.address().to_string().starts_with("127.0.0.1:"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn address(mut self, address: impl Into<Address>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The key that clients have to prove, in place of that of this process. Proxies travel without it: a process that
    /// gets one uses the key with which it has [connected](Manager::connect) to this manager, or its own.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, connection::AuthKey, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// let key = AuthKey::new("sixteen random bytes, or more");
    /// let manager = Manager::builder().authkey(key).start()?;
    /// let wrong = Manager::connect(manager.address(), AuthKey::new("something else"));
    /// assert!(wrong.unwrap_err().is_authentication());
    /// # Ok(())
    /// # }
    /// ```
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The name of the server's process.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, active_children, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// let _manager = Manager::builder().name("counters").start()?;
    /// assert_eq!(active_children()[0].name(), "counters");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Errors
    ///
    /// As for [`Process::start`]; or the server cannot listen at the address; or two types of managed objects have one
    /// name.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// let manager = Manager::builder().address("127.0.0.1:0").start()?;
    /// let error = Manager::builder().address(manager.address()).start().unwrap_err();
    /// assert!(error.to_string().contains("another listener has this address"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(self) -> Result<Manager> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        managed::check().map_err(Error::invalid)?;
        let place = self.address.as_ref().map(ManagerPlace::of).transpose()?;
        let key = self.key.map_or_else(AuthKey::current, Ok)?;
        key.check()?;
        let meeting = WireListener::bind(None, AuthKey::current()?)?;
        let name = self.name.unwrap_or_else(|| format!("Manager-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let (door, visitors) = managed::door()?;
        let target = serve::call(meeting.place()?, door.clone(), visitors);
        let process = Process::new(target).name(name).daemon(true).start()?;
        let lifeline = loop {
            if let Some(wire) = meeting.accept_for(LOOK)? {
                break wire;
            }
            if !process.is_alive() {
                return Err(early_end(&process));
            }
        };
        let told = send(&*lifeline, &place).and_then(|()| lifeline.send(key.as_bytes(), &[]));
        let answer: Option<Result<(ManagerPlace, u64), String>> = match told {
            Ok(()) => receive(&*lifeline)?,
            Err(_) => None,
        };
        match answer {
            Some(Ok((place, id))) => {
                let server = ServerChild { process, lifeline: Mutex::new(Some(lifeline)) };
                Ok(Manager::of_server(Host::new(id, place, Some(key), Some(door)), Some(Box::new(server))))
            }
            Some(Err(why)) => Err(Error::invalid(format!("cannot start a manager: {why}"))),
            None => Err(early_end(&process)),
        }
    }
}

fn early_end(process: &RunningProcess<Result<(), String>>) -> Error {
    match process.join() {
        Ok(Ok(())) => Error::invalid("cannot start a manager: its process has ended"),
        Ok(Err(why)) => Error::invalid(format!("cannot start a manager: {why}")),
        Err(error) => error,
    }
}

impl Manager {
    /// Starts a server, which is a process of this program. For options, see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As for [`ManagerBuilder::start`].
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     let list = List::new(&manager)?;
    ///     list.push(&1)?;
    ///     Ok(())
    /// }
    /// ```
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A manager with options.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     Manager::builder().address("127.0.0.1:0").start()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }
}

/// The server's process, for who has started it.
struct ServerChild {
    process: RunningProcess<Result<(), String>>,
    /// None once it was told to end.
    lifeline: Mutex<Option<Box<dyn Wire>>>,
}

impl ServerProcess for ServerChild {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn shut_down(&self) -> Result<()> {
        if let Some(lifeline) = lock(&self.lifeline).take() {
            // If it has ended, the process tells.
            let _ = lifeline.send(b"stop", &[]);
        }
        let ended = match self.process.join_timeout(GRACE)? {
            Some(ended) => ended,
            None => {
                self.process.kill()?;
                return self.process.join().map(drop);
            }
        };
        ended.map_err(|why| Error::invalid(format!("the server of a manager failed: {why}")))
    }
}

fn send<T: Serialize>(wire: &dyn Wire, value: &T) -> Result<()> {
    let mut writer = Writer::new();
    writer.value(value).map_err(|why| Error::invalid(format!("cannot start a manager: {why}")))?;
    wire.send(&writer.into_bytes(), &[])
}

fn receive<T: DeserializeOwned>(wire: &dyn Wire) -> Result<Option<T>> {
    let Ok(Some(message)) = wire.receive() else { return Ok(None) };
    let value = Reader::new(&message).value();
    value.map(Some).map_err(|why| Error::invalid(format!("cannot start a manager: its server said nonsense: {why}")))
}

/// What a server's process runs. `meeting` is where the one that has started it waits for it; `visitors` come through the
/// `door`, which those have that are given a proxy.
// The name is `registry::SERVE`.
#[task(name = "pool_runtime::manager::serve")]
fn serve(meeting: ManagerPlace, door: Door, visitors: Receiver<PipeEnd>) -> Result<(), String> {
    // Ctrl-C reaches every process of the program, and clients are to be served until its end.
    os::outlive_requests_to_end();
    let told = |error: Error| error.to_string();
    let lifeline = meeting.dial(None).map_err(told)?;
    let Some(place) = receive::<Option<ManagerPlace>>(&*lifeline).map_err(told)? else { return Ok(()) };
    let Ok(Some(key)) = lifeline.receive() else { return Ok(()) };
    let key = AuthKey::from(key.into_vec());
    let opened = open(place.as_ref(), &key);
    let answer = match &opened {
        Ok((_, place, id)) => Ok((place, id)),
        Err(error) => Err(error.to_string()),
    };
    send(&*lifeline, &answer).map_err(told)?;
    let Ok((listener, place, id)) = opened else { return Ok(()) };
    // Proxies of its own objects, which are in others, find this server with its key.
    let own = Host::new(id, place, Some(key), Some(door));
    own.introduce();
    let (server, listener) = (Arc::new(Server::new(id).map_err(told)?), Arc::new(listener));
    server.open(listener.clone(), visitors).map_err(|error| error.to_string())?;
    // Whether it is told to stop, or has nobody any more.
    let _ = lifeline.receive();
    listener.remove();
    server.end(GRACE / 2);
    drop(own);
    Ok(())
}

/// Begins to listen. Returns where, and the number of this server.
fn open(place: Option<&ManagerPlace>, key: &AuthKey) -> Result<(WireListener, ManagerPlace, u64)> {
    let mut id = [0; 8];
    authkey::fill_randomly(&mut id, "choose a number for a manager")?;
    let listener = WireListener::bind(place, key.clone())?;
    let place = listener.place()?;
    Ok((listener, place, u64::from_le_bytes(id)))
}
