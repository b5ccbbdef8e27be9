//! The table of tasks: every `#[task]` of the program and its dependencies, which `inventory` collects before `main`.

use crate::hash::Fnv;
use crate::task::TaskInfo;
use std::sync::LazyLock;

/// What `#[task]` submits.
#[derive(Debug)]
pub struct Registration(pub &'static TaskInfo);

inventory::collect!(Registration);

/// The name of the one task of this crate: what the server of a [`Manager`](crate::Manager) runs.
pub(crate) const SERVE: &str = "pool_runtime::manager::serve";

/// All tasks of this program, sorted by name.
///
/// ```
/// # use pool_runtime::{task, tasks};
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// # fn main() {
/// let double = tasks().find(|task| task.name().ends_with("::double")).unwrap();
/// assert_eq!(double.signature(), "fn double(n: u32) -> u32");
/// # }
/// ```
pub fn tasks() -> impl Iterator<Item = &'static TaskInfo> {
    TABLE.in_order.iter().copied().filter(|task| task.name() != SERVE)
}

struct TaskTable {
    in_order: Vec<&'static TaskInfo>,
    digest: u64,
}

static TABLE: LazyLock<TaskTable> = LazyLock::new(|| {
    let mut in_order: Vec<_> = inventory::iter::<Registration>.into_iter().map(|entry| entry.0).collect();
    // The order of the collection depends on the linker and its settings.
    in_order.sort_by_key(|task| (task.name(), task.file(), task.line()));
    let mut digest = Fnv::new();
    for task in &in_order {
        digest.write(&task.signature_hash().to_le_bytes());
    }
    TaskTable { in_order, digest: digest.finish() }
});

pub(crate) fn find(name: &str) -> Option<&'static TaskInfo> {
    let tasks = &TABLE.in_order;
    tasks.binary_search_by_key(&name, |task| task.name()).ok().map(|at| tasks[at])
}

/// A hash of all names and signatures.
pub(crate) fn digest() -> u64 {
    TABLE.digest
}

/// Refuses a table with two tasks of one name.
pub(crate) fn check() -> Result<(), String> {
    let twice = TABLE.in_order.windows(2).find(|pair| pair[0].name() == pair[1].name());
    let Some([first, second]) = twice else { return Ok(()) };
    let place = |task: &TaskInfo| format!("{}:{}", task.file(), task.line());
    Err(format!(
        "two tasks are named `{}`: one at {}, one at {}; give one of them another name with `#[task(name = \"…\")]`",
        first.name(),
        place(first),
        place(second)
    ))
}
