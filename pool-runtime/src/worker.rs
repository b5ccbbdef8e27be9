//! The child's loop: receive a call, claim it, decode, run, encode, report.
//!
//! ```text
//!   main thread    receive ─▶ claim on the status page ─▶ decode ─▶ task ─▶ encode ─▶ report ─▶ receive …
//!   watcher        sleeps until the parent's end of the channel closes, then ends the process, whatever runs
//! ```
//!
//! The main thread runs the user's code and nothing else runs it. A report leaves before the next call is claimed, so
//! that a death costs one call. A worker never returns to the program's own `main`: whatever happens, it exits.
//!
//! This module never imports the pool: it knows its parent only by what arrives.

use crate::{
    codec::{Reader, Writer},
    error::Stage,
    os::{self, StatusPage},
    panic::{self, PanicInfo},
    program::{self, Mark, given},
    protocol::{CallHeader, Ending, FromWorker, Hello, NamedCall, NotReady, Report, ToWorker},
    registry,
    task::{Body, Fault, Run},
    transport::{Inlet, Outlet, Received, channel},
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
    time::Instant,
};

/// The exit code of a process that was meant to be a worker and could not become one.
const CANNOT_WORK: i32 = 70;

/// What this process has of its parent.
struct Link {
    outlet: channel::Sender,
    inlet: channel::Receiver,
    page: Arc<StatusPage>,
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
    if mark.silenced {
        let stdout = os::adopt(given::STDOUT).map_err(fail("its standard output was not passed on"))?;
        rustix::stdio::dup2_stdout(&stdout).map_err(|error| fail("cannot restore standard output")(error.into()))?;
    }
    let page = Arc::new(StatusPage::map(page).map_err(fail("cannot map its status page"))?);
    let (outlet, inlet) = channel::inherited(reads, writes).map_err(fail("cannot open its channel"))?;
    watch(inlet.duplicate().map_err(fail("cannot watch its parent"))?)?;
    if std::os::unix::process::parent_id() != mark.parent {
        return Err("its parent is already gone".into());
    }
    let mut link = Link { outlet, inlet, page };
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

/// Whether the loop goes on after a call.
enum Next {
    Continue,
    Exit(i32),
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
        loop {
            let frame = match self.link.inlet.receive(None) {
                Received::Frame(frame) => frame,
                Received::Gone | Received::Nothing => return 0,
                Received::Garbled(fault) => {
                    complain(&format!("its parent {fault}"));
                    return CANNOT_WORK;
                }
            };
            match self.obey(&frame) {
                Ok(Next::Continue) => {}
                Ok(Next::Exit(code)) => {
                    // What the state closes or writes when it is dropped belongs to an orderly end.
                    panic::drop_quietly(self.state.take());
                    return code;
                }
                Err(fault) => {
                    complain(&fault);
                    return CANNOT_WORK;
                }
            }
        }
    }

    fn obey(&mut self, frame: &[u8]) -> Result<Next, String> {
        let garbled = |garbled| format!("its parent {garbled}");
        let mut calls = match ToWorker::from_frame(frame).map_err(garbled)? {
            ToWorker::Stop => return Ok(Next::Exit(0)),
            ToWorker::Calls(calls) => calls,
        };
        while let Some((call, task, arguments)) = calls.next().map_err(garbled)? {
            // What the parent has taken back meanwhile is somebody else's.
            if !self.link.page.claim(calls.generation, call.number) {
                continue;
            }
            if let Next::Exit(code) = self.answer(call, task, arguments)? {
                return Ok(Next::Exit(code));
            }
        }
        Ok(Next::Continue)
    }

    /// Runs one call and reports it.
    fn answer(&mut self, call: CallHeader, task: &str, arguments: &[u8]) -> Result<Next, String> {
        let begun = Instant::now();
        let (ending, tainted) = self.perform(task, arguments);
        let stage = Stage::from_u32(self.link.page.stage());
        let nanos = begun.elapsed().as_nanos() as u64;
        // What a finished call printed is not lost if the worker is killed later.
        let _ = std::io::stdout().flush();
        let returned = matches!(ending, Ending::Value(_));
        let report = Report { epoch: self.hello.epoch, call, nanos, stage, leaving: tainted, ending };
        let sent = self.link.outlet.send(&FromWorker::Report(report).to_frame());
        self.link.page.set_stage(Stage::Idle as u32);
        sent.map_err(|error| format!("cannot report to its parent: {error}"))?;
        Ok(match (self.hello.single, tainted) {
            (true, _) => Next::Exit(i32::from(!returned)),
            (false, true) => Next::Exit(0),
            (false, false) => Next::Continue,
        })
    }

    /// Decode, run, encode. The second value says that the worker's state may be broken.
    fn perform(&mut self, task: &str, arguments: &[u8]) -> (Ending, bool) {
        let page = &self.link.page;
        page.clear_words();
        page.set_stage(Stage::Decoding as u32);
        let Some(info) = registry::find(task) else {
            return (Ending::Unfit(format!("this worker knows no task `{task}`")), false);
        };
        let Body::Task(body) = info.body() else {
            return (Ending::Unfit(format!("`{task}` is an initializer, which cannot be called")), false);
        };
        let mut run = Run {
            arguments: Reader::new(arguments),
            result: Writer::new(),
            state: self.state.as_mut(),
            enter_stage: &|stage| page.set_stage(stage as u32),
        };
        let outcome = panic::catch(|| body(&mut run));
        let result = run.result;
        match outcome {
            Ok(Ok(())) => (Ending::Value(result.into_bytes()), false),
            Ok(Err(Fault::Decode(why))) => (Ending::Decode(why), false),
            Ok(Err(Fault::Encode(why))) => (Ending::Encode(why), false),
            Ok(Err(Fault::State(why) | Fault::Initializer(why))) => (Ending::Unfit(why), false),
            Err(panic) => {
                page.clear_words();
                (Ending::Panicked(panic), info.state().is_some())
            }
        }
    }

    fn initialize(&mut self, call: &NamedCall) -> Result<(), NotReady> {
        let failed = |why: String| NotReady::Failed(why);
        let info = registry::find(&call.task)
            .ok_or_else(|| failed(format!("this worker knows no initializer `{}`", call.task)))?;
        let Body::Initializer(body) = info.body() else {
            return Err(failed(format!("`{}` is not an initializer", call.task)));
        };
        let mut run =
            Run { arguments: Reader::new(&call.arguments), result: Writer::new(), state: None, enter_stage: &|_| {} };
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
