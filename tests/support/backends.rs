//! Each behaviour that does not depend on where calls run is one test, on every backend: `on_every_backend! { name }`
//! makes the tests `name::in_processes`, `name::in_threads` and `name::inline` of the function `name(Backend)`.

use pool_runtime::{Backend, Pool};

/// Makes a test for each backend of each function.
macro_rules! on_every_backend {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use pool_runtime::Backend;

            #[test]
            fn in_processes() {
                super::$test(Backend::Processes);
            }

            #[test]
            fn in_threads() {
                super::$test(Backend::Threads);
            }

            #[test]
            fn inline() {
                super::$test(Backend::Inline);
            }
        }
    )+};
}
pub(crate) use on_every_backend;

/// The backends that have to do the same.
pub const BACKENDS: [Backend; 3] = [Backend::Processes, Backend::Threads, Backend::Inline];

/// A pool of `processes` workers.
pub fn pool_on(backend: Backend, processes: usize) -> Pool {
    Pool::builder().processes(processes).backend(backend).build().expect("a pool")
}
