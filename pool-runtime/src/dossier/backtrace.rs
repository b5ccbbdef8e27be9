//! Turns the addresses of a crash into names of functions.
//!
//! The process is dead, so only addresses in the program itself can be resolved, in this process's own copy of it.
//! Reading debug information is slow and takes much memory, so it happens only on demand.

use crate::os::{Crash, fault};
use std::ffi::c_void;
use std::fmt::Write as _;
use std::ptr;

/// The frames as text, from the innermost function to the task.
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
        // `resolve` takes return addresses, and subtracts one; the first frame is an exact address.
        let place = if index == 0 { place + 1 } else { place };
        let (mut any, mut through) = (false, false);
        backtrace::resolve(ptr::without_provenance_mut::<c_void>(place), |symbol| {
            let Some(name) = symbol.name().map(|name| format!("{name:#}")) else { return };
            // Frames below the task are the library's.
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

/// The function that the macro generates around a task.
const ENTRY: &str = "__invoke";
/// Parts of the names of the library's functions that run a task.
const BELOW: [&str; 3] = ["pool_runtime::run::series::Series", "pool_runtime::worker::", "pool_runtime::panic::catch"];
