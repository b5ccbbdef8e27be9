//! The limits: two processes and a piece of memory that both see, with nothing in between.
//!
//! - The *ring* spins: a queue in each direction, with one writer and one reader. Neither side makes a system call.
//! - The *futex* sleeps: whoever waits does so in the kernel, and is woken for each message.
//!
//! Where the two sides run decides the most. The two sides of the ring have a processor each: on a single one, each
//! would wait for the scheduler to take the other away. Those of the futex can be placed either way.
//!
//! A message is 8 bytes. The other process is this program, started again with a variable of its own.

use super::memory::{Both, Lane, Shared};
use crate::Result;
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    process::{Pid, Signal, set_parent_process_death_signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// The variable that makes a process the other side: what it is to do, a colon, and the file with the memory.
const MARK: &str = "VERSUS_RAW_PEER";
/// The message that lets the other side sleep until the bell rings.
const REST: u64 = u64::MAX;

/// What the other side does, if this process is it; then it does not return. First thing in `main`.
pub fn serve_if_asked() {
    let Ok(mark) = std::env::var(MARK) else { return };
    // It spins: it must not outlive whom it serves.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
    let (kind, path) = mark.split_once(':').expect("a mark");
    let file = File::options().read(true).write(true).open(path).expect("the file");
    let shared = Shared::map(file).expect("the memory");
    let (there, back) = (&shared.there, &shared.back);
    let mut heard = 0;
    loop {
        if kind == "futex" {
            let message = there.await_ring(&mut heard);
            back.ring(message + 1);
            continue;
        }
        match there.pop() {
            REST => drop(there.await_ring(&mut heard)),
            message => back.push(message + 1),
        }
    }
}

/// Where the two sides run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On two processors, if there are two.
    Apart,
    /// Where the scheduler puts them.
    Any,
}

/// While it is there, this thread stays on one processor.
struct Pinned(Option<CpuSet>);

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            sched_setaffinity(None, before).expect("the affinity as it was");
        }
    }
}

struct Peer {
    shared: Shared,
    child: Child,
    /// The processor for us; none if the scheduler decides.
    our_place: Option<CpuSet>,
    _file: OwnedFd,
}

impl Peer {
    fn start(kind: &str, placement: Placement) -> Result<Self> {
        let file = memfd_create("versus", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size_of::<Both>() as u64)?;
        let shared = Shared::map(&file)?;
        let path = format!("{kind}:/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let child = Command::new(std::env::current_exe()?).env(MARK, path).spawn()?;
        let usable = sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect();
        let mut our_place = None;
        if let (Placement::Apart, [first, second, ..]) = (placement, &usable[..]) {
            let (mut ours, mut theirs) = (CpuSet::new(), CpuSet::new());
            ours.set(*first);
            theirs.set(*second);
            sched_setaffinity(Pid::from_raw(child.id() as i32), &theirs)?;
            our_place = Some(ours);
        }
        Ok(Self { shared, child, our_place, _file: file })
    }

    fn pinned(&self) -> Result<Pinned> {
        let Some(place) = &self.our_place else { return Ok(Pinned(None)) };
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, place)?;
        Ok(Pinned(Some(before)))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A peer that spins while it is asked, and rests between.
pub struct Ring(Peer);

impl Ring {
    pub fn start() -> Result<Self> {
        let peer = Peer::start("ring", Placement::Apart)?;
        peer.shared.there.push(REST);
        Ok(Self(peer))
    }

    /// One message after another, each answered before the next.
    pub fn round_trips(&self, times: u64) -> Result<Duration> {
        self.awake(|there, back| {
            for n in 0..times {
                there.push(n);
                assert_eq!(back.pop(), n + 1);
            }
        })
    }

    /// As many messages under way as there is room for.
    pub fn burst(&self, times: u64) -> Result<Duration> {
        self.awake(|there, back| {
            let (mut sent, mut received) = (0, 0);
            while received < times {
                while sent < times && there.try_push(sent) {
                    sent += 1;
                }
                while let Some(answer) = back.try_pop() {
                    received += 1;
                    assert_eq!(answer, received);
                }
            }
        })
    }

    fn awake(&self, talk: impl FnOnce(&Lane, &Lane)) -> Result<Duration> {
        let _pinned = self.0.pinned()?;
        let Both { there, back } = &*self.0.shared;
        there.ring(0);
        // Its answer says that it is awake.
        there.push(0);
        back.pop();
        let begun = Instant::now();
        talk(there, back);
        let time = begun.elapsed();
        there.push(REST);
        Ok(time)
    }
}

/// A peer that sleeps until it is asked, as do we until it has answered.
pub struct Futex {
    peer: Peer,
    heard: u32,
}

impl Futex {
    pub fn start(placement: Placement) -> Result<Self> {
        Ok(Self { peer: Peer::start("futex", placement)?, heard: 0 })
    }

    fn round_trip(&mut self, message: u64) {
        self.peer.shared.there.ring(message);
        assert_eq!(self.peer.shared.back.await_ring(&mut self.heard), message + 1);
    }

    pub fn round_trips(&mut self, times: u64) -> Result<Duration> {
        let _pinned = self.peer.pinned()?;
        let begun = Instant::now();
        (0..times).for_each(|n| self.round_trip(n));
        Ok(begun.elapsed())
    }

    /// One round trip, to get there, and one that is measured, after both sides have slept.
    pub fn round_trip_after(&mut self, rest: Duration) -> Result<Duration> {
        let _pinned = self.peer.pinned()?;
        self.round_trip(1);
        std::thread::sleep(rest);
        let begun = Instant::now();
        self.round_trip(2);
        Ok(begun.elapsed())
    }
}
