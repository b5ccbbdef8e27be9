//! Brings a new process through the handshake, until it is a worker whose initializer has run.
//!
//! Nothing here waits without a deadline or without watching the child: a process that dies, hangs or is another
//! program before it has answered is an error that says so.

use crate::dossier::Dossier;
use crate::error::{Error, Kind};
use crate::memory::region::Region;
use crate::os::End;
use crate::peer::autopsy::LAST_BREATH;
use crate::peer::spawn::Launched;
use crate::protocol::{FromWorker, Hello, NamedCall, Place};
use crate::sync::lock;
use crate::transport::Received;
use crate::{identity, registry};
use std::sync::Arc;
use std::time::Instant;

/// The greeting for a process of this build.
pub(crate) fn hello(name: String, daemon: bool, epoch: u32, single: bool, place: Place) -> Hello {
    Hello {
        file: identity::file(),
        build: None,
        table: registry::digest(),
        epoch,
        name,
        identity: identity::next_identity(),
        parent_name: identity::current_process().name().to_owned(),
        daemon,
        depth: identity::depth() + 1,
        single,
        place,
        has_initializer: false,
        confinement: None,
    }
}

/// Why a process did not become a worker.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) error: Error,
    /// It would fail the same way again.
    pub(crate) for_good: bool,
    /// It ended by itself, or somebody else ended it: its status says how.
    pub(crate) died: bool,
}

/// When a process died that did not answer.
const BEFORE: &str = "before it became a worker: does code that runs before `pool_main!` or `enter()` exit or panic?";

impl Launched {
    /// Greets the process, and waits until it agrees to work and its initializer has run.
    ///
    /// # Errors
    ///
    /// It died, did not answer in time, is of another build, or its initializer failed. It is dead by then.
    pub(crate) fn greet(
        &self,
        mut hello: Hello,
        initializer: Option<(&NamedCall, &[Arc<Region>])>,
    ) -> Result<(), StartFailure> {
        hello.has_initializer = initializer.is_some();
        hello.confinement = self.confinement.clone();
        hello.build = if self.is_other_file { identity::build() } else { None };
        // The greeting is small: it fits into the channel, whether or not anybody reads.
        let met = self.outlet.send(&hello.to_frame()).map_err(|_| self.died(BEFORE));
        let met = met.and_then(|()| self.welcome(initializer));
        met.inspect_err(|_| {
            let _ = self.child.kill();
            self.child.wait();
        })
    }

    fn welcome(&self, initializer: Option<(&NamedCall, &[Arc<Region>])>) -> Result<(), StartFailure> {
        let late = |pid, timeout| {
            format!(
                "process {pid} did not become a worker within {timeout:?}: does the program do something long before \
                 `pool_main!` or `enter()`?"
            )
        };
        match self.answer(self.deadline, BEFORE, || again(Kind::Invalid(late(self.child.pid(), self.timeout))))? {
            FromWorker::Welcome => {}
            FromWorker::Refused(why) => return Err(for_good(Kind::Refused(why))),
            _ => return Err(self.nonsense("answered a greeting with something else")),
        }
        let when = match initializer {
            Some((call, regions)) => {
                let when = format!("in the initializer `{}`", call.task);
                self.attacher.bring(regions);
                self.outlet.send(&call.to_frame()).map_err(|_| self.died(&when))?;
                when
            }
            None => "when it was about to work".to_owned(),
        };
        // An initializer may take as long as it needs, if nobody says otherwise.
        let limit = self.initializer_timeout.filter(|_| initializer.is_some());
        let late = || for_good(Kind::Initializer(format!("it took longer than {:?}", limit.unwrap_or_default())));
        match self.answer(limit.and_then(|limit| Instant::now().checked_add(limit)), &when, late)? {
            FromWorker::Ready => {
                lock(&self.inlet).works();
                Ok(())
            }
            FromWorker::NotReady(why) => Err(StartFailure { error: why.into(), for_good: true, died: false }),
            _ => Err(self.nonsense("went to work before it was ready")),
        }
    }

    fn answer(
        &self,
        deadline: Option<Instant>,
        when: &str,
        late: impl FnOnce() -> StartFailure,
    ) -> Result<FromWorker<'static>, StartFailure> {
        match lock(&self.inlet).receive(deadline) {
            Received::Frame(frame) => match FromWorker::from_frame(&frame) {
                Ok(FromWorker::Welcome) => Ok(FromWorker::Welcome),
                Ok(FromWorker::Refused(why)) => Ok(FromWorker::Refused(why)),
                Ok(FromWorker::Ready) => Ok(FromWorker::Ready),
                Ok(FromWorker::NotReady(why)) => Ok(FromWorker::NotReady(why)),
                Ok(FromWorker::Reports(_)) => Err(self.nonsense("reported a call that it was not sent")),
                Err(garbled) => Err(self.nonsense(&garbled.to_string())),
            },
            Received::Gone => Err(self.died(when)),
            Received::Garbled(fault) => Err(self.nonsense(&fault)),
            Received::Nothing => Err(late()),
        }
    }

    fn nonsense(&self, fault: &str) -> StartFailure {
        again(Kind::Invalid(format!("process {} {fault}", self.child.pid())))
    }

    fn died(&self, when: &str) -> StartFailure {
        // Its sockets are closed, so it is dead or about to be; how it ends is not to be mistaken for our doing.
        let died = self.child.wait_timeout(Some(LAST_BREATH));
        if !died {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        let how = status.map_or_else(|| "ended".into(), describe);
        let text = format!("process {} {how} {when}", self.child.pid());
        // Where it was let in and died by itself, there is more to tell: its initializer has crashed, say.
        let dossier = (died && when != BEFORE).then(|| Dossier::of_process(self.examine(None)));
        let failure = again(Kind::DiedStarting { text, killed: died && status.is_some_and(End::was_killed), dossier });
        StartFailure { died, ..failure }
    }
}

fn describe(end: End) -> String {
    match end.code() {
        Some(code) => format!("exited with code {code}"),
        None => format!("was killed ({end})"),
    }
}

fn for_good(kind: Kind) -> StartFailure {
    StartFailure { error: Error::new(kind), for_good: true, died: false }
}

fn again(kind: Kind) -> StartFailure {
    StartFailure { error: Error::new(kind), for_good: false, died: false }
}
