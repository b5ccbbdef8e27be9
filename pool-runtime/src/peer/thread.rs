//! A thread of this process in place of a worker process.
//!
//! ```text
//!   hire ──▶ initializer ──▶ Ready ──▶ calls … ──▶ Stop: it drops its state and ends; the attendant joins it
//!                                        │
//!                                        └── killed: its queues are closed, and nothing waits for it any more
//! ```
//!
//! A thread cannot be killed, so it is *abandoned*: its reports reach nobody, no further call starts there, and it ends
//! when its task returns. Closed queues and a status page whose generation is over are enough for that: the task's path
//! has no extra lock or flag.

use crate::dossier::{Loss, Stage};
use crate::error::{Error, Kind};
use crate::locks::lock;
use crate::memory::{StatusPage, Upward};
use crate::os::{self, End};
use crate::panic::{self, Quiet};
use crate::peer::{Faults, Framed, Lifeline, Plan, StartFailure};
use crate::protocol::{FromWorker, NamedCall};
use crate::run::{Reporter, current};
use crate::transport::{Inlet, Outlet, Received, local};
use crate::worker::{self, Duty, Next};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The usual stack of a process's main thread.
const STACK: usize = 1 << 23;

pub(crate) struct WorkerThread {
    pub(super) lifeline: Arc<Lifeline>,
    pub(super) page: Arc<StatusPage>,
    pub(super) link: Arc<Framed>,
    initializer_timeout: Option<Duration>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl WorkerThread {
    /// Starts a thread, which has yet to be [greeted](Self::greet). Fails if the system is out of memory or threads.
    pub(super) fn hire(
        name: String,
        initializer: Option<NamedCall>,
        plan: Option<Arc<Plan>>,
        initializer_timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::os("cannot start a worker thread", error);
        let page = Arc::new(StatusPage::local().map_err(failed)?);
        let (calls, inbox) = local::queue();
        let (reports, inlet) = local::queue();
        let lifeline = Arc::new(Lifeline::new(calls.clone(), reports));
        let (its, its_page) = (lifeline.clone(), page.clone());
        let work = move || {
            let _quiet = Quiet::new();
            // User code is caught where it runs: a panic that arrives is a mistake of this crate.
            match panic::catch(|| work(&its, its_page, inbox, initializer, plan)) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => drop(its.fault.set(fault)),
                Err(panic) => drop(its.fault.set(format!("panicked {panic}"))),
            }
            its.reports.close();
        };
        let handle = os::spawn_thread(name, Some(STACK), work).map_err(failed)?;
        let link = Framed::new(Arc::new(calls), Arc::new(Mutex::new(Box::new(inlet))));
        Ok(Self { lifeline, page, link, initializer_timeout, handle: Mutex::new(Some(handle)) })
    }

    /// Waits until its initializer has run. Fails if that failed or took too long, or if the thread was abandoned.
    pub(super) fn greet(&self) -> Result<(), StartFailure> {
        let limit = self.initializer_timeout;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let answer = match lock(&self.link.inlet).receive(deadline) {
            Received::Frame(frame) => frame,
            Received::Nothing => {
                self.lifeline.kill();
                let late = format!("it took longer than {:?}", limit.unwrap_or_default());
                return Err(StartFailure::for_good(Error::new(Kind::Initializer(late))));
            }
            _ => return Err(StartFailure::may_pass(Kind::Terminated)),
        };
        match FromWorker::from_frame(&answer) {
            Ok(FromWorker::Ready) => Ok(()),
            Ok(FromWorker::NotReady(not_ready)) => Err(StartFailure::for_good(not_ready)),
            _ => Err(StartFailure::may_pass(Kind::Invalid("a worker thread sent a message out of turn".into()))),
        }
    }

    /// Waits for the end of a thread that is not heard any more, unless it is abandoned, and says how it ended. No call
    /// of this `generation` starts there any more.
    pub(super) fn bury(&self, fault: Option<String>, generation: u32) -> Loss {
        // An abandoned thread lives on, and must not start calls that other workers are about to run.
        let _ = self.page.take_back(generation);
        let lifeline = &self.lifeline;
        if fault.is_some() {
            lifeline.kill();
        }
        let abandoned = lifeline.is_abandoned();
        if (!abandoned || lifeline.was_idle.load(Ordering::Acquire))
            && let Some(handle) = lock(&self.handle).take()
        {
            // It does not panic.
            let _ = handle.join();
        }
        let fault = fault.or_else(|| lifeline.fault.get().filter(|_| !abandoned).cloned());
        let died = abandoned || lifeline.lost.load(Ordering::Acquire) || fault.is_some();
        let stage = match Stage::from_u32(self.page.stage()) {
            // A call that is under way has begun, and its end reached nobody.
            Stage::Idle if abandoned => Stage::Running,
            stage => stage,
        };
        let status = if died { End::KILLED } else { End::Exited(0) };
        Loss { status: Some(status), stage, fault, ..Loss::of(std::process::id()) }
    }
}

fn work(
    lifeline: &Arc<Lifeline>,
    page: Arc<StatusPage>,
    mut inbox: local::LocalReceiver,
    initializer: Option<NamedCall>,
    plan: Option<Arc<Plan>>,
) -> Result<(), String> {
    let reports = lifeline.reports.clone();
    let made = initializer.map(|call| worker::initialize(&call, &page)).transpose();
    let (state, answer) = match made {
        Ok(state) => (state, FromWorker::Ready),
        Err(why) => (None, FromWorker::NotReady(why)),
    };
    if reports.send(&answer.to_frame()).is_err() || answer != FromWorker::Ready {
        panic::drop_quietly(state);
        return Ok(());
    }
    let mut faults = plan.map(|plan| Faults::new(plan, lifeline.clone()));
    let outlet: Box<dyn Outlet> = match &faults {
        Some(faults) => Box::new(faults.gate.clone()),
        None => Box::new(reports),
    };
    let upward = Upward::Here(lifeline.returned.clone());
    let mut duty = Duty::new(page, Reporter::frames(outlet), upward, false, state);
    current::thread_runs(Some(duty.clock.clone()));
    let done = loop {
        let frame = match inbox.receive(None) {
            Received::Frame(frame) if !lifeline.is_abandoned() => frame,
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
    // The fault of a thread that was given up is of no interest.
    if lifeline.lost.load(Ordering::Acquire) || lifeline.is_abandoned() { Ok(()) } else { done }
}
