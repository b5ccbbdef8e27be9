//! Turns the addresses of a crash into names of functions.
//!
//! The process is dead, so only addresses in the program itself can be resolved, in this process's own copy of it.
//! Reading debug information is slow and takes much memory, so it happens only on demand.

use crate::os::{Crash, fault};
use std::ffi::c_void;
use std::fmt::Write as _;
use std::ptr;

/// The frames of a crash with their names, from the innermost function to the task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    text: String,
    /// How many entries are in the text, and what they are called.
    names: Vec<String>,
    /// Where the task's own frame begins, or the library's, if the task was compiled into that: from the start of the
    /// program's file.
    end: Option<usize>,
}

/// Looks up the names.
pub(crate) fn resolve(crash: &Crash) -> Trace {
    let mut trace = Trace::default();
    for (index, frame) in crash.frames.iter().enumerate() {
        let Some(place) = fault::place_of(*frame) else {
            trace.push(&format!("{:#x} (outside of the program)", crash.anchor.wrapping_add(*frame)), String::new());
            continue;
        };
        // `resolve` takes return addresses, and subtracts one; the first frame is an exact address.
        let after = if index == 0 { place.address + 1 } else { place.address };
        let (mut any, mut through) = (false, false);
        backtrace::resolve(ptr::without_provenance_mut::<c_void>(after), |symbol| {
            let Some(name) = symbol.name().map(|name| format!("{name:#}")) else { return };
            // Frames below the task are the library's.
            through |= name.ends_with(ENTRY) || BELOW.iter().any(|below| name.contains(below));
            if through {
                return;
            }
            any = true;
            trace.push(&name.clone(), name);
            if let Some((file, line)) = symbol.filename().zip(symbol.lineno()) {
                let _ = writeln!(trace.text, "      at {}:{line}", file.display());
            }
        });
        if through || !any {
            trace.end.get_or_insert(place.in_file);
        }
        if through {
            break;
        }
        if !any {
            trace.push(&format!("{:#x} (of the program, without a name)", place.in_file), String::new());
        }
    }
    trace
}

impl Trace {
    fn push(&mut self, entry: &str, name: String) {
        let _ = writeln!(self.text, "{:>4}: {entry}", self.names.len());
        self.names.push(name);
    }

    /// As text. If the task is not among the names, the last line says where in it the process was.
    pub(crate) fn text(&self, task: Option<&str>) -> String {
        let mut text = self.text.clone();
        // The name of a task need not be that of its function, and only the last part is sure to be in both.
        let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
        if let (Some(task), Some(at)) = (task, self.end)
            && !self.names.iter().any(|name| last(name) == last(task))
        {
            let _ = writeln!(text, "{:>4}: in task {task}, at {at:#x} in the program's file", self.names.len());
        }
        text
    }
}

/// The function that the macro generates around a task.
const ENTRY: &str = "__invoke";
/// Parts of the names of the library's functions that run a task.
const BELOW: [&str; 3] = ["pool_runtime::run::series::Series", "pool_runtime::worker::", "pool_runtime::panic::catch"];

#[cfg(test)]
mod tests {
    use super::*;

    mod of_a_task {
        /// As the function around a task, into which the compiler has put the task.
        #[inline(never)]
        pub(super) fn __invoke() -> u32 {
            std::hint::black_box(17)
        }
    }

    #[inline(never)]
    fn square() -> u32 {
        std::hint::black_box(18)
    }

    /// A crash in these functions, innermost first.
    fn crash_in(functions: &[fn() -> u32]) -> Crash {
        let anchor = fault::anchor() as u64;
        // Behind the first instruction, as a return address is.
        let frames = functions.iter().map(|function| (*function as usize as u64 + 1).wrapping_sub(anchor)).collect();
        Crash { signal: 11, code: 1, address: 8, overflow: false, on_main: true, anchor, frames }
    }

    #[test]
    fn a_task_without_a_frame_of_its_own_is_named() {
        assert_eq!(of_a_task::__invoke(), 17);
        for functions in [&[of_a_task::__invoke as fn() -> u32][..], &[square, of_a_task::__invoke]] {
            let text = resolve(&crash_in(functions)).text(Some("a::task"));
            let line = text.lines().last().unwrap();
            assert!(line.contains(&format!("{}: in task a::task, at 0x", functions.len() - 1)), "{text}");
        }
        assert_eq!(resolve(&crash_in(&[of_a_task::__invoke])).text(None), "");
    }

    #[test]
    fn a_task_with_a_frame_is_not_named_again() {
        let text = resolve(&crash_in(&[square, of_a_task::__invoke])).text(Some("somewhere::square"));
        assert!(text.contains("tests::square") && !text.contains("in task"), "{text}");
    }
}
