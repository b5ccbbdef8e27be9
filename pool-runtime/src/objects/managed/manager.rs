//! [`Manager`]: a server, as who has started it or connected to it sees it. How it is started is said on the surface, in
//! `manager.rs`.

use super::host::Host;
use super::reference::{Proxy, SentHost};
use super::wire::ManagerPlace;
use crate::authkey::AuthKey;
use crate::connection::Address;
use crate::error::{Error, Result};
use crate::targets::MANAGER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The process of a server, for who has started it.
pub(crate) trait ServerProcess: Send + Sync {
    fn pid(&self) -> u32;

    /// Ends it, and waits until it has ended. May be called more than once.
    fn shut_down(&self) -> Result<()>;
}

/// A process with objects that any other processes use through proxies: Python's `BaseManager` and `SyncManager`.
///
/// [`#[managed]`](macro@crate::managed) makes a proxy for a type of yours; [`Dict`](crate::Dict) and [`List`](crate::List)
/// are ready-made. Proxies are values: they can be arguments and results of tasks, parts of structs, and be inside of
/// other objects.
///
/// The server process ends with the `Manager` that has started it, or with the program, in whatever way that ends. An
/// object lives until its last proxy is gone; one that was [published](Self::publish), and one of a client that came by
/// the address, lives until the server ends. A clone of the `Manager` counts as the same: the server ends with the last
/// of them. A `Manager` that is sent to a task, or is [connected](Self::connect) to, does not end
/// it.
///
/// ```
/// use pool_runtime::{Dict, Manager, Pool, Result, enter, task};
///
/// #[task]
/// fn count_words(text: &str, totals: &Dict<String, u64>) -> Result<(), String> {
///     let total = text.split_whitespace().count() as u64;
///     totals.insert(text, &total).map_err(|error| error.to_string())?;
///     Ok(())
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::start()?;
///     let totals = Dict::new(&manager)?;
///     let pool = Pool::new(2)?;
///     let done = pool.map(|text| count_words::call(text, &totals), ["to be", "or not to be"])?;
///     assert!(done.iter().all(Result::is_ok));
///     assert_eq!(totals.get("or not to be")?, Some(4));
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Manager {
    host: Arc<Host>,
    address: Address,
    server: Option<Arc<StartedServer>>,
}

/// The server, for who has started it. It ends with the last manager that has this.
struct StartedServer {
    process: Box<dyn ServerProcess>,
    host: Arc<Host>,
}

impl Drop for StartedServer {
    fn drop(&mut self) {
        if let Err(error) = self.process.shut_down() {
            tracing::debug!(target: MANAGER, "a manager that is dropped had ended before: {error}");
        }
        self.host.forget();
    }
}

impl Manager {
    pub(crate) fn of_server(host: Arc<Host>, server: Option<Box<dyn ServerProcess>>) -> Self {
        host.introduce();
        let server = server.map(|process| Arc::new(StartedServer { process, host: host.clone() }));
        Self { address: host.place.address(), host, server }
    }

    /// A manager of another program, which has told its address and its key.
    ///
    /// # Errors
    ///
    /// Nobody is there ([`Error::is_manager_lost`]), or has another key ([`Error::is_authentication`]).
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, connection::AuthKey, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let key = AuthKey::new("sixteen random bytes, or more");
    ///     let manager = Manager::builder().address("127.0.0.1:0").authkey(key.clone()).start()?;
    ///     manager.publish("hits", &List::<u32>::new(&manager)?)?;
    ///
    ///     // In the other program:
    ///     let manager = Manager::connect(manager.address(), key)?;
    ///     let hits = List::<u32>::open(&manager, "hits")?;
    ///     hits.push(&1)?;
    ///     Ok(())
    /// }
    /// ```
    pub fn connect(address: impl Into<Address>, key: AuthKey) -> Result<Self> {
        let place = ManagerPlace::of(&address.into())?;
        Ok(Self::of_server(Host::meet(place, Some(key))?, None))
    }

    /// Where the server is: with its port, if it was started at port 0.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, connection::Address, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::builder().address("127.0.0.1:0").start()?;
    ///     assert!(matches!(manager.address(), Address::Socket(address) if address.port() != 0));
    ///     Ok(())
    /// }
    /// ```
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The process id of the server, if this has started it.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     assert_ne!(Manager::start()?.pid(), Some(std::process::id()));
    ///     Ok(())
    /// }
    /// ```
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.process.pid())
    }

    /// Makes an object known by a name, by which others find it: `CounterProxy::open(&manager, name)`. An object that had
    /// the name before has it no more.
    ///
    /// # Errors
    ///
    /// It is an object of another manager, or the server is gone.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     manager.publish("ages", &Dict::<String, u32>::new(&manager)?)?;
    ///     Dict::<String, u32>::open(&manager, "ages")?.insert("bob", &42)?;
    ///     assert!(Dict::<String, u32>::open(&manager, "sizes").is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn publish(&self, name: &str, proxy: &impl Proxy) -> Result<()> {
        proxy.object().publish(&self.host, name)
    }

    /// Ends the server, and waits until it has ended. Calls that are under way fail, as do later ones. Its address is free
    /// then. To drop the manager does the same.
    ///
    /// Methods that run have five seconds to return; then the objects are dropped, in the order in which they were
    /// made, but for those whose methods still run. A server that has not ended after ten seconds is killed. So this,
    /// and the drop of a manager, may take ten seconds.
    ///
    /// # Errors
    ///
    /// The server had already ended in another way, or had to be killed; or this has not started it.
    ///
    /// ```
    /// # use pool_runtime::{Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::builder().address("127.0.0.1:0").start()?;
    ///     manager.shutdown()?;
    ///     Manager::builder().address(manager.address()).start()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn shutdown(&self) -> Result<()> {
        let Some(server) = &self.server else {
            let why = "only who has started a manager can shut it down";
            return Err(Error::invalid(format!("cannot shut down {:?}: {why}", self.host)));
        };
        let ended = server.process.shut_down();
        self.host.forget();
        ended
    }

    #[doc(hidden)]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("address", &self.address).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// What arrives is connected to the same server, and does not end it.
impl Serialize for Manager {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SentHost::of(&self.host).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Manager {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let host = SentHost::deserialize(deserializer)?.find();
        Ok(Self { address: host.place.address(), host, server: None })
    }
}
