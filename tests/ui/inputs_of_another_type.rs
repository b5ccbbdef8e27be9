//! Inputs that are not of the parameter's type: the compiler says of which type each is.

use pool_runtime::{Pool, task};
use std::path::{Path, PathBuf};

#[task]
fn index(path: &Path) -> usize {
    path.components().count()
}

fn main() {
    let pool = Pool::new(1).unwrap();
    let paths = vec![PathBuf::new()];
    let _ = pool.map(index::call, &paths);
    let _ = pool.map(index::call, paths);
}
