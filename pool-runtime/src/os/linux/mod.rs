//! Linux 5.4 or newer, with glibc or musl. Needs pidfd, memfd and, in some places, `/proc`.

mod barrier;
mod bell;
mod child;
#[cfg_attr(not(feature = "sandbox"), path = "confine/absent.rs")]
mod confine;
pub(crate) mod fault;
mod file;
mod fork;
mod given;
mod handle;
mod link;
mod mapping;
mod memory;
mod oom;
pub(crate) mod passing;
mod path;
mod poll;
mod presence;
mod process;
mod processor;
mod program;
mod scale;
mod sentinel;
mod signal;
mod socket;
mod sparse;
mod spawn;
mod stack;
mod stderr;
mod step;
mod thread;
mod words;

// What is `pub(crate)` in these is the interface: `os` lists it.
pub(crate) use {
    barrier::*, bell::*, child::*, file::*, fork::*, given::*, handle::*, link::*, mapping::*, memory::*, oom::*,
    poll::*, presence::*, process::*, processor::*, program::*, scale::*, signal::*, socket::*, sparse::*, stack::*,
    stderr::*, thread::*, words::*,
};
