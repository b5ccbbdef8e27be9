//! A thread of this process in place of a worker process.
//!
//! ```text
//!   hire ──▶ initializer ──▶ Ready ──▶ calls … ──▶ Stop: it drops its state and ends; the attendant joins it
//!                                        │
//!                                        └── killed: its queues are closed, and nobody waits for it any more
//! ```
//!
//! A thread cannot be killed. One that should be is *abandoned*: what it reports from then on reaches nobody, no
//! further call starts there, and it ends by itself when the task returns that it runs just now. That takes no lock or
//! flag in the task's way: a closed queue and a page whose generation is over say it all.

use crate::dossier::{Loss, Stage};
use crate::error::{Error, Kind};
use crate::memory::StatusPage;
use crate::os::End;
use crate::panic::{self, Quiet};
use crate::peer::faults::{Faults, Plan};
use crate::peer::framed::Framed;
use crate::peer::handshake::StartFailure;
use crate::peer::lifeline::Lifeline;
use crate::protocol::{FromWorker, NamedCall};
use crate::run::Reporter;
use crate::run::current::{self, JobClock};
use crate::sync::lock;
use crate::transport::local::{self, LocalReceiver, LocalSender};
use crate::transport::{Inlet, Outlet, Received};
use crate::worker::{self, Duty, Next};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As much as the main thread of a process usually has.
const STACK: usize = 1 << 23;

/// A thread that was made to work, and what leads to it.
#[derive(Debug)]
pub(crate) struct WorkerThread {
    pub(super) lifeline: Arc<Lifeline>,
    pub(super) page: Arc<StatusPage>,
    pub(super) link: Arc<Framed>,
    inlet: Arc<Mutex<Box<dyn Inlet>>>,
    initializer_timeout: Option<Duration>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl WorkerThread {
    /// Starts a thread; it has yet to be [heard](Self::greet).
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or threads.
    pub(super) fn hire(
        name: String,
        initializer: Option<NamedCall>,
        plan: Option<Arc<Plan>>,
        initializer_timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::os("cannot start a thread that works", error);
        let page = Arc::new(StatusPage::local().map_err(failed)?);
        let (calls, inbox) = local::queue();
        let (reports, inlet) = local::queue();
        let lifeline = Arc::new(Lifeline {
            calls: calls.clone(),
            reports: reports.clone(),
            abandoned: AtomicBool::new(false),
            was_idle: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            fault: OnceLock::new(),
        });
        let worker = ThreadWorker { lifeline: lifeline.clone(), page: page.clone(), inbox, reports };
        let work = move || {
            let _quiet = Quiet::new();
            let (lifeline, reports) = (worker.lifeline.clone(), worker.reports.clone());
            // What it runs is caught where it runs; what comes here is our own mistake.
            match panic::catch(|| worker.work(initializer, plan)) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => drop(lifeline.fault.set(fault)),
                Err(panic) => drop(lifeline.fault.set(format!("panicked {panic}"))),
            }
            reports.close();
        };
        let handle = std::thread::Builder::new().name(name).stack_size(STACK).spawn(work).map_err(failed)?;
        let inlet: Arc<Mutex<Box<dyn Inlet>>> = Arc::new(Mutex::new(Box::new(inlet)));
        Ok(Self {
            lifeline,
            page,
            link: Framed::new(Arc::new(calls), inlet.clone()),
            inlet,
            initializer_timeout,
            handle: Mutex::new(Some(handle)),
        })
    }

    /// Waits until its initializer has run.
    ///
    /// # Errors
    ///
    /// That failed, or took too long, or the thread was abandoned meanwhile.
    pub(super) fn greet(&self) -> Result<(), StartFailure> {
        let limit = self.initializer_timeout;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let failed = |error, for_good| StartFailure { error, for_good, died: false };
        let answer = match lock(&self.inlet).receive(deadline) {
            Received::Frame(frame) => frame,
            Received::Nothing => {
                self.lifeline.kill();
                let late = format!("it took longer than {:?}", limit.unwrap_or_default());
                return Err(failed(Error::new(Kind::Initializer(late)), true));
            }
            _ => return Err(failed(Error::new(Kind::Terminated), false)),
        };
        match FromWorker::from_frame(&answer) {
            Ok(FromWorker::Ready) => Ok(()),
            Ok(FromWorker::NotReady(not_ready)) => Err(failed(not_ready.into(), true)),
            _ => Err(failed(Error::invalid("a thread that works said something out of turn"), false)),
        }
    }

    /// Waits until it has ended or is abandoned.
    pub(super) fn await_end(&self) {
        self.lifeline.reports.await_close();
    }

    /// Waits for the end of a thread that is not heard any more, unless nobody is to wait for it, and says how it
    /// ended. Nothing more starts there: its calls of this `generation` are over.
    pub(super) fn bury(&self, fault: Option<String>, generation: u32) -> Loss {
        // A thread that is abandoned lives on, and must not start what others are about to.
        let _ = self.page.take_back(generation);
        let lifeline = &self.lifeline;
        if fault.is_some() {
            lifeline.kill();
        }
        let abandoned = lifeline.abandoned.load(Ordering::Acquire);
        if (!abandoned || lifeline.was_idle.load(Ordering::Acquire))
            && let Some(handle) = lock(&self.handle).take()
        {
            // It catches what could panic.
            let _ = handle.join();
        }
        let fault = fault.or_else(|| lifeline.fault.get().filter(|_| !abandoned).cloned());
        let died = abandoned || lifeline.lost.load(Ordering::Acquire) || fault.is_some();
        let stage = match Stage::from_u32(self.page.stage()) {
            // What is under way there has begun, and its end reached nobody.
            Stage::Idle if abandoned => Stage::Running,
            stage => stage,
        };
        let status = if died { End::KILLED } else { End::Exited(0) };
        Loss { status: Some(status), stage, fault, ..Loss::of(std::process::id()) }
    }
}

/// What the thread itself has.
struct ThreadWorker {
    lifeline: Arc<Lifeline>,
    page: Arc<StatusPage>,
    inbox: LocalReceiver,
    reports: LocalSender,
}

impl ThreadWorker {
    fn work(mut self, initializer: Option<NamedCall>, plan: Option<Arc<Plan>>) -> Result<(), String> {
        let made = initializer.map(|call| worker::initialize(&call, &self.page)).transpose();
        let (state, answer) = match made {
            Ok(state) => (state, FromWorker::Ready),
            Err(why) => (None, FromWorker::NotReady(why)),
        };
        if self.reports.send(&answer.to_frame()).is_err() || answer != FromWorker::Ready {
            panic::drop_quietly(state);
            return Ok(());
        }
        let mut faults = plan.map(|plan| Faults::new(plan, self.lifeline.clone(), self.reports.clone()));
        let outlet: Box<dyn Outlet> = match &faults {
            Some(faults) => Box::new(faults.gate()),
            None => Box::new(self.reports),
        };
        let reporter = Reporter::frames(outlet);
        let clock = Arc::new(JobClock::new(self.page.clone()));
        current::thread_runs(Some(clock.clone()));
        let mut duty = Duty::new(self.page, clock, reporter, false, state);
        let done = loop {
            let frame = match self.inbox.receive(None) {
                Received::Frame(frame) if !self.lifeline.abandoned.load(Ordering::Acquire) => frame,
                _ => break Ok(()),
            };
            let next = match &mut faults {
                Some(faults) => faults.obey(&mut duty, &frame),
                None => duty.obey(&frame),
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Exit(_)) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        // What the state closes or writes when it is dropped belongs to an orderly end.
        duty.drop_state();
        // Of one that is given up, nobody wants to know.
        let given_up = self.lifeline.lost.load(Ordering::Acquire) || self.lifeline.abandoned.load(Ordering::Acquire);
        if given_up { Ok(()) } else { done }
    }
}
