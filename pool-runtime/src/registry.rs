//! The table of tasks: every `#[task]` of the program and its dependencies, collected before `main` by `inventory`.

use crate::{
    error::{Error, Kind},
    task::TaskInfo,
};
use std::{collections::HashMap, sync::OnceLock};

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

struct Table {
    in_order: Vec<&'static TaskInfo>,
    by_name: HashMap<&'static str, &'static TaskInfo>,
    digest: u64,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut in_order: Vec<_> = inventory::iter::<Registration>.into_iter().map(|entry| entry.0).collect();
        // The collection has no order of its own: it differs between linkers and their settings.
        in_order.sort_by_key(|task| (task.name(), task.file(), task.line()));
        let mut digest = Fnv::new();
        for task in &in_order {
            digest.write(&task.signature_hash().to_le_bytes());
        }
        Table { by_name: in_order.iter().map(|task| (task.name(), *task)).collect(), in_order, digest: digest.finish() }
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

/// Refuses a table in which a name stands for two tasks.
pub(crate) fn check() -> Result<(), Error> {
    let twice = table().in_order.windows(2).find(|pair| pair[0].name() == pair[1].name());
    let Some([first, second]) = twice else { return Ok(()) };
    let place = |task: &TaskInfo| format!("{}:{}", task.file(), task.line());
    Err(Error::new(Kind::DuplicateTask { name: first.name(), first: place(first), second: place(second) }))
}

/// The 64-bit FNV-1a hash: stable between processes, unlike the standard library's.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) const fn write(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = (self.0 ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
    }

    /// As `write`, eight bytes at a time: for large inputs, with another result.
    pub(crate) fn write_words(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        self.write(rest);
    }

    pub(crate) const fn finish(&self) -> u64 {
        self.0
    }
}
