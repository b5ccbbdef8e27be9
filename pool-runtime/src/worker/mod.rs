//! The child's loop: receive a frame of calls; for each call, claim it, decode, run, encode, report.
//!
//! ```text
//!   main thread    receive ─▶ claim on the status page ─▶ decode ─▶ task ─▶ encode ─▶ report ─▶ next call …
//!   watcher        sleeps until the parent's end of the channel closes, then ends the process, whatever runs;
//!                  takes shared memory when it arrives, also while a call waits for it
//! ```
//!
//! Only the main thread runs the user's code. A report leaves before the next call is claimed, so that a death costs one
//! call. A worker never returns to the program's own `main`: it always exits.
//!
//! This module never imports the pool: it knows its parent only by what arrives.

mod connect;

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::locks::lock;
use crate::memory::{self, CallId, Hold, Regions, StatusPage, Upward};
use crate::panic::{self, OwnPanic, PanicInfo};
use crate::policy::Timing;
use crate::program::Mark;
use crate::protocol::{Chunk, FromWorker, LEAST_LIMIT, NamedCall, NotReady, ToWorker};
use crate::run::current::{self, JobClock};
use crate::run::{Fault, Pace, Reporter, Run, Series, SeriesEnd};
use crate::task::{Body, TaskInfo};
use crate::transport::{Inlet, Outlet, Received, channel::ChannelReceiver, ring::CallReceiver};
pub(crate) use crate::worker::connect::CANNOT_WORK;
use crate::worker::connect::{ParentLink, connect};
use crate::{identity, os, registry, sandbox};
use std::any::Any;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Runs this process as a worker. Returns its exit code.
pub(crate) fn work(mark: Mark) -> i32 {
    let worked = panic::catch(|| connect(mark).map(serve));
    worked.unwrap_or_else(|panic| Err(format!("panicked {panic}"))).unwrap_or_else(|why| {
        complain(&why);
        CANNOT_WORK
    })
}

/// Prints to standard error why this process cannot be a worker.
pub(crate) fn complain(why: &str) {
    os::write_stderr(format!("pool-runtime: process {} cannot work: {why}\n", std::process::id()).as_bytes());
}

fn serve(link: ParentLink) -> i32 {
    let ParentLink { mut hello, outlet, mut inlet, page, rings, upward } = link;
    identity::become_worker(&mut hello);
    os::name_thread(&hello.name);
    install_hook(&page, hello.single);
    if !hello.single {
        // Ctrl-C reaches every process of the program, as does what a terminal or a service manager sends when the
        // program is to end. The parent decides whether that ends this one.
        os::outlive_requests_to_end();
    }
    os::fault::install(page.clone());
    let (mut state, mut answer) = (None, FromWorker::Ready);
    if hello.has_initializer {
        let Received::Frame(frame) = inlet.receive(None) else { return CANNOT_WORK };
        let Ok(call) = NamedCall::from_frame(&frame) else { return CANNOT_WORK };
        match initialize(&call, &page) {
            Ok(made) => state = Some(made),
            Err(why) => answer = FromWorker::NotReady(why),
        }
    }
    if outlet.send(&answer.to_frame()).is_err() || answer != FromWorker::Ready {
        return CANNOT_WORK;
    }
    memory::set_in_worker(true);
    let duty = |reporter| {
        let max_result = sandbox::default_max_result(hello.confinement.as_ref());
        let duty = Duty { max_result, ..Duty::new(page, reporter, upward, hello.single, state) };
        current::process_runs(duty.clock.clone());
        duty
    };
    match rings {
        Some((mut calls, reports)) => duty(Reporter::Ring(reports)).work(|duty| duty.next_in_ring(&mut calls)),
        None => duty(Reporter::frames(Box::new(outlet))).work(|duty| duty.next_frame(&mut inlet)),
    }
}

/// The page of this process, if it is a worker that has run its last call.
static LAST_PAGE: OnceLock<Arc<StatusPage>> = OnceLock::new();

/// While it lives, this process waits for processes that it has started, which may take long. If it is a worker that
/// leaves, its parent is patient meanwhile.
pub(crate) struct Joining(());

/// How many there are.
static JOINING: Mutex<usize> = Mutex::new(0);

impl Joining {
    pub(crate) fn new() -> Self {
        Self::count(|joining| joining + 1);
        Self(())
    }

    fn count(change: impl FnOnce(usize) -> usize) {
        let mut joining = lock(&JOINING);
        *joining = change(*joining);
        if let Some(page) = LAST_PAGE.get() {
            page.set_stage(if *joining > 0 { Stage::Joining } else { Stage::Idle } as u32);
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        Self::count(|joining| joining - 1);
    }
}

pub(crate) fn initialize(call: &NamedCall, page: &StatusPage) -> Result<Box<dyn Any>, NotReady> {
    let body = match registry::find(&call.task).map(|info| &info.body) {
        Some(Body::Initializer(body)) => body,
        Some(_) => return Err(NotReady::Failed(format!("`{}` is not an initializer", call.task))),
        None => return Err(NotReady::Failed(format!("this worker knows no initializer `{}`", call.task))),
    };
    let hold = Hold::default();
    let mut result = Writer::new();
    let mut run = Run::new(Reader::of_arguments(&call.arguments, &hold), &mut result);
    match panic::catch(|| body(&mut run)) {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(Fault::Decode(why) | Fault::State(why) | Fault::Encode(why) | Fault::Initializer(why))) => {
            Err(NotReady::Failed(why))
        }
        Err(panic) => {
            page.clear_words();
            Err(NotReady::Panicked(panic))
        }
    }
}

pub(crate) enum Next {
    Continue,
    Exit(i32),
}

/// Runs calls and reports them: what a worker does once it is ready.
pub(crate) struct Duty {
    pub(crate) page: Arc<StatusPage>,
    pub(crate) clock: Arc<JobClock>,
    /// The number of the latest call that was claimed.
    claimed: u32,
    reporter: Reporter,
    upward: Upward,
    single: bool,
    state: Option<Box<dyn Any>>,
    /// The result of the latest call.
    result: Writer,
    /// How many bytes a result may have, if its call does not say.
    max_result: u64,
    latest: Option<&'static TaskInfo>,
    pace: Pace,
}

/// Runs one call of a task, or several.
pub(crate) type One = fn(&mut Run<'_>) -> Result<(), Fault>;
pub(crate) type Many = fn(&mut Series<'_>);

/// The capacity of the result's buffer that an idle worker keeps.
const KEPT: usize = 1 << 16;
/// The capacity that any worker keeps.
const MOST_KEPT: usize = 1 << 27;
/// A worker that has received nothing for so long is idle.
const IDLE: Duration = Duration::from_secs(5);

impl Duty {
    pub(crate) fn new(
        page: Arc<StatusPage>,
        reporter: Reporter,
        upward: Upward,
        single: bool,
        state: Option<Box<dyn Any>>,
    ) -> Self {
        let (result, pace, clock) = (Writer::new(), Pace::new(), Arc::new(JobClock::new(page.clone())));
        let max_result = u64::MAX;
        Self { page, clock, claimed: 0, reporter, upward, single, state, result, max_result, latest: None, pace }
    }

    /// Runs `next` until the parent says that there are no more calls, or is gone. Returns the exit code.
    fn work(mut self, mut next: impl FnMut(&mut Self) -> Result<Next, String>) -> i32 {
        let ended = loop {
            match next(&mut self) {
                Ok(Next::Continue) => {}
                Ok(Next::Exit(code)) => break self.reporter.flush(true).map(|()| code),
                Err(fault) => {
                    complain(&fault);
                    return CANNOT_WORK;
                }
            }
        };
        let _ = LAST_PAGE.set(self.page.clone());
        // An orderly end: what the state closes or writes when it is dropped belongs to it.
        self.drop_state();
        ended.unwrap_or(CANNOT_WORK)
    }

    fn next_frame(&mut self, calls: &mut ChannelReceiver) -> Result<Next, String> {
        match calls.receive(memory::trim().then(|| Instant::now() + IDLE)) {
            Received::Frame(frame) => self.obey(&frame),
            Received::Nothing => {
                self.release_memory();
                Ok(Next::Continue)
            }
            Received::Gone => Ok(Next::Exit(0)),
            Received::Garbled(fault) => Err(format!("its parent {fault}")),
        }
    }

    fn next_in_ring(&mut self, calls: &mut CallReceiver) -> Result<Next, String> {
        if !calls.is_ready()? {
            self.reporter.flush(true)?;
            if (self.result.capacity() > KEPT || memory::trim()) && !calls.is_ready_within(IDLE)? {
                self.release_memory();
            }
        }
        calls.next(|frame| self.obey(frame))?
    }

    /// Frees cached memory, as the worker is idle.
    fn release_memory(&mut self) {
        self.result = Writer::new();
        memory::release();
    }

    pub(crate) fn drop_state(&mut self) {
        panic::drop_quietly(self.state.take());
    }

    pub(crate) fn obey(&mut self, frame: &[u8]) -> Result<Next, String> {
        self.obey_with(frame, Self::run)
    }

    /// As [`obey`](Self::obey), where `run` runs the calls of a chunk.
    #[inline]
    pub(crate) fn obey_with(
        &mut self,
        frame: &[u8],
        mut run: impl FnMut(&mut Self, u32, Chunk<'_>) -> Result<SeriesEnd, String>,
    ) -> Result<Next, String> {
        let garbled = |garbled| format!("its parent {garbled}");
        let mut chunks = match ToWorker::from_frame(frame).map_err(garbled)? {
            ToWorker::Stop => return Ok(Next::Exit(0)),
            ToWorker::Calls(chunks) => chunks,
        };
        self.pace.start();
        let mut next = Next::Continue;
        while let Some(chunk) = chunks.next().map_err(garbled)? {
            match run(self, chunks.generation, chunk)? {
                SeriesEnd::Through(_) if !self.single => continue,
                SeriesEnd::Through(returned) => next = Next::Exit(i32::from(!returned)),
                // So were all later calls of the frame.
                SeriesEnd::TakenBack => {}
                SeriesEnd::Broken => next = Next::Exit(i32::from(self.single)),
                SeriesEnd::Fault(fault) => return Err(fault),
            }
            break;
        }
        self.page.set_stage(Stage::Idle as u32);
        self.pace.look(&mut self.reporter)?;
        Ok(next)
    }

    pub(crate) fn run(&mut self, generation: u32, chunk: Chunk<'_>) -> Result<SeriesEnd, String> {
        self.run_with(generation, chunk, |_, run, series| run(series))
    }

    /// As [`run`](Self::run), where `with` is given the task, compiled for one call and for many, and the calls.
    #[inline]
    pub(crate) fn run_with(
        &mut self,
        generation: u32,
        chunk: Chunk<'_>,
        with: impl FnOnce(One, Many, &mut Series<'_>),
    ) -> Result<SeriesEnd, String> {
        if self.latest.is_none_or(|latest| latest.name() != chunk.task) {
            // A report of time is of calls of one task.
            self.pace.look(&mut self.reporter)?;
            self.latest = registry::find(chunk.task);
            self.clock.set_task(self.latest.map(TaskInfo::name));
        }
        let info = self.latest;
        if self.result.capacity() > MOST_KEPT {
            self.result = Writer::new();
        }
        self.clock.begin(&chunk.first);
        let mut series = Series {
            timed: (chunk.first.timing != Timing::default()).then_some(&*self.clock),
            arguments: chunk.arguments,
            next: CallId::new(generation, chunk.first.number),
            claimed: &mut self.claimed,
            page: &self.page,
            reporter: &mut self.reporter,
            result: &mut self.result,
            attached: Regions::default(),
            upward: &self.upward,
            max_result: chunk.max_result.unwrap_or(self.max_result).max(LEAST_LIMIT),
            state: self.state.as_mut(),
            frail: info.is_some_and(|info| info.state().is_some()),
            pace: &mut self.pace,
            end: SeriesEnd::Through(false),
        };
        let why = match info.map(|info| &info.body) {
            Some(Body::Task(one, many)) => {
                with(*one, *many, &mut series);
                return Ok(series.end);
            }
            Some(Body::Initializer(_)) => format!("`{}` is an initializer, which cannot be called", chunk.task),
            None => format!("this worker knows no task `{}`", chunk.task),
        };
        series.run(|_| Err(Fault::State(why.clone())));
        Ok(series.end)
    }
}

/// Panics become values. They are printed only where nobody receives the value at once: in a process of its own, and on
/// threads that the user has started. A panic is one write, so that those of several processes do not mix. If the user's
/// code sets another hook, that one prints.
fn install_hook(page: &Arc<StatusPage>, single: bool) {
    let page = page.clone();
    let (main, pid) = (std::thread::current().id(), os::current_pid());
    panic::set_hook(move |hook, replaced| {
        static SPEAKING: AtomicBool = AtomicBool::new(false);
        let info = PanicInfo::from_hook(hook);
        // If the process does not survive this panic, the parent finds it here. A forked child does not have the page.
        if os::current_pid() == pid {
            page.leave_words(&info.with_those_before(page.claimed()).last_words(memory::WORDS));
        }
        let on_main = std::thread::current().id() == main;
        if (single || !on_main) && !replaced && !SPEAKING.swap(true, Ordering::Acquire) {
            let mut text = format!("process `{}`", identity::current_process().name());
            if let (false, Some(thread)) = (on_main, std::thread::current().name()) {
                let _ = write!(text, ", thread `{thread}`,");
            }
            let _ = writeln!(text, " panicked {}", OwnPanic(&info));
            if let Some(backtrace) = info.backtrace() {
                let _ = writeln!(text, "stack backtrace:\n{backtrace}");
            }
            os::write_stderr(text.as_bytes());
            SPEAKING.store(false, Ordering::Release);
        }
        if on_main {
            panic::remember(info);
        }
    });
}
