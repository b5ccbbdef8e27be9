//! A program with each form of a `main` that is the way in for workers: `entries <form>`.
//!
//! Workers have the arguments of the program, so that they come in by the same form.

use pool_runtime::{Pool, task};
use std::process::ExitCode;

/// Says whether the thread of a worker has an executor.
#[task]
fn has_executor() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

async fn program() -> pool_runtime::Result<ExitCode> {
    assert!(has_executor(), "the program has none itself");
    assert!(!Pool::new(1)?.apply_async(has_executor::call()).await?, "a worker has started one");
    Ok(ExitCode::from(7))
}

mod above_an_executor {
    #[pool_runtime::main]
    #[tokio::main(flavor = "current_thread")]
    pub async fn main() -> pool_runtime::Result<std::process::ExitCode> {
        super::program().await
    }
}

mod below_an_executor {
    #[tokio::main(flavor = "current_thread")]
    #[pool_runtime::main]
    pub async fn main() -> pool_runtime::Result<std::process::ExitCode> {
        super::program().await
    }
}

mod around_an_executor {
    async fn of_the_program() -> pool_runtime::Result<std::process::ExitCode> {
        super::program().await
    }

    pub fn start() -> std::process::ExitCode {
        main()
    }

    pool_runtime::pool_main! {
        #[tokio::main(flavor = "current_thread")]
        async fn main() -> pool_runtime::Result<std::process::ExitCode> {
            of_the_program().await
        }
    }
}

/// Attributes and visibility stay, a glob import of the runtime disturbs nothing, and the runtime may have another path.
mod without_an_executor {
    mod library {
        pub(super) use pool_runtime as runtime;
    }

    use library::runtime::*;
    use std::process::ExitCode;

    #[task(crate = library::runtime)]
    fn double(number: u8) -> u8 {
        2 * number
    }

    #[library::runtime::main(crate = library::runtime)]
    #[cfg(unix)]
    #[inline(never)]
    #[must_use = "the system is told"]
    pub fn main() -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
        assert_eq!(Process::new(double::call(4)).start()?.join()?, 8);
        Ok(Pool::new(1)?.apply(double::call(3))?.into())
    }
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("above") => above_an_executor::main(),
        Some("below") => below_an_executor::main(),
        Some("around") => around_an_executor::start(),
        Some("without") => without_an_executor::main(),
        form => panic!("unknown form: {form:?}"),
    }
}
