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

use crate::{
    dossier::{Loss, Stage},
    error::{Error, Kind},
    memory::StatusPage,
    os::End,
    panic::{self, Quiet},
    peer::faults::{Faults, Plan},
    protocol::{FromWorker, NamedCall},
    run::{
        Reporter,
        current::{self, JobClock},
    },
    sync::lock,
    transport::{
        Inlet, Outlet, Received,
        local::{self, LocalReceiver, LocalSender},
    },
    worker::{self, Duty, Next},
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// As much as the main thread of a process usually has.
const STACK: usize = 1 << 23;

/// What others may know of a thread that works, and do about it.
#[derive(Debug)]
pub(crate) struct Thread {
    calls: LocalSender,
    reports: LocalSender,
    abandoned: AtomicBool,
    /// It had nothing to do when it was abandoned, and so ends at once.
    was_idle: AtomicBool,
    /// It has come to an end that stands for the death of a process.
    lost: AtomicBool,
    /// What is wrong with it.
    fault: OnceLock<String>,
}

impl Thread {
    /// Nobody waits for it any more.
    pub(crate) fn kill(&self) {
        self.abandoned.store(true, Ordering::Release);
        // Before anybody hears of the end.
        if self.calls.close() {
            self.was_idle.store(true, Ordering::Release);
        }
        self.reports.close();
    }

    /// As if its process had been killed, at this stage of its call.
    pub(super) fn lose(&self, page: &StatusPage, stage: Stage) {
        page.set_stage(stage as u32);
        self.lost.store(true, Ordering::Release);
    }
}

/// A thread that was made to work, and the ends of what leads to it.
#[derive(Debug)]
pub(crate) struct Hired {
    pub(crate) thread: Arc<Thread>,
    pub(crate) page: Arc<StatusPage>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) inlet: Arc<Mutex<Box<dyn Inlet>>>,
    handle: Option<JoinHandle<()>>,
}

impl Hired {
    /// Starts a thread; it has yet to be [heard](Self::greet).
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or threads.
    pub(crate) fn hire(name: String, initializer: Option<NamedCall>, plan: Option<Arc<Plan>>) -> Result<Self, Error> {
        let failed = |error| Error::os("cannot start a thread that works", error);
        let page = Arc::new(StatusPage::local().map_err(failed)?);
        let (calls, inbox) = local::queue();
        let (reports, inlet) = local::queue();
        let thread = Arc::new(Thread {
            calls: calls.clone(),
            reports: reports.clone(),
            abandoned: AtomicBool::new(false),
            was_idle: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            fault: OnceLock::new(),
        });
        let worker = Worker { thread: thread.clone(), page: page.clone(), inbox, reports };
        let work = move || {
            let _quiet = Quiet::new();
            let (thread, reports) = (worker.thread.clone(), worker.reports.clone());
            // What it runs is caught where it runs; what comes here is our own mistake.
            match panic::catch(|| worker.work(initializer, plan)) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => drop(thread.fault.set(fault)),
                Err(panic) => drop(thread.fault.set(format!("panicked {panic}"))),
            }
            reports.close();
        };
        let handle = std::thread::Builder::new().name(name).stack_size(STACK).spawn(work).map_err(failed)?;
        Ok(Self {
            thread,
            page,
            outlet: Arc::new(calls),
            inlet: Arc::new(Mutex::new(Box::new(inlet))),
            handle: Some(handle),
        })
    }

    /// Waits until its initializer has run, at most so long.
    ///
    /// # Errors
    ///
    /// That failed, and will again, or the thread was abandoned meanwhile: which, says the second one.
    pub(crate) fn greet(&mut self, limit: Option<Duration>) -> Result<(), (Error, bool)> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let answer = match lock(&self.inlet).receive(deadline) {
            Received::Frame(frame) => frame,
            Received::Nothing => {
                self.thread.kill();
                let late = format!("it took longer than {:?}", limit.unwrap_or_default());
                return Err((Error::new(Kind::Initializer(late)), true));
            }
            _ => return Err((Error::new(Kind::Terminated), false)),
        };
        match FromWorker::from_frame(&answer) {
            Ok(FromWorker::Ready) => Ok(()),
            Ok(FromWorker::NotReady(not_ready)) => Err((not_ready.into(), true)),
            _ => Err((Error::invalid("a thread that works said something out of turn"), false)),
        }
    }

    /// Waits for the end of a thread that is not heard any more, unless nobody is to wait for it, and says how it
    /// ended. Nothing may start there any more: the page's generation is over.
    pub(crate) fn bury(&mut self, fault: Option<String>) -> Loss {
        let thread = &self.thread;
        if fault.is_some() {
            thread.kill();
        }
        let abandoned = thread.abandoned.load(Ordering::Acquire);
        if !abandoned || thread.was_idle.load(Ordering::Acquire) {
            self.join();
        }
        let thread = &self.thread;
        let fault = fault.or_else(|| thread.fault.get().filter(|_| !abandoned).cloned());
        let died = abandoned || thread.lost.load(Ordering::Acquire) || fault.is_some();
        let stage = match Stage::from_u32(self.page.stage()) {
            // What is under way there has begun, and its end reached nobody.
            Stage::Idle if abandoned => Stage::Running,
            stage => stage,
        };
        let status = if died { End::KILLED } else { End::Exited(0) };
        Loss { status: Some(status), stage, fault, ..Loss::of(std::process::id()) }
    }

    fn join(&mut self) {
        if let Some(handle) = self.handle.take() {
            // It catches what could panic.
            let _ = handle.join();
        }
    }
}

/// What the thread itself has.
struct Worker {
    thread: Arc<Thread>,
    page: Arc<StatusPage>,
    inbox: LocalReceiver,
    reports: LocalSender,
}

impl Worker {
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
        let mut faults = plan.map(|plan| Faults::new(plan, self.thread.clone(), self.reports.clone()));
        let outlet: Box<dyn Outlet> = match &faults {
            Some(faults) => Box::new(faults.gate()),
            None => Box::new(self.reports),
        };
        let reporter = Reporter::Channel { outlet, frame: Vec::new() };
        let clock = Arc::new(JobClock::new(self.page.clone()));
        current::thread_runs(Some(clock.clone()));
        let mut duty = Duty::new(self.page, clock, reporter, false, state);
        let done = loop {
            let frame = match self.inbox.receive(None) {
                Received::Frame(frame) if !self.thread.abandoned.load(Ordering::Acquire) => frame,
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
        let given_up = self.thread.lost.load(Ordering::Acquire) || self.thread.abandoned.load(Ordering::Acquire);
        if given_up { Ok(()) } else { done }
    }
}
