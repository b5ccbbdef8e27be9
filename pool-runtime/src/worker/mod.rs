//! The child's loop: receive a frame of calls; for each call, claim it, decode, run, encode, report.
//!
//! ```text
//!   main thread    receive ─▶ claim on the status page ─▶ decode ─▶ task ─▶ encode ─▶ report ─▶ next call …
//!   watcher        sleeps until the parent's end of the channel closes, then ends the process, whatever runs;
//!                  takes shared memory when it arrives, also while a call waits for it
//! ```
//!
//! The main thread runs the user's code and nothing else runs it. A report leaves before the next call is claimed, so
//! that a death costs one call. A worker never returns to the program's own `main`: whatever happens, it exits.
//!
//! This module never imports the pool: it knows its parent only by what arrives.

mod connect;

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::memory::{self, CallId, Hold, StatusPage};
use crate::panic::{self, PanicInfo};
use crate::program::Mark;
use crate::protocol::{Chunk, FromWorker, Hello, NamedCall, NotReady, ToWorker};
use crate::run::current::{self, JobClock};
use crate::run::{Fault, Pace, Reporter, Run, Series, SeriesEnd};
use crate::task::{Body, TaskInfo};
use crate::transport::{Inlet, Outlet, Received, channel, ring};
use crate::worker::connect::{CANNOT_WORK, ParentLink, connect};
use crate::{identity, os, registry};
use std::any::Any;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Does a worker's whole work. Returns the exit code of the process.
pub(crate) fn work(mark: Mark) -> i32 {
    match panic::catch(|| connect(mark).map(|(link, hello)| Worker { link, hello, state: None }.run())) {
        Ok(Ok(code)) => code,
        Ok(Err(why)) => {
            complain(&why);
            CANNOT_WORK
        }
        Err(panic) => {
            complain(&format!("panicked {panic}"));
            CANNOT_WORK
        }
    }
}

/// Tells whoever reads standard error why this process is no worker.
pub(crate) fn complain(why: &str) {
    os::write_stderr(format!("pool-runtime: process {} cannot work: {why}\n", std::process::id()).as_bytes());
}

struct Worker {
    link: ParentLink,
    hello: Hello,
    state: Option<Box<dyn Any>>,
}

impl Worker {
    fn run(mut self) -> i32 {
        identity::become_worker(&self.hello);
        os::name_thread(&self.hello.name);
        install_hook(&self.link.page, self.hello.single);
        let clock = Arc::new(JobClock::new(self.link.page.clone()));
        current::process_runs(clock.clone());
        if !self.hello.single {
            // Ctrl-C reaches every process of the program. Whether that ends it is for the parent to say.
            os::outlive_interrupts();
        }
        os::fault::install(self.link.page.clone());
        if self.hello.has_initializer {
            let call = match self.link.inlet.receive(None) {
                Received::Frame(frame) => NamedCall::from_frame(&frame),
                _ => return CANNOT_WORK,
            };
            let Ok(call) = call else { return CANNOT_WORK };
            let answer = match initialize(&call, &self.link.page) {
                Ok(state) => {
                    self.state = Some(state);
                    FromWorker::Ready
                }
                Err(why) => FromWorker::NotReady(why),
            };
            if self.link.outlet.send(&answer.to_frame()).is_err() || answer != FromWorker::Ready {
                return CANNOT_WORK;
            }
        } else if self.link.outlet.send(&FromWorker::Ready.to_frame()).is_err() {
            return CANNOT_WORK;
        }
        let ParentLink { outlet, inlet, page, rings } = self.link;
        let (calls, reporter) = match rings {
            Some((incoming, outgoing)) => (Calls::Ring(incoming), Reporter::Ring(outgoing)),
            None => (Calls::Channel(inlet), Reporter::Channel { outlet: Box::new(outlet), frame: Vec::new() }),
        };
        Duty::new(page, clock, reporter, self.hello.single, self.state).do_it(calls)
    }
}

/// Makes the worker's state.
pub(crate) fn initialize(call: &NamedCall, page: &StatusPage) -> Result<Box<dyn Any>, NotReady> {
    let failed = |why: String| NotReady::Failed(why);
    let info = registry::find(&call.task)
        .ok_or_else(|| failed(format!("this worker knows no initializer `{}`", call.task)))?;
    let Body::Initializer(body) = info.body() else {
        return Err(failed(format!("`{}` is not an initializer", call.task)));
    };
    let hold = Hold::default();
    let mut run = Run {
        arguments: Reader::of_arguments(&call.arguments, &hold),
        result: &mut Writer::new(),
        state: None,
        few: None,
        page: None,
    };
    match panic::catch(|| body(&mut run)) {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(Fault::Decode(why) | Fault::State(why) | Fault::Encode(why) | Fault::Initializer(why))) => {
            Err(failed(why))
        }
        Err(panic) => {
            page.clear_words();
            Err(NotReady::Panicked(panic))
        }
    }
}

/// Where calls come from.
enum Calls {
    Channel(channel::ChannelReceiver),
    Ring(ring::CallReceiver),
}

/// Whether the loop goes on after a call.
pub(crate) enum Next {
    Continue,
    Exit(i32),
}

/// What a worker does once it is ready: runs calls and reports them.
pub(crate) struct Duty {
    page: Arc<StatusPage>,
    /// What is known of the calls that run.
    clock: Arc<JobClock>,
    /// The number of the latest call that was claimed.
    claimed: u32,
    reporter: Reporter,
    single: bool,
    state: Option<Box<dyn Any>>,
    /// The result of the latest call.
    result: Writer,
    /// The task of the latest call.
    latest: Option<&'static TaskInfo>,
    pace: Pace,
}

/// What runs one call of a task, and what runs several.
pub(crate) type One = fn(&mut Run<'_>) -> Result<(), Fault>;
pub(crate) type Many = fn(&mut Series<'_>);

/// More memory is not kept for results when there is nothing to do.
const KEPT: usize = 1 << 16;
/// Nor is more kept at any time.
const MOST_KEPT: usize = 1 << 27;
/// There is nothing to do when nothing came for so long.
const IDLE: Duration = Duration::from_secs(5);

impl Duty {
    pub(crate) fn new(
        page: Arc<StatusPage>,
        clock: Arc<JobClock>,
        reporter: Reporter,
        single: bool,
        state: Option<Box<dyn Any>>,
    ) -> Self {
        let (result, pace) = (Writer::new(), Pace::new());
        Self { page, clock, claimed: 0, reporter, single, state, result, latest: None, pace }
    }

    /// Runs calls until the parent says that there are no more, or is gone. Returns the exit code.
    fn do_it(mut self, mut calls: Calls) -> i32 {
        memory::set_in_worker(true);
        loop {
            let next = match &mut calls {
                Calls::Ring(incoming) => self.next_in_ring(incoming),
                Calls::Channel(inlet) => match inlet.receive(memory::trim().then(|| Instant::now() + IDLE)) {
                    Received::Frame(frame) => self.obey(&frame),
                    Received::Nothing => {
                        self.give_back();
                        Ok(Next::Continue)
                    }
                    Received::Gone => return 0,
                    Received::Garbled(fault) => Err(format!("its parent {fault}")),
                },
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Exit(code)) => {
                    let flushed = self.reporter.flush(true);
                    // What the state closes or writes when it is dropped belongs to an orderly end.
                    self.drop_state();
                    return if flushed.is_ok() { code } else { CANNOT_WORK };
                }
                Err(fault) => {
                    complain(&fault);
                    return CANNOT_WORK;
                }
            }
        }
    }

    /// Drops the state: no more calls will come.
    pub(crate) fn drop_state(&mut self) {
        panic::drop_quietly(self.state.take());
    }

    pub(crate) fn page(&self) -> &StatusPage {
        &self.page
    }

    /// How far the latest call is.
    pub(crate) fn stage(&self) -> Stage {
        Stage::from_u32(self.page.stage())
    }

    fn next_in_ring(&mut self, incoming: &mut ring::CallReceiver) -> Result<Next, String> {
        if !incoming.is_ready()? {
            self.reporter.flush(true)?;
            if (self.result.capacity() > KEPT || memory::trim()) && !incoming.is_ready_within(IDLE)? {
                self.give_back();
            }
        }
        incoming.next(|frame| self.obey(frame))?
    }

    /// There is nothing to do: memory for large values is not kept.
    fn give_back(&mut self) {
        self.result = Writer::new();
        memory::release();
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
                SeriesEnd::Through(returned) if self.single => {
                    next = Next::Exit(i32::from(!returned));
                    break;
                }
                SeriesEnd::Through(_) => {}
                // All that comes later in the frame was taken back too.
                SeriesEnd::TakenBack => break,
                SeriesEnd::Broken => {
                    next = Next::Exit(i32::from(self.single));
                    break;
                }
                SeriesEnd::Fault(fault) => return Err(fault),
            }
        }
        self.page.set_stage(Stage::Idle as u32);
        self.pace.look(&mut self.reporter)?;
        Ok(next)
    }

    /// Runs the calls of a chunk.
    pub(crate) fn run(&mut self, generation: u32, chunk: Chunk<'_>) -> Result<SeriesEnd, String> {
        self.run_with(generation, chunk, |_, run, series| run(series))
    }

    /// As [`run`](Self::run), where `with` is given what runs one call, what runs all of them, and the calls.
    #[inline]
    pub(crate) fn run_with(
        &mut self,
        generation: u32,
        chunk: Chunk<'_>,
        with: impl FnOnce(One, Many, &mut Series<'_>),
    ) -> Result<SeriesEnd, String> {
        let info = match self.latest.filter(|latest| latest.name() == chunk.task) {
            Some(info) => Some(info),
            None => {
                // What a look at the clock says is said of one task.
                self.pace.look(&mut self.reporter)?;
                self.latest = registry::find(chunk.task);
                self.clock.set_task(self.latest.map(TaskInfo::name));
                self.latest
            }
        };
        if self.result.capacity() > MOST_KEPT {
            self.result = Writer::new();
        }
        self.clock.begin(&chunk.first);
        let mut series = Series {
            timed: (!chunk.first.timing.is_none()).then_some(&*self.clock),
            arguments: chunk.arguments,
            next: CallId::new(generation, chunk.first.number),
            claimed: &mut self.claimed,
            page: &self.page,
            reporter: &mut self.reporter,
            result: &mut self.result,
            state: self.state.as_mut(),
            frail: info.is_some_and(|info| info.state().is_some()),
            pace: &mut self.pace,
            end: SeriesEnd::Through(false),
        };
        match info.map(TaskInfo::body) {
            Some(Body::Task(one, many)) => with(*one, *many, &mut series),
            Some(Body::Initializer(_)) => {
                series.refuse(&format!("`{}` is an initializer, which cannot be called", chunk.task));
            }
            None => series.refuse(&format!("this worker knows no task `{}`", chunk.task)),
        }
        Ok(series.end)
    }
}

/// Panics become values; they are printed only where nobody gets the value at once: in a process of its own, and on the
/// user's own threads. One panic is one write, so that those of several processes do not mix.
fn install_hook(page: &Arc<StatusPage>, single: bool) {
    let page = page.clone();
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |hook| {
        static SPEAKING: AtomicBool = AtomicBool::new(false);
        let info = PanicInfo::from_hook(hook);
        // If the process does not survive this panic, the parent finds it here.
        page.leave_words(&info.last_words(memory::WORDS));
        let on_main = std::thread::current().id() == main;
        if (single || !on_main) && !SPEAKING.swap(true, Ordering::Acquire) {
            let mut text = format!("process `{}`", identity::current_process().name());
            if let (false, Some(thread)) = (on_main, std::thread::current().name()) {
                let _ = write!(text, ", thread `{thread}`,");
            }
            let _ = writeln!(text, " panicked {info}");
            if let Some(backtrace) = info.backtrace() {
                let _ = writeln!(text, "stack backtrace:\n{backtrace}");
            }
            os::write_stderr(text.as_bytes());
            SPEAKING.store(false, Ordering::Release);
        }
        if on_main {
            panic::remember(info);
        }
    }));
}
