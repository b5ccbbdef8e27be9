//! The way in: what a process does before anything else, which makes it a worker or lets it run the program.

use crate::{os, process, program, replay, worker};
use std::process::{ExitCode, Termination};

/// Makes this process a worker if it was started as one; then it does not return.
///
/// [`pool_main!`](crate::pool_main) calls it. A `main` without that calls it first: code before it runs in each worker.
///
/// In the program's first process it only notes that workers can be started. Unlike with `pool_main!`, processes that
/// still run when `main` returns are not joined: they end with the program.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     assert_eq!(Pool::new(1)?.apply(double::call(21))?, 42);
///     Ok(())
/// }
/// ```
pub fn enter() {
    program::entered();
    become_worker_if_marked();
}

/// Or runs a call again, if the environment asks for that. All that the hidden test of `pool_main!();` does.
#[doc(hidden)]
pub fn become_worker_if_marked() {
    let code = match program::take_mark() {
        Some(Ok(mark)) => os::with_room(|| worker::work(mark)),
        Some(Err(why)) => {
            worker::complain(&why);
            worker::CANNOT_WORK
        }
        None => {
            let Some(order) = program::take_replay() else { return };
            os::with_room(|| replay::run(&order))
        }
    };
    process::finish();
    // Neither a worker nor a call that is run again goes on into the program, whatever happened.
    std::process::exit(code);
}

/// What `main` may return, under a name of its own, so that the compiler's message says what to do.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`main` cannot return `{Self}`",
    label = "it must return what `main` may: `()`, an `ExitCode`, or a `Result` of those with an error that is `Debug`",
    note = "if it is an `async fn`, it needs an executor: write the attribute of one, such as `#[tokio::main]`, between \
            `#[pool_runtime::main]` and `async fn main`, or block on the future in an ordinary function"
)]
pub trait ReturnedByMain: Termination {}

#[diagnostic::do_not_recommend]
impl<T: Termination> ReturnedByMain for T {}

/// What `pool_main!` and `#[main]` make `main` do.
#[doc(hidden)]
pub fn main<T: ReturnedByMain>(run: impl FnOnce() -> T) -> ExitCode {
    // Also when `run` panics.
    struct Finish;
    impl Drop for Finish {
        fn drop(&mut self) {
            process::finish();
        }
    }
    enter();
    let _finish = Finish;
    run().report()
}

/// Makes `main`, and with it the way in for workers.
///
/// - `pool_main!(run);` makes a `main` that calls `run`, a function without parameters that returns what `main` may.
/// - `pool_main! { fn main() -> … { … } }` wraps a `main`, which may have attributes such as `#[tokio::main]`.
///   [`#[pool_runtime::main]`](macro@crate::main) on a `main` is the same.
/// - `pool_main!();` at the top of a test file, or in a module of unit tests, makes pools and processes work under
///   `cargo test` and nextest.
///
/// In a worker process, `main` is the worker's loop and never reaches `run`. When `run` returns, daemonic processes are
/// terminated and the others joined.
///
/// ```
/// use pool_runtime::{Pool, Result, pool_main, task};
///
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// # mod hidden { use super::*;
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     println!("{}", Pool::new(2)?.apply(double::call(21))?);
///     Ok(())
/// }
/// # pub fn call_main() -> std::process::ExitCode { main() }
/// # }
/// # fn main() -> std::process::ExitCode { hidden::call_main() }
/// ```
#[macro_export]
macro_rules! pool_main {
    () => {
        #[cfg(test)]
        #[test]
        fn pool_main_way_in_for_workers() {
            $crate::__private::become_worker_if_marked();
        }
        #[cfg(test)]
        const _: () = {
            $crate::__private::inventory::submit! { $crate::__private::TestEntry(::core::module_path!()) }
        };
    };
    ($first:ident $(:: $next:ident)* ( $($argument:tt)* ) $(;)?) => {
        fn main() {
            let _ = $first $(:: $next)*;
        }
        ::core::compile_error!(::core::concat!(
            "`pool_main!` takes the function, not a call of it: write `pool_main!(",
            ::core::stringify!($first),
            $("::", ::core::stringify!($next),)*
            ");`"
        ));
    };
    ($run:path $(;)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__private::main($run)
        }
    };
    ($main:item) => {
        fn main() -> ::std::process::ExitCode {
            $main
            $crate::__private::main(main)
        }
    };
}
