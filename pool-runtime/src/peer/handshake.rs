//! Takes a new process through the handshake, until it is a worker whose initializer has run. Every wait has a deadline
//! or watches the child: if the process dies, hangs or is another program, the error says so.

use crate::dossier::{Dossier, Loss, Stage};
use crate::error::{Error, Kind};
use crate::locks::lock;
use crate::memory::region::Region;
use crate::os::End;
use crate::peer::{Launched, TIME_TO_DIE, TIME_TO_EXIT};
use crate::protocol::{FromWorker, Hello, NamedCall, Place};
use crate::transport::Received;
use crate::worker::CANNOT_WORK;
use crate::{authkey, identity, registry};
use std::sync::Arc;
use std::time::Instant;

/// The call of an initializer, and the regions that it refers to.
pub(crate) type InitializerCall<'i> = Option<(&'i NamedCall, &'i [Arc<Region>])>;

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
        depth: identity::identity().depth + 1,
        single,
        place,
        has_initializer: false,
        confinement: None,
        authkey: None,
    }
}

/// Why a process did not become a worker.
pub(crate) struct StartFailure {
    pub(crate) error: Error,
    /// Another start would fail the same way.
    pub(crate) for_good: bool,
    /// The process ended, and this side did not end it: its status says how.
    died: bool,
}

impl StartFailure {
    pub(super) fn for_good(error: impl Into<Error>) -> Self {
        Self { error: error.into(), for_good: true, died: false }
    }

    pub(super) fn may_pass(kind: Kind) -> Self {
        Self { error: Error::new(kind), for_good: false, died: false }
    }
}

/// When a process died that did not answer.
const BEFORE: &str = "before it became a worker: does code that runs before `pool_main!` or `enter()` exit or panic?";

impl Launched {
    /// As [`Peer::greet`](crate::peer::Peer::greet).
    pub(crate) fn greet(&self, mut hello: Hello, initializer: InitializerCall<'_>) -> Result<(), StartFailure> {
        hello.has_initializer = initializer.is_some();
        hello.confinement = self.launch.confinement.clone();
        hello.authkey = if self.launch.hands_on_authkey { authkey::handed_on() } else { None };
        hello.build = self.launch.program.as_ref().and_then(|_| identity::build());
        self.exchange(&hello, initializer).map_err(|failure| {
            self.kill();
            self.child.await_death(TIME_TO_DIE);
            let signal = self.child.status().and_then(End::signal);
            if !hello.single || !failure.died || signal.is_none() {
                return failure;
            }
            // A `Process` that was killed by a signal did not fail to start.
            let loss = Loss { stage: Stage::Idle, ..self.examine(None) };
            StartFailure { error: Error::new(Kind::Lost(Dossier::of_process(loss))), ..failure }
        })
    }

    fn exchange(&self, hello: &Hello, initializer: InitializerCall<'_>) -> Result<(), StartFailure> {
        // The greeting is small: it fits into the channel, whether or not the process reads.
        self.outlet.send_secret(&hello.to_frame()).map_err(|_| self.died(BEFORE))?;
        self.expect(FromWorker::Welcome, self.deadline, BEFORE, "answered a greeting with something else", || {
            self.late("did not become a worker")
        })?;
        let mut when = "when it was about to work".to_owned();
        let mut deadline = self.deadline;
        if let Some((call, regions)) = initializer {
            when = format!("in the initializer `{}`", call.task);
            self.attacher.bring(regions);
            self.outlet.send(&call.to_frame()).map_err(|_| self.died(&when))?;
            // Without a limit, an initializer may take as long as it needs.
            deadline = self.launch.initializer_timeout.and_then(|limit| Instant::now().checked_add(limit));
        }
        self.expect(FromWorker::Ready, deadline, &when, "went to work before it was ready", || {
            if initializer.is_none() {
                return self.late("was not ready to work");
            }
            let late = format!("it took longer than {:?}", self.launch.initializer_timeout.unwrap_or_default());
            StartFailure::for_good(Error::new(Kind::Initializer(late)))
        })?;
        lock(&self.inlet).works();
        Ok(())
    }

    fn late(&self, what: &str) -> StartFailure {
        StartFailure::may_pass(Kind::Invalid(format!(
            "process {} {what} within {:?}: does the program do something long before `pool_main!` or `enter()`, or is the \
             process stopped?",
            self.child.pid(),
            self.launch.start_timeout
        )))
    }

    /// Waits for this answer. `when` is what the process is doing, `wrong` what it did if it gives another answer.
    fn expect(
        &self,
        wanted: FromWorker<'_>,
        deadline: Option<Instant>,
        when: &str,
        wrong: &str,
        late: impl FnOnce() -> StartFailure,
    ) -> Result<(), StartFailure> {
        let nonsense =
            |fault: &str| Err(StartFailure::may_pass(Kind::Invalid(format!("process {} {fault}", self.child.pid()))));
        let frame = match lock(&self.inlet).receive(deadline) {
            Received::Frame(frame) => frame,
            Received::Gone => return Err(self.died(when)),
            Received::Garbled(fault) => return nonsense(&fault),
            Received::Nothing => return Err(late()),
        };
        match (FromWorker::from_frame(&frame), &wanted) {
            (Ok(answer), wanted) if answer == *wanted => Ok(()),
            (Ok(FromWorker::Refused(why)), FromWorker::Welcome) => {
                Err(StartFailure::for_good(Error::new(Kind::Refused(why))))
            }
            (Ok(FromWorker::NotReady(why)), FromWorker::Ready) => Err(StartFailure::for_good(why)),
            (Ok(FromWorker::Reports(_)), _) => nonsense("reported a call that it was not sent"),
            (Ok(_), _) => nonsense(wrong),
            (Err(garbled), _) => nonsense(&garbled.to_string()),
        }
    }

    fn died(&self, when: &str) -> StartFailure {
        let is_before = when == BEFORE;
        // Its sockets are closed, so it is dead or about to be: wait, so that its own end is not mistaken for a kill.
        let died = self.child.wait_timeout(Some(TIME_TO_EXIT));
        if !died {
            self.kill();
        }
        let ended = self.child.await_death(TIME_TO_DIE);
        let status = self.child.status();
        let how = match status.map(|end| (end, end.code())) {
            None if !ended => "was to be killed and has not ended,".to_owned(),
            None => "ended".to_owned(),
            Some((_, Some(code))) => format!("exited with code {code}"),
            Some((end, None)) => format!("was killed ({end})"),
        };
        let when = match status.and_then(End::code) {
            Some(CANNOT_WORK) if is_before => "before it became a worker: its standard error says why",
            _ => when,
        };
        let text = format!("process {} {how} {when}", self.child.pid());
        // A process that was let in and died by itself, as in a crash of its initializer, has more to tell.
        let dossier = (died && !is_before).then(|| Dossier::of_process(self.examine(None)));
        let killed = died && status.is_some_and(End::was_killed);
        StartFailure { died, ..StartFailure::may_pass(Kind::DiedStarting { text, killed, dossier }) }
    }
}
