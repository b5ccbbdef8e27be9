//! The addresses that a process noted when it crashed, as names of functions.
//!
//! The process is dead, and another lies in memory as it did nowhere: only what lies in the program itself can be found
//! again, in this process's own copy of it. To read the program's debug information takes a while, and much memory, so
//! nobody does it before it is asked for.

use crate::os::{Crash, fault};
use std::ffi::c_void;
use std::fmt::Write as _;
use std::ptr;

/// As a text, from the innermost function on to the task, of what there is.
pub(crate) fn describe(crash: &Crash) -> String {
    let mut text = String::new();
    let mut number = 0;
    for (index, frame) in crash.frames.iter().enumerate() {
        let Some(place) = fault::place_of(*frame) else {
            let address = crash.anchor.wrapping_add(*frame);
            let _ = writeln!(text, "{number:>4}: {address:#x} (outside of the program)");
            number += 1;
            continue;
        };
        // Of a call, where it goes on is noted, and one is subtracted for that; of the first one, the very place.
        let place = if index == 0 { place + 1 } else { place };
        let (mut any, mut through) = (false, false);
        backtrace::resolve(ptr::without_provenance_mut::<c_void>(place), |symbol| {
            let Some(name) = symbol.name().map(|name| format!("{name:#}")) else { return };
            // What is below the task is the library's own affair.
            through |= name.ends_with(ENTRY) || BELOW.iter().any(|below| name.contains(below));
            if through {
                return;
            }
            any = true;
            let _ = writeln!(text, "{number:>4}: {name}");
            number += 1;
            if let Some((file, line)) = symbol.filename().zip(symbol.lineno()) {
                let _ = writeln!(text, "      at {}:{line}", file.display());
            }
        });
        if through {
            break;
        }
        if !any {
            let _ = writeln!(text, "{number:>4}: {:#x} (of the program, without a name)", place as u64);
            number += 1;
        }
    }
    text
}

/// What the macro makes around a task, however much of its name is known.
const ENTRY: &str = "__invoke";
/// Parts of the names of the library's functions in which a task runs.
const BELOW: [&str; 3] = ["pool_runtime::run::series::Series", "pool_runtime::worker::", "pool_runtime::panic::catch"];
