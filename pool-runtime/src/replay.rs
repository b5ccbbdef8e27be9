//! Runs a call again that was lost with its worker: from its [record](crate::dossier::file), in this process, on this thread.
//!
//! Nothing stands between the crash and a debugger: no other process, no fault handler, no net for signals. What the
//! call does to the world, it does again; but where it ran in a sandbox, it runs in the same one. A file from somebody
//! else says which task runs on which bytes, and without which sandbox: it is to be trusted as a program is.

use crate::codec::{Reader, Writer};
use crate::dossier::file::{LostCall, Recorded};
use crate::error::Error;
use crate::memory::{Hold, region};
use crate::os::{self, Abilities, Confinement};
use crate::program::{self, WayIn};
use crate::run::{Fault, Run};
use crate::task::{Body, TaskInfo};
use crate::{identity, panic, registry};
use std::any::Any;
use std::path::Path;

/// The exit code where the call could not be run.
const CANNOT_REPLAY: i32 = 70;
/// And where it panicked, as that of a program whose `main` does.
const PANICKED: i32 = 101;

/// Runs the call in a file, without the sandbox in which it ran if that is asked for. Returns the exit code of the
/// process.
pub(crate) fn run(file: &Path, unconfined: bool) -> i32 {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(file, &error.to_string()),
    };
    let prepared = LostCall::read(&bytes).and_then(|(_, record)| prepare(record));
    let Replay { record, task, initializer } = match prepared {
        Ok(replay) => replay,
        Err(why) => return refuse(file, &why),
    };
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
    if let Some(confinement) = &record.confinement {
        if unconfined {
            say("the call ran in a sandbox; now it runs without, as asked for");
        } else if let Err(why) = confine(confinement) {
            return refuse(file, &why);
        } else {
            say("it runs in a sandbox, as it did");
        }
    }
    os::fault::leave_to_system();
    let mut state = None;
    if let Some((info, call)) = initializer {
        say(&format!("runs the initializer `{}` first", info.name()));
        match panic::catch(|| initialize(info, &call)) {
            Ok(Ok(made)) => state = Some(made),
            Ok(Err(why)) => return refuse(file, &format!("the initializer failed: {why}")),
            Err(_) => return end("the initializer panicked", PANICKED),
        }
    }
    match panic::catch(|| call(task, &record.call, state.as_mut())) {
        Ok(Ok(())) => end("the task returned", 0),
        Ok(Err(why)) => refuse(file, &why),
        Err(_) => end("the task panicked", PANICKED),
    }
}

/// A call that this program can run again, and the initializer before it.
struct Replay<'r> {
    record: LostCall<'r>,
    task: &'static TaskInfo,
    initializer: Option<(&'static TaskInfo, Recorded<'r>)>,
}

/// Checks that this program can run it, and brings the memory back of which its arguments speak.
fn prepare(record: LostCall<'_>) -> Result<Replay<'_>, String> {
    registry::check().map_err(|twice| Error::from(twice).to_string())?;
    if record.left_out {
        return Err("its arguments are not in the file, as the pool had kept too much by then".into());
    }
    let task = known(&record.call)?;
    if task.is_initializer() {
        return Err(format!("`{}` is an initializer, which cannot be called", task.name()));
    }
    let initializer = record.initializer.map(|call| known(&call).map(|info| (info, call))).transpose()?;
    for (id, bytes) in &record.regions {
        region::restore(*id, bytes).map_err(|error| format!("its shared memory cannot be made: {error}"))?;
    }
    Ok(Replay { record, task, initializer })
}

fn confine(confinement: &Confinement) -> Result<(), String> {
    // A test harness waits on its first thread.
    let wait = usize::from(matches!(program::way_in(), Ok(WayIn::Test { .. })));
    confinement.apply(Abilities::here(), wait).map_err(|why| {
        format!("it ran in a sandbox, and {why} (with POOL_REPLAY_UNCONFINED=1 in the environment, it runs without)")
    })
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

fn initialize(info: &TaskInfo, call: &Recorded<'_>) -> Result<Box<dyn Any>, String> {
    let Body::Initializer(body) = info.body() else { return Err(format!("`{}` is no initializer", info.name())) };
    let (hold, mut result) = (Hold::default(), Writer::new());
    body(&mut of(call, &hold, &mut result, None)).map_err(reason)
}

fn call(info: &TaskInfo, call: &Recorded<'_>, state: Option<&mut Box<dyn Any>>) -> Result<(), String> {
    let Body::Task(body, _) = info.body() else { return Err(format!("`{}` is no task", info.name())) };
    let (hold, mut result) = (Hold::default(), Writer::new());
    body(&mut of(call, &hold, &mut result, state)).map_err(reason)
}

fn of<'r>(call: &Recorded<'r>, hold: &'r Hold, result: &'r mut Writer, state: Option<&'r mut Box<dyn Any>>) -> Run<'r> {
    Run { arguments: Reader::of_arguments(call.arguments, hold), result, state, few: None, page: None }
}

fn reason(fault: Fault) -> String {
    match fault {
        Fault::Decode(why) => format!("its arguments cannot be read: {why}"),
        Fault::Encode(why) => format!("the task returned, and its result cannot be sent back: {why}"),
        Fault::State(why) | Fault::Initializer(why) => why,
    }
}

fn say(what: &str) {
    os::write_stderr(format!("pool-runtime: replay: {what}\n").as_bytes());
}

fn end(how: &str, code: i32) -> i32 {
    say(how);
    code
}

fn refuse(file: &Path, why: &str) -> i32 {
    say(&format!("cannot run the call in {} again: {why}", file.display()));
    CANNOT_REPLAY
}

#[cfg(test)]
mod tests {
    use super::*;

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
            confinement: None,
            left_out: true,
        };
        assert!(prepare(record).is_err_and(|why| why.contains("are not in the file")));
    }
}
