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

use crate::{
    codec::{Reader, Writer},
    dossier::Stage,
    error::Error,
    memory::{self, Hold, region::Inbox},
    os::{self, Abilities, CallId, StatusPage},
    panic::{self, PanicInfo},
    program::{self, Mark, given},
    protocol::{Chunk, FromWorker, Hello, NamedCall, NotReady, ToWorker},
    registry,
    run::{
        End, Fault, Pace, Reporter, Run, Series,
        current::{self, JobClock},
    },
    task::{Body, TaskInfo},
    transport::{Inlet, Outlet, Received, channel, ring},
};
use std::{
    any::Any,
    fmt::Write as _,
    io,
    os::fd::{AsFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The exit code of a process that was meant to be a worker and could not become one.
const CANNOT_WORK: i32 = 70;

/// What this process has of its parent.
struct Link {
    outlet: channel::Sender,
    inlet: channel::Receiver,
    page: Arc<StatusPage>,
    rings: Option<(ring::Incoming, ring::Outgoing)>,
}

/// Does a worker's whole work. Returns the exit code of the process.
pub(crate) fn work(mark: Mark) -> i32 {
    match panic::catch(|| connect(mark).map(Worker::run)) {
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

fn connect(mark: Mark) -> Result<Worker, String> {
    let fail = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let reads = os::adopt(given::READS).map_err(fail("its channel was not passed on"))?;
    let found = rustix::fs::fstat(&reads).map_or(0, |stat| stat.st_ino);
    if found != mark.socket {
        return Err("descriptor 3 is not the channel that its parent passed on: has the program closed or opened \
                    descriptors before `pool_main!` or `enter()`?"
            .into());
    }
    let writes = os::adopt(given::WRITES).map_err(fail("its channel was not passed on"))?;
    let page = os::adopt(given::STATUS).map_err(fail("its status page was not passed on"))?;
    let passed = os::adopt(given::PASSED).map_err(fail("its way for shared memory was not passed on"))?;
    let mut more = given::MORE..;
    let mut adopt_next = || os::adopt(more.next().unwrap_or(-1));
    if mark.silenced {
        let stdout = adopt_next().map_err(fail("its standard output was not passed on"))?;
        rustix::stdio::dup2_stdout(&stdout).map_err(|error| fail("cannot restore standard output")(error.into()))?;
    }
    let page = Arc::new(StatusPage::map(page).map_err(fail("cannot map its status page"))?);
    let rings = match mark.rings {
        false => None,
        true => {
            let lost = "its rings were not passed on";
            let (memory, bells) = (adopt_next().map_err(fail(lost))?, adopt_next().map_err(fail(lost))?);
            Some(ring::worker_ends(&memory, &bells).map_err(fail("cannot map its rings"))?)
        }
    };
    // Before any others are opened here.
    let strays = match os::closes_the_rest() {
        true => Ok(Vec::new()),
        false => os::open_from(more.next().unwrap_or(given::MORE)),
    };
    let (outlet, inlet) = channel::inherited(reads, writes).map_err(fail("cannot open its channel"))?;
    let mut link = Link { outlet, inlet, page, rings };
    let hello = greeting(&mut link)?.and_then(|hello| confined(&hello, &mark, strays).map(|()| hello));
    // From here on, whatever is decoded waits for its memory. Not earlier: Landlock confines the thread that asks for
    // it, and those that it starts from then on. One that ran already could do all that the others may not.
    watch(link.inlet.duplicate().map_err(fail("cannot watch its parent"))?, Inbox::open(passed))?;
    if std::os::unix::process::parent_id() != mark.parent {
        return Err("its parent is already gone".into());
    }
    let answer = match &hello {
        Ok(_) => FromWorker::Welcome,
        Err(why) => FromWorker::Refused(why.clone()),
    };
    link.outlet.send(&answer.to_frame()).map_err(|error| format!("cannot answer its parent: {error}"))?;
    Ok(Worker { link, hello: hello?, state: None })
}

/// Ends this process when the parent is gone, busy or not, and takes the memory that the parent shares. The thread
/// sleeps but for that.
fn watch(socket: OwnedFd, inbox: Inbox) -> Result<(), String> {
    let watcher = move || {
        os::block_all_signals();
        let mut inbox = Some(inbox);
        while !os::wait_hung_up(socket.as_fd(), inbox.as_ref().map(AsFd::as_fd)) {
            let goes_on = inbox.as_ref().is_some_and(|inbox| match inbox.receive() {
                Ok(goes_on) => goes_on,
                // The next one may make sense.
                Err(error) => error.kind() == io::ErrorKind::InvalidData,
            });
            if !goes_on {
                // A call that speaks of memory which is not here is told so, and does not wait.
                inbox = None;
            }
        }
        os::exit_now(CANNOT_WORK);
    };
    let thread = std::thread::Builder::new().name("pool-watch".into()).stack_size(1 << 17).spawn(watcher);
    thread.map(drop).map_err(|error| format!("cannot watch its parent: {error}"))
}

/// Waits for the greeting. What is wrong with it, the parent is to be told.
fn greeting(link: &mut Link) -> Result<Result<Hello, String>, String> {
    let frame = match link.inlet.receive(None) {
        Received::Frame(frame) => frame,
        Received::Gone | Received::Nothing => return Err("its parent is already gone".into()),
        Received::Garbled(fault) => return Err(format!("its parent {fault}")),
    };
    Ok(Hello::from_frame(&frame).and_then(|hello| {
        acceptable(&hello)?;
        hello.place.take()?;
        Ok(hello)
    }))
}

/// Gives up what this process may not do, before anything of the user's runs; also `strays`, which its parent had open
/// by chance.
fn confined(hello: &Hello, mark: &Mark, strays: io::Result<Vec<RawFd>>) -> Result<(), String> {
    let Some(confinement) = &hello.confinement else { return Ok(()) };
    match strays {
        Ok(strays) => os::close_all(&strays),
        Err(_) if confinement.best_effort => {}
        Err(error) => return Err(format!("cannot find out what it has open by chance, to close that: {error}")),
    }
    // A test harness runs a test, and with it this, on a thread of its own, and waits for it on its first.
    let wait = usize::from(mark.silenced);
    confinement.apply(Abilities::here(), wait)
}

fn acceptable(hello: &Hello) -> Result<(), String> {
    if hello.table != registry::digest() {
        return Err("it has other tasks, or other signatures, than its parent: both must be the same build of one \
                    program"
            .into());
    }
    // Processes of one file are of one build; otherwise it takes a look at all of it.
    let same = hello.file == program::file() && hello.file != (0, 0);
    if !same && (hello.build.is_none() || hello.build != program::build()) {
        return Err("it is another build of the program than its parent: was the program rebuilt while it ran?".into());
    }
    registry::check().map_err(|twice| Error::from(twice).to_string())
}

struct Worker {
    link: Link,
    hello: Hello,
    state: Option<Box<dyn Any>>,
}

impl Worker {
    fn run(mut self) -> i32 {
        program::become_worker(&self.hello);
        os::name_thread(&self.hello.name);
        install_hook(&self.link.page, self.hello.single);
        let clock = Arc::new(JobClock::new(self.link.page.clone()));
        current::process_runs(clock.clone());
        if !self.hello.single {
            // Ctrl-C reaches every process of the program. Whether that ends it is for the parent to say.
            os::outlive_interrupts();
        }
        os::fault::install(&self.link.page);
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
        let Link { outlet, inlet, page, rings } = self.link;
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
    Channel(channel::Receiver),
    Ring(ring::Incoming),
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

    fn next_in_ring(&mut self, incoming: &mut ring::Incoming) -> Result<Next, String> {
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
        mut run: impl FnMut(&mut Self, u32, Chunk<'_>) -> Result<End, String>,
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
                End::Through(returned) if self.single => {
                    next = Next::Exit(i32::from(!returned));
                    break;
                }
                End::Through(_) => {}
                // All that comes later in the frame was taken back too.
                End::TakenBack => break,
                End::Broken => {
                    next = Next::Exit(i32::from(self.single));
                    break;
                }
                End::Fault(fault) => return Err(fault),
            }
        }
        self.page.set_stage(Stage::Idle as u32);
        self.pace.look(&mut self.reporter)?;
        Ok(next)
    }

    /// Runs the calls of a chunk.
    pub(crate) fn run(&mut self, generation: u32, chunk: Chunk<'_>) -> Result<End, String> {
        self.run_with(generation, chunk, |_, run, series| run(series))
    }

    /// As [`run`](Self::run), where `with` is given what runs one call, what runs all of them, and the calls.
    #[inline]
    pub(crate) fn run_with(
        &mut self,
        generation: u32,
        chunk: Chunk<'_>,
        with: impl FnOnce(One, Many, &mut Series<'_>),
    ) -> Result<End, String> {
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
            end: End::Through(false),
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
        page.leave_words(&info.last_words(os::WORDS));
        let on_main = std::thread::current().id() == main;
        if (single || !on_main) && !SPEAKING.swap(true, Ordering::Acquire) {
            let mut text = format!("process `{}`", program::current_process().name());
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
