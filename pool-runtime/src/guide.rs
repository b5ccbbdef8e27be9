#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../guide/README.md")]

/// A page: its line in the list of pages, and its file.
///
/// A page ends with links that work where its file is read, such as `[jobs]: jobs.md`. Of two links with one label,
/// the first counts, so that the ones to modules stand before the page.
macro_rules! page {
    ($name:ident, $summary:literal, $file:literal) => {
        #[doc = $summary]
        ///
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!($file)]
        pub mod $name {}
    };
}

page!(which_method, "What you have, what you want, and what to call.", "../guide/which-method.md");
page!(pools, "Tasks, calls, and running them on a fixed number of worker processes.", "../guide/pools.md");
page!(jobs, "Calls that run while the program does something else.", "../guide/jobs.md");
page!(errors, "What an error says, and whether it is safe to call again.", "../guide/errors.md");
page!(limits, "Timeouts, retries, and limits of memory.", "../guide/limits.md");
page!(state, "What each worker makes once and keeps.", "../guide/state.md");
page!(
    shared,
    "Large inputs that all workers read in place, values that all may write, and locks.",
    "../guide/shared.md"
);
page!(queues, "Items that any processes put and any processes take.", "../guide/queues.md");
page!(managers, "Objects that live in one process and are used by many.", "../guide/managers.md");
page!(processes, "One call in a process of its own.", "../guide/processes.md");
page!(connection, "Programs that find each other by an address, in Rust and in Python.", "../guide/connection.md");
page!(tests, "Pools in tests, in debuggers, and with injected faults.", "../guide/tests.md");
page!(deaths, "Why a worker died, and how to run the same call again.", "../guide/deaths.md");
page!(
    logging,
    "What the library says through `tracing` and `log`, with targets, levels and fields.",
    "../guide/logging.md"
);
page!(sandbox, "Workers without access to files, network or other processes.", "../guide/sandbox.md");
page!(trust, "Who trusts whom, what is promised, and which tests hold it.", "../guide/trust.md");
page!(recipes, "Short programs for what comes up often.", "../guide/recipes.md");
page!(
    programs,
    "A program as a whole: its pool, its crates, its end, where it runs, and benchmarks.",
    "../guide/programs.md"
);
page!(
    coming_from,
    "The names of rayon, of Python's `multiprocessing` and `concurrent.futures`, and of procspawn.",
    "../guide/coming-from.md"
);
page!(
    reference,
    "Terms, versions, environment variables, serde, threads, descriptors and costs.",
    "../guide/reference.md"
);

/// The program that crates.io shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
