//! How a started process becomes a worker: it takes over its handles, is greeted, and confines itself.

use crate::memory::{StatusPage, Upward, region::Inbox};
use crate::os::{self, Abilities, Given, Handle};
use crate::program::Mark;
use crate::protocol::{FromWorker, Hello};
use crate::transport::{Outlet, Received, channel, ring};
use crate::{identity, registry};
use std::io;
use std::sync::Arc;

/// The exit code of a process that was meant to be a worker and could not become one.
pub(crate) const CANNOT_WORK: i32 = 70;

pub(super) struct ParentLink {
    pub(super) hello: Hello,
    pub(super) outlet: channel::ChannelSender,
    pub(super) inlet: channel::ChannelReceiver,
    pub(super) page: Arc<StatusPage>,
    pub(super) rings: Option<(ring::CallReceiver, ring::ReportSender)>,
    pub(super) upward: Upward,
}

/// Takes over the handles, answers the greeting, and confines this process. The error is why it cannot be a worker.
pub(super) fn connect(mark: Mark) -> Result<ParentLink, String> {
    let fail = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let given = mark.given.take()?;
    // Before anything that was given is read or mapped.
    given.check_giver()?;
    // Before this process opens any descriptor.
    let strays = mark.given.close_strays();
    let parent = tie_to_parent(mark.parent)?;
    os::check_parents_capabilities(parent.as_ref())?;
    let Given { reads, writes, status, passed, stdout, rings } = given;
    // A test harness runs this on a thread of its own, while its first thread waits.
    let harness_waits = stdout.is_some();
    stdout.map(os::replace_stdout).transpose().map_err(fail("cannot restore standard output"))?;
    let page = Arc::new(StatusPage::map(status).map_err(fail("cannot map its status page"))?);
    page.set_first_peak(os::Usage::of_this_process().peak);
    let rings = rings.map(ring::worker_ends).transpose().map_err(fail("cannot map its rings"))?;
    let (outlet, mut inlet) = channel::inherited(reads, writes).map_err(fail("cannot open its channel"))?;
    let hello = greeting(&mut inlet)?.and_then(|hello| confined(&hello, harness_waits, strays).map(|()| hello));
    // From here on, decoding waits for shared memory. Not earlier: Landlock confines the calling thread and those that it
    // starts later, so a thread that runs already would not be confined.
    let passed = Arc::new(passed);
    let is_confined = hello.as_ref().is_ok_and(|hello| hello.confinement.is_some());
    let upward = if is_confined { Upward::Given } else { Upward::Socket(passed.clone()) };
    watch(inlet.duplicate().map_err(fail("cannot watch its parent"))?, parent, Inbox::open(passed))?;
    let answer = hello.as_ref().map_or_else(|why| FromWorker::Refused(why.clone()), |_| FromWorker::Welcome);
    outlet.send(&answer.to_frame()).map_err(|error| format!("cannot answer its parent: {error}"))?;
    Ok(ParentLink { hello: hello?, outlet, inlet, page, rings, upward })
}

/// From here on, the kernel ends this process with its parent. Returns a handle of the parent, to be watched as well:
/// tasks may change what the kernel does.
fn tie_to_parent(parent: u32) -> Result<Option<Handle>, String> {
    os::die_with_parent();
    let handle = os::parent_handle();
    // After both: a parent that has ended by now has been succeeded by another process, and no signal comes.
    if os::parent_pid() != parent {
        return Err("its parent is already gone".into());
    }
    Ok(handle)
}

/// Starts the thread that ends this process when the parent is gone, and takes the memory that the parent shares.
fn watch(socket: Handle, parent: Option<Handle>, inbox: Inbox) -> Result<(), String> {
    let watcher = move || {
        os::block_all_signals();
        // The main thread may lose the signal: a task can change its user.
        os::die_with_parent();
        let mut inbox = Some(inbox);
        while !os::wait_hung_up(
            os::borrow(&socket),
            parent.as_ref().map(os::borrow),
            inbox.as_ref().map(|inbox| os::borrow(inbox.handle())),
        ) {
            // After a malformed message, the next one may be well-formed.
            let goes_on = |error: io::Error| error.kind() == io::ErrorKind::InvalidData;
            // Without an inbox, a call whose memory is missing fails instead of waiting for it.
            inbox = inbox.filter(|inbox| inbox.receive().unwrap_or_else(goes_on));
        }
        os::exit_now(CANNOT_WORK);
    };
    let thread = os::spawn_thread("pool-watch", Some(1 << 17), watcher);
    thread.map(drop).map_err(|error| format!("cannot watch its parent: {error}"))
}

/// Waits for the greeting. The inner error is for the parent.
fn greeting(inlet: &mut channel::ChannelReceiver) -> Result<Result<Hello, String>, String> {
    let hello = match inlet.receive_secret() {
        Received::Frame(mut frame) => {
            let hello = Hello::from_frame(&frame);
            // It has a key in it, of which no copy is to be left.
            frame.overwrite();
            hello
        }
        Received::Gone | Received::Nothing => return Err("its parent is already gone".into()),
        Received::Garbled(fault) => return Err(format!("its parent {fault}")),
    };
    Ok(hello.and_then(accepted))
}

/// Confines this process, before any code of the user's runs. `strays` says whether what it has inherited by chance is
/// closed.
fn confined(hello: &Hello, harness_waits: bool, strays: io::Result<()>) -> Result<(), String> {
    let Some(confinement) = &hello.confinement else { return Ok(()) };
    if let Err(error) = strays
        && !confinement.best_effort
    {
        return Err(format!("cannot list the descriptors that it has inherited by chance: {error}"));
    }
    confinement.apply(Abilities::here(), harness_waits)
}

fn accepted(hello: Hello) -> Result<Hello, String> {
    if hello.table != registry::digest() {
        let why =
            "it has other tasks, or other signatures, than its parent: both must be the same build of one program";
        return Err(why.into());
    }
    // One file is one build; two files are compared by their hashes.
    let same = hello.file == identity::file() && hello.file != (0, 0);
    if !same && (hello.build.is_none() || hello.build != identity::build()) {
        return Err("it is another build of the program than its parent: was the program rebuilt while it ran?".into());
    }
    registry::check()?;
    hello.place.take()?;
    Ok(hello)
}
