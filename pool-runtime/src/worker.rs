//! The child's loop: receive a frame of calls; for each call, claim it, decode, run, encode, report.
//!
//! ```text
//!   main thread    receive ─▶ claim on the status page ─▶ decode ─▶ task ─▶ encode ─▶ report ─▶ next call …
//!   watcher        sleeps until the parent's end of the channel closes, then ends the process, whatever runs
//! ```
//!
//! The main thread runs the user's code and nothing else runs it. A report leaves before the next call is claimed, so
//! that a death costs one call. What costs more than a short call, a look at the clock or at whether the parent sleeps, is
//! done once for several, as long as those are short. A worker never returns to the program's own `main`: whatever happens, it exits.
//!
//! This module never imports the pool: it knows its parent only by what arrives.

use crate::{
    codec::{Reader, Writer},
    error::Stage,
    os::{self, StatusPage},
    panic::{self, PanicInfo},
    program::{self, Mark, given},
    protocol::{CallHeader, Chunk, Failed, Failure, FromWorker, Hello, NamedCall, NotReady, RecordHead, ToWorker},
    registry,
    reporter::Reporter,
    task::{Body, Fault, Run, TaskInfo},
    transport::{Inlet, Outlet, Received, channel, ring},
};
use std::{
    any::Any,
    fmt::Write as _,
    io::Write as _,
    os::fd::{AsFd, OwnedFd},
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
    let fail = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let reads = os::adopt(given::READS).map_err(fail("its channel was not passed on"))?;
    let found = rustix::fs::fstat(&reads).map_or(0, |stat| stat.st_ino);
    if found != mark.socket {
        return Err("descriptor 3 is not the channel that its parent passed on: has the program closed or opened \
                    descriptors before `pool_main!` or `enter()`?"
            .into());
    }
    let writes = os::adopt(given::WRITES).map_err(fail("its channel was not passed on"))?;
    let page = os::adopt(given::STATUS).map_err(fail("its status page was not passed on"))?;
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
    let (outlet, inlet) = channel::inherited(reads, writes).map_err(fail("cannot open its channel"))?;
    watch(inlet.duplicate().map_err(fail("cannot watch its parent"))?)?;
    if std::os::unix::process::parent_id() != mark.parent {
        return Err("its parent is already gone".into());
    }
    let mut link = Link { outlet, inlet, page, rings };
    let hello = greeted(&mut link)?;
    Ok(Worker { link, hello, state: None })
}

/// Ends this process when the parent is gone, busy or not. The thread sleeps until then.
fn watch(socket: OwnedFd) -> Result<(), String> {
    let watcher = move || {
        os::block_all_signals();
        os::wait_hung_up(socket.as_fd());
        os::exit_now(CANNOT_WORK);
    };
    let thread = std::thread::Builder::new().name("pool-watch".into()).stack_size(1 << 16).spawn(watcher);
    thread.map(drop).map_err(|error| format!("cannot watch its parent: {error}"))
}

/// Waits for the greeting, and answers it.
fn greeted(link: &mut Link) -> Result<Hello, String> {
    let frame = match link.inlet.receive(None) {
        Received::Frame(frame) => frame,
        Received::Gone | Received::Nothing => return Err("its parent is already gone".into()),
        Received::Garbled(fault) => return Err(format!("its parent {fault}")),
    };
    let hello = Hello::from_frame(&frame).and_then(|hello| acceptable(&hello).map(|()| hello));
    let answer = match &hello {
        Ok(_) => FromWorker::Welcome,
        Err(why) => FromWorker::Refused(why.clone()),
    };
    link.outlet.send(&answer.to_frame()).map_err(|error| format!("cannot answer its parent: {error}"))?;
    hello
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
    registry::check().map_err(|error| error.to_string())
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
        if self.hello.has_initializer {
            let call = match self.link.inlet.receive(None) {
                Received::Frame(frame) => NamedCall::from_frame(&frame),
                _ => return CANNOT_WORK,
            };
            let Ok(call) = call else { return CANNOT_WORK };
            let answer = match self.initialize(&call) {
                Ok(()) => FromWorker::Ready,
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
            None => (Calls::Channel(inlet), Reporter::Channel { outlet, frame: Vec::new() }),
        };
        Duty {
            page,
            claimed: 0,
            reporter,
            single: self.hello.single,
            state: self.state,
            result: Writer::new(),
            latest: None,
            pace: Pace::new(),
        }
        .do_it(calls)
    }

    fn initialize(&mut self, call: &NamedCall) -> Result<(), NotReady> {
        let failed = |why: String| NotReady::Failed(why);
        let info = registry::find(&call.task)
            .ok_or_else(|| failed(format!("this worker knows no initializer `{}`", call.task)))?;
        let Body::Initializer(body) = info.body() else {
            return Err(failed(format!("`{}` is not an initializer", call.task)));
        };
        let mut run =
            Run { arguments: Reader::new(&call.arguments), result: &mut Writer::new(), state: None, page: None };
        match panic::catch(|| body(&mut run)) {
            Ok(Ok(state)) => {
                self.state = Some(state);
                Ok(())
            }
            Ok(Err(Fault::Decode(why) | Fault::State(why) | Fault::Encode(why) | Fault::Initializer(why))) => {
                Err(failed(why))
            }
            Err(panic) => {
                self.link.page.clear_words();
                Err(NotReady::Panicked(panic))
            }
        }
    }
}

/// Where calls come from.
enum Calls {
    Channel(channel::Receiver),
    Ring(ring::Incoming),
}

/// Whether the loop goes on after a call.
enum Next {
    Continue,
    Exit(i32),
}

/// What a worker does once it is ready: runs calls and reports them.
struct Duty {
    page: Arc<StatusPage>,
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

/// How many calls end between two looks at the clock: as many as take a few microseconds.
struct Pace {
    since: Instant,
    calls: u32,
    limit: u32,
}

impl Pace {
    const INTERVAL: Duration = Duration::from_micros(8);

    fn new() -> Self {
        Self { since: Instant::now(), calls: 0, limit: 1 }
    }

    /// So many calls have ended, in so many nanoseconds.
    fn look(&mut self, most: u32) -> (u32, u64) {
        let now = Instant::now();
        let (calls, time) = (self.calls, now - self.since);
        (self.since, self.calls) = (now, 0);
        let each = (time / calls.max(1)).max(Duration::from_nanos(1));
        let fitting = (Self::INTERVAL.as_nanos() / each.as_nanos()) as u32;
        // A few short ones must not hide a long one for long.
        self.limit = fitting.clamp(1, (2 * self.limit).min(most));
        (calls, time.as_nanos() as u64)
    }
}

/// More memory is not kept for results.
const KEPT: usize = 1 << 16;

impl Duty {
    /// Runs calls until the parent says that there are no more, or is gone. Returns the exit code.
    fn do_it(mut self, mut calls: Calls) -> i32 {
        loop {
            let next = match &mut calls {
                Calls::Ring(incoming) => self.next_in_ring(incoming),
                Calls::Channel(inlet) => match inlet.receive(None) {
                    Received::Frame(frame) => self.obey(&frame),
                    Received::Gone | Received::Nothing => return 0,
                    Received::Garbled(fault) => Err(format!("its parent {fault}")),
                },
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Exit(code)) => {
                    let flushed = self.reporter.flush(true);
                    // What the state closes or writes when it is dropped belongs to an orderly end.
                    panic::drop_quietly(self.state.take());
                    return if flushed.is_ok() { code } else { CANNOT_WORK };
                }
                Err(fault) => {
                    complain(&fault);
                    return CANNOT_WORK;
                }
            }
        }
    }

    fn next_in_ring(&mut self, incoming: &mut ring::Incoming) -> Result<Next, String> {
        if !incoming.is_ready()? {
            self.reporter.flush(true)?;
        }
        incoming.next(|frame| self.obey(frame))?
    }

    fn obey(&mut self, frame: &[u8]) -> Result<Next, String> {
        let garbled = |garbled| format!("its parent {garbled}");
        let mut chunks = match ToWorker::from_frame(frame).map_err(garbled)? {
            ToWorker::Stop => return Ok(Next::Exit(0)),
            ToWorker::Calls(chunks) => chunks,
        };
        self.pace.since = Instant::now();
        let mut next = Next::Continue;
        while let Some(chunk) = chunks.next().map_err(garbled)? {
            match self.run(chunks.generation, &chunk)? {
                Some(Next::Continue) => {}
                // What the parent has taken back meanwhile is somebody else's.
                None => break,
                Some(exit) => {
                    next = exit;
                    break;
                }
            }
        }
        self.look()?;
        Ok(next)
    }

    /// A look at the clock, and at whether the parent sleeps.
    fn look(&mut self) -> Result<(), String> {
        if self.pace.calls > 0 {
            let (calls, nanos) = self.pace.look(self.reporter.most_untimed());
            self.reporter.push(RecordHead::time(calls), &nanos.to_le_bytes())?;
            // What a finished call printed is not lost if the worker is killed later.
            let _ = std::io::stdout().flush();
        }
        self.reporter.flush(false)
    }

    /// Runs the calls of a chunk. None if they were taken back, and with them all that come later in the frame.
    fn run(&mut self, generation: u32, chunk: &Chunk<'_>) -> Result<Option<Next>, String> {
        let info = match self.latest.filter(|latest| latest.name() == chunk.task) {
            Some(info) => Some(info),
            None => {
                // What a look at the clock says is said of one task.
                self.look()?;
                self.latest = registry::find(chunk.task);
                self.latest
            }
        };
        let body = match info.map(TaskInfo::body) {
            Some(Body::Task(body)) => Ok(*body),
            Some(Body::Initializer(_)) => Err(format!("`{}` is an initializer, which cannot be called", chunk.task)),
            None => Err(format!("this worker knows no task `{}`", chunk.task)),
        };
        let CallHeader { number: first, .. } = chunk.first;
        for (number, arguments) in (0..).map(|index| first.wrapping_add(index)).zip(chunk.arguments.iter()) {
            if !self.page.claim(generation, number) {
                // The parent would wait for ever for calls that are left out for another reason.
                let is_taken_back = self.page.is_taken_back(generation, self.claimed);
                return if is_taken_back { Ok(None) } else { Err("its status page was written over".into()) };
            }
            self.claimed = number;
            let failed = match &body {
                Ok(body) => self.call(*body, arguments),
                Err(why) => Err((Failure::Unfit(why.clone()), false)),
            };
            let (returned, leaving) = match failed {
                Ok(()) => {
                    let bytes = self.result.bytes();
                    self.reporter.push(RecordHead::value(number, bytes.len()), bytes)?;
                    (true, false)
                }
                Err((failure, tainted)) => {
                    let stage = Stage::from_u32(self.page.stage());
                    let leaving = tainted && info.is_some_and(|info| info.state().is_some());
                    let payload = Failed { stage, leaving, failure }.to_payload();
                    self.reporter.push(RecordHead::failed(number, payload.len()), &payload)?;
                    (false, leaving)
                }
            };
            self.page.set_stage(Stage::Idle as u32);
            self.pace.calls += 1;
            if self.pace.calls >= self.pace.limit {
                self.look()?;
            }
            match (self.single, leaving) {
                (true, _) => return Ok(Some(Next::Exit(i32::from(!returned)))),
                (false, true) => return Ok(Some(Next::Exit(0))),
                (false, false) => {}
            }
        }
        Ok(Some(Next::Continue))
    }

    /// Decode, run, encode. The second value of an error says that the worker's state may be broken, if it has one.
    fn call(&mut self, body: fn(&mut Run<'_>) -> Result<(), Fault>, arguments: &[u8]) -> Result<(), (Failure, bool)> {
        let page = &self.page;
        page.clear_words();
        page.set_stage(Stage::Decoding as u32);
        if self.result.bytes().len() > KEPT {
            self.result = Writer::new();
        }
        self.result.clear();
        let mut run = Run {
            arguments: Reader::new(arguments),
            result: &mut self.result,
            state: self.state.as_mut(),
            page: Some(page),
        };
        match panic::catch(|| body(&mut run)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Fault::Decode(why))) => Err((Failure::Decode(why), false)),
            Ok(Err(Fault::Encode(why))) => Err((Failure::Encode(why), false)),
            Ok(Err(Fault::State(why) | Fault::Initializer(why))) => Err((Failure::Unfit(why), false)),
            Err(panic) => {
                page.clear_words();
                Err((Failure::Panicked(panic), true))
            }
        }
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
