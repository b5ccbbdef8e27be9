//! Runs a lost call again: from its [record](crate::dossier::file), in this process, on this thread.
//!
//! Nothing stands between the crash and a debugger: no other process, no fault handler, no handling of signals. The
//! call repeats its effects; if it ran in a sandbox, it runs in the same one. The file chooses task, bytes and sandbox,
//! so it must be this user's or root's, where nobody else can write or replace it. One that is not runs only if the user
//! says so, and then in a strict sandbox, whatever else is asked for; root never runs one. For whoever starts a program
//! chooses its environment, and a program that became root by way of another one may have its environment from anybody.

use crate::codec::{Reader, Writer};
use crate::dossier::file::{LostCall, Recorded};
use crate::foreign;
use crate::memory::{Hold, region};
use crate::os::{self, Abilities, Confinement};
use crate::program::{self, ReplayOrder, WayIn};
use crate::run::{Fault, Run};
use crate::sandbox;
use crate::task::{Body, TaskInfo};
use crate::{identity, panic, registry};
use std::any::Any;
use std::io::{self, Read as _};

/// The exit code of a program whose `main` panics.
const PANICKED: i32 = 101;

/// Runs the call in a file. Returns the exit code of the process.
pub(crate) fn run(order: &ReplayOrder) -> i32 {
    let (how, code) = match replay(order) {
        Ok((how, code)) => (how.to_owned(), code),
        Err(why) => (format!("cannot run the call in {} again: {why}", order.file.display()), 70),
    };
    say(&how);
    code
}

/// What the call came to, and the exit code for that.
fn replay(order: &ReplayOrder) -> Result<(&'static str, i32), String> {
    let (mut file, distrusted) = os::open_judged(&order.file).map_err(|error| error.to_string())?;
    if let Some(why) = &distrusted {
        admit(why, order, os::is_root())?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    drop(file);
    let is_strict = is_strict(order, distrusted.is_some())?;
    let (_, record) = LostCall::read(&bytes)?;
    let its_own = its_own(&record, order);
    if is_strict || its_own.is_some_and(Confinement::denies) {
        leave_behind().map_err(|error| format!("it was to run without what is open here: {error}"))?;
    }
    if is_strict || its_own.is_some_and(|confinement| !confinement.inherits_env) {
        program::forget_environment();
    }
    let (task, initializer) = prepare(&record)?;
    say(&format!(
        "runs `{}` ({}:{}) again, with {} bytes of arguments: job {}, attempt {}, of process {}",
        task.name(),
        task.file(),
        task.line(),
        record.call.arguments.len(),
        record.job,
        record.attempt,
        record.pid
    ));
    if record.build.is_some() && record.build != identity::build() {
        say("this is another build of the program than the one that lost the call: it may behave differently");
    }
    confine(&record, order, is_strict)?;
    os::fault::leave_to_system();
    let mut state = None;
    if let Some((info, call)) = initializer.zip(record.initializer.as_ref()) {
        say(&format!("runs the initializer `{}` first", info.name()));
        let Body::Initializer(body) = info.body else {
            return Err(format!("the initializer failed: `{}` is no initializer", info.name()));
        };
        match attempt(call, None, body) {
            Ok(made) => state = Some(made.map_err(|why| format!("the initializer failed: {why}"))?),
            Err(_) => return Ok(("the initializer panicked", PANICKED)),
        }
    }
    let Body::Task(body, _) = task.body else { return Err(format!("`{}` is no task", task.name())) };
    match attempt(&record.call, state.as_mut(), body) {
        Ok(returned) => returned.map(|()| ("the task returned", 0)),
        Err(_) => Ok(("the task panicked", PANICKED)),
    }
}

/// Whether to run a call from a file that others may have written, for this reason.
fn admit(why: &str, order: &ReplayOrder, is_root: bool) -> Result<(), String> {
    let refused = |what: &str| Err(format!("{why}: who writes such a file decides what this program runs ({what})"));
    match (is_root, order) {
        (true, _) => refused(
            "root runs none: run this program as an ordinary user, with POOL_REPLAY_FOREIGN=1 in the environment, and it \
             runs in a strict sandbox; or copy the file to where only root can write, if you trust it",
        ),
        (false, ReplayOrder { foreign: false, .. }) => {
            refused("with POOL_REPLAY_FOREIGN=1 in the environment, it runs all the same, in a strict sandbox")
        }
        (false, ReplayOrder { unconfined: true, .. }) => refused(
            "it runs in a strict sandbox only: unset POOL_REPLAY_UNCONFINED; or copy the file to where only you can \
             write, if you trust it",
        ),
        (false, _) => Ok(()),
    }
}

/// Runs a task or an initializer. The outer error is a panic.
fn attempt<R>(
    call: &Recorded<'_>,
    state: Option<&mut Box<dyn Any>>,
    body: impl FnOnce(&mut Run<'_>) -> Result<R, Fault>,
) -> Result<Result<R, String>, panic::PanicInfo> {
    let (hold, mut result) = (Hold::default(), Writer::new());
    let arguments = Reader::of_arguments(call.arguments, &hold);
    let mut run = Run { state, ..Run::new(arguments, &mut result) };
    let returned = panic::catch(|| body(&mut run))?;
    Ok(returned.map_err(|fault| match fault {
        Fault::Decode(why) => format!("its arguments cannot be read: {why}"),
        Fault::Encode(why) => format!("the task returned, and its result cannot be sent back: {why}"),
        Fault::State(why) | Fault::Initializer(why) => why,
    }))
}

/// Checks that this program can run the call, and restores the memory that its arguments refer to. Returns the task and
/// the initializer before it.
fn prepare(record: &LostCall<'_>) -> Result<(&'static TaskInfo, Option<&'static TaskInfo>), String> {
    registry::check()?;
    if record.left_out {
        return Err("its arguments are not in the file, as the pool had kept too much by then".into());
    }
    let task = known(&record.call)?;
    if task.is_initializer() {
        return Err(format!("`{}` is an initializer, which cannot be called", task.name()));
    }
    let initializer = record.initializer.as_ref().map(known).transpose()?;
    for (id, bytes) in &record.regions {
        region::restore(*id, bytes, record.writable.contains(id))
            .map_err(|error| format!("its shared memory cannot be made: {error}"))?;
    }
    Ok((task, initializer))
}

/// Whether the call is to have a strict sandbox, wherever it ran.
fn is_strict(order: &ReplayOrder, distrusted: bool) -> Result<bool, String> {
    match &order.sandbox {
        None => Ok(distrusted),
        Some(name) if name == "strict" => Ok(true),
        Some(name) => Err(format!("POOL_REPLAY_SANDBOX is {name:?}, and the only sandbox by name is \"strict\"")),
    }
}

/// The sandbox in which it ran, unless it is to run without.
fn its_own<'r>(record: &'r LostCall<'_>, order: &ReplayOrder) -> Option<&'r Confinement> {
    record.confinement.as_ref().filter(|_| !order.unconfined)
}

/// Takes from this process what no worker is given: before anything of its own is open.
fn leave_behind() -> io::Result<()> {
    os::close_inherited()?;
    os::replace_stdin_by_nothing()
}

/// Confines this process as the call was, and as the user asks: to what both allow.
fn confine(record: &LostCall<'_>, order: &ReplayOrder, is_strict: bool) -> Result<(), String> {
    let its_own = its_own(record, order);
    if is_strict {
        let strict = sandbox::strict().map_err(|error| {
            format!(
                "it was to run in a strict sandbox, and {error} (or copy the file to where only you can write, if you \
                 trust it)"
            )
        })?;
        // It allows no file, so what both allow is this, with the lower limits.
        let limits = its_own.map_or(strict.limits, |own| own.limits.and(strict.limits));
        apply(&Confinement { limits, ..strict })
            .map_err(|why| format!("it was to run in a strict sandbox, and {why}"))?;
        say("it runs in a strict sandbox");
    } else if let Some(confinement) = its_own {
        apply(confinement).map_err(|why| {
            format!(
                "it ran in a sandbox, and {why} (with POOL_REPLAY_UNCONFINED=1 in the environment, it runs without)"
            )
        })?;
        say("it runs in a sandbox, as it did");
    } else if record.confinement.is_some() {
        say("the call ran in a sandbox; now it runs without, as asked for");
    }
    Ok(())
}

fn apply(confinement: &Confinement) -> Result<(), String> {
    let harness_waits = matches!(program::way_in(), Ok(WayIn::Test { .. }));
    confinement.apply(Abilities::here(), harness_waits)
}

fn known(call: &Recorded<'_>) -> Result<&'static TaskInfo, String> {
    let unknown = || format!("this program has no task `{}`: it is another program's, or an older one's", call.task);
    let info = registry::find(call.task).ok_or_else(unknown)?;
    match info.signature_hash() == call.signature {
        true => Ok(info),
        false => Err(format!(
            "the task `{}` has another signature in this program, which is `{}`: its arguments cannot be read",
            call.task,
            info.signature()
        )),
    }
}

fn say(what: &str) {
    os::write_stderr(format!("pool-runtime: replay: {}\n", foreign::line(what)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_have_written_runs_for_no_root_and_never_without_a_sandbox() {
        let order = |foreign, unconfined, sandbox: Option<&str>| {
            let sandbox = sandbox.map(Into::into);
            ReplayOrder { file: "x".into(), unconfined, foreign, sandbox }
        };
        for (foreign, unconfined, runs) in
            [(false, false, false), (false, true, false), (true, false, true), (true, true, false)]
        {
            for sandbox in [None, Some("strict")] {
                let order = order(foreign, unconfined, sandbox);
                assert!(admit("why", &order, true).is_err_and(|why| why.contains("root runs none")));
                assert_eq!(admit("why", &order, false).is_ok(), runs, "{order:?}");
                assert_eq!(is_strict(&order, true), Ok(true));
            }
        }
        assert_eq!(is_strict(&order(false, false, None), false), Ok(false));
    }

    #[test]
    fn what_was_left_out_is_not_run() {
        let call: Recorded<'_> = Recorded { task: "a::b", signature: 5, arguments: b"" };
        let record = LostCall {
            build: None,
            pid: 2,
            job: 3,
            attempt: 1,
            call,
            initializer: None,
            regions: Vec::new(),
            writable: Vec::new(),
            confinement: None,
            left_out: true,
        };
        assert!(prepare(&record).is_err_and(|why| why.contains("are not in the file")));
    }
}
