//! Brings regions from a worker to its parent: those to which a result refers.
//!
//! ```text
//!   worker   encode the result ─▶ Upward: one packet for each region ═══▶ socket ═══╗
//!            report, with the ids in it ═══▶ ring or channel ═══▶ parent             ║
//!   parent   reads the report ─▶ takes exactly these ◀═══════════════════════════════╝
//! ```
//!
//! The packets are sent before the report, so whoever has read it need not wait for them. What nobody asked for, as its
//! worker's report did not leave, is dropped when later ones are taken. If there are more than a socket has room for, the
//! worker reports that, and the parent gathers them before it knows of the result. A worker that is a thread leaves its
//! regions in a list.
//!
//! A worker that is confined sends none: from whoever runs untrusted code, no descriptor is taken. A result may name
//! what its call was given, and nothing else.

use crate::locks::lock;
use crate::memory::attach::Attacher;
use crate::memory::region::{Region, accept};
use crate::os::{self, Delivery, Handle, passing};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A result refers to no more regions.
pub(crate) const MOST_ATTACHED: usize = 1 << 12;

/// How long to wait where the system does not tell when there is room again.
const NAP: Duration = Duration::from_millis(1);

/// How long to wait there.
const PATIENCE: Duration = Duration::from_secs(10);

const TOO_MANY_UNREAD: &str = "it holds shared memory, or open files, and the system takes no more: too many that this user \
                               has sent, between any processes, were not received within ten seconds (see RLIMIT_NOFILE)";

/// Why regions could not be sent.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// The system refuses them: this result is lost, and others may be sent.
    Refused(String),
    /// Nothing can be sent any more.
    Broken(String),
}

impl From<String> for SendFault {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// The regions of results of a worker that is a thread.
pub(crate) type RegionList = Arc<Mutex<Vec<Arc<Region>>>>;

/// Where a worker leaves the regions of its results.
#[derive(Clone, Debug)]
pub(crate) enum Upward {
    Socket(Arc<Handle>),
    Here(RegionList),
    /// Its results name what the parent has given their calls.
    Given,
}

impl Upward {
    /// Sends regions. If there is no room for them, `make_room` has the reader [gather](Arrivals::gather) what was sent.
    pub(crate) fn send(
        &self,
        regions: &[Arc<Region>],
        mut make_room: impl FnMut() -> Result<(), String>,
    ) -> Result<(), SendFault> {
        let socket = match self {
            Self::Socket(socket) => socket,
            Self::Here(list) => {
                lock(list).extend_from_slice(regions);
                return Ok(());
            }
            Self::Given => return Ok(()),
        };
        let failed = |error: io::Error| format!("cannot send shared memory to its parent: {error}").into();
        let mut deadline = None;
        for region in regions {
            while let Err(error) = region.send(socket, 0) {
                match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        make_room()?;
                        os::wait_writable(os::borrow(socket)).map_err(failed)?;
                    }
                    // There is room in the socket: what is unread may be in others.
                    io::ErrorKind::QuotaExceeded => {
                        let deadline = match deadline {
                            Some(deadline) => deadline,
                            None => {
                                make_room()?;
                                *deadline.insert(Instant::now() + PATIENCE)
                            }
                        };
                        if Instant::now() >= deadline {
                            return Err(SendFault::Refused(TOO_MANY_UNREAD.into()));
                        }
                        std::thread::sleep(NAP);
                    }
                    _ => return Err(failed(error)),
                }
            }
        }
        Ok(())
    }
}

/// Where the parent finds what a worker has sent.
#[derive(Debug)]
pub(crate) enum Arrivals {
    /// And what was received before the report that refers to it.
    Socket(Arc<Handle>, VecDeque<Delivery>),
    Here(RegionList),
    /// The worker is confined.
    Given,
}

impl From<&Arc<Attacher>> for Arrivals {
    fn from(attacher: &Arc<Attacher>) -> Self {
        attacher.returns().map_or(Self::Given, |socket| Self::Socket(socket, VecDeque::new()))
    }
}

const NOT_GIVEN: &str = "it holds shared memory, or an open file, and a worker in a sandbox can only give back what it was \
                         given for this call: return values instead";
const NOT_SENT: &str = "it refers to shared memory, or an open file, that did not come with it";

impl Arrivals {
    /// Takes the regions with these ids, which were sent in this order. The call was `given` others.
    pub(crate) fn take(
        &mut self,
        ids: impl Iterator<Item = u64>,
        given: &[Arc<Region>],
    ) -> Result<Vec<Arc<Region>>, String> {
        match self {
            Self::Here(list) => {
                let mut list = lock(list);
                let find = |id| {
                    let at = list.iter().position(|region| region.id() == id).ok_or(NOT_SENT)?;
                    Ok(list.drain(..=at).next_back().ok_or(NOT_SENT)?)
                };
                ids.map(find).collect()
            }
            Self::Given => {
                let find = |id| given.iter().find(|region| region.id() == id).cloned();
                ids.map(|id| find(id).ok_or_else(|| NOT_GIVEN.into())).collect()
            }
            Self::Socket(socket, gathered) => {
                let find = |id| {
                    let before = std::iter::from_fn(|| gathered.pop_front()).find(|before| before.id() == Some(id));
                    before.map_or_else(|| take_from(socket, id), accept)
                };
                let found = ids.map(find).collect();
                gathered.clear();
                found
            }
        }
    }

    /// Receives what was sent, as the worker has more to send than its socket has room for.
    ///
    /// # Errors
    ///
    /// That is more than a result may have.
    pub(crate) fn gather(&mut self) -> Result<(), String> {
        let Self::Socket(socket, gathered) = self else { return Ok(()) };
        // Packets that are corrupt count, too: whoever sends them can do so faster than they are received.
        for _ in gathered.len()..=MOST_ATTACHED {
            match passing::try_receive(socket) {
                Ok(Some(delivery)) => gathered.push_back(delivery),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        Err(format!("sent more than {MOST_ATTACHED} pieces of shared memory without a result"))
    }
}

/// The next packet that is well-formed and there.
fn receive(socket: &Handle) -> Option<Delivery> {
    loop {
        match passing::try_receive(socket) {
            Ok(delivery) => return delivery,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return None,
        }
    }
}

/// Takes the next packet with this id. Those before it are dropped.
pub(crate) fn take_from(socket: &Handle, id: u64) -> Result<Arc<Region>, String> {
    let mut packets = std::iter::from_fn(|| receive(socket));
    packets.find(|delivery| delivery.id() == Some(id)).map_or_else(|| Err(NOT_SENT.into()), accept)
}
