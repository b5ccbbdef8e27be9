//! The table of tasks: every `#[task]` of the program and its dependencies, collected before `main` by `inventory`.

use crate::hash::Fnv;
use crate::task::TaskInfo;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What `#[task]` submits.
#[derive(Debug)]
pub struct Registration(pub &'static TaskInfo);

inventory::collect!(Registration);

/// All tasks of this program, in the order of their names.
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
    table().in_order.iter().copied()
}

struct TaskTable {
    in_order: Vec<&'static TaskInfo>,
    by_name: HashMap<&'static str, &'static TaskInfo>,
    digest: u64,
}

fn table() -> &'static TaskTable {
    static TABLE: OnceLock<TaskTable> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut in_order: Vec<_> = inventory::iter::<Registration>.into_iter().map(|entry| entry.0).collect();
        // The collection has no order of its own: it differs between linkers and their settings.
        in_order.sort_by_key(|task| (task.name(), task.file(), task.line()));
        let mut digest = Fnv::new();
        for task in &in_order {
            digest.write(&task.signature_hash().to_le_bytes());
        }
        TaskTable {
            by_name: in_order.iter().map(|task| (task.name(), *task)).collect(),
            in_order,
            digest: digest.finish(),
        }
    })
}

/// The task of that name.
pub(crate) fn find(name: &str) -> Option<&'static TaskInfo> {
    table().by_name.get(name).copied()
}

/// Identifies the whole table: names and signatures.
pub(crate) fn digest() -> u64 {
    table().digest
}

/// Two tasks of one name: where each of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Twice {
    pub(crate) name: &'static str,
    pub(crate) first: String,
    pub(crate) second: String,
}

/// Refuses a table in which a name stands for two tasks.
pub(crate) fn check() -> Result<(), Twice> {
    let twice = table().in_order.windows(2).find(|pair| pair[0].name() == pair[1].name());
    let Some([first, second]) = twice else { return Ok(()) };
    let place = |task: &TaskInfo| format!("{}:{}", task.file(), task.line());
    Err(Twice { name: first.name(), first: place(first), second: place(second) })
}
