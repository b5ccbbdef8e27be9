//! Only plain data can lie in shared memory.

use pool_runtime::{Shared, task};

#[derive(Clone, Copy)]
struct Padded {
    small: u8,
    large: u64,
}

#[task]
fn names(all: Shared<[String]>) -> usize {
    all.len()
}

fn main() {
    let _ = Shared::new(&[Padded { small: 1, large: 2 }]);
    let _ = Shared::new(&[true]);
}
