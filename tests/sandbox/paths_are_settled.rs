//! What a path of a sandbox leads to is settled when the pool is built: a link that a worker puts there leads nobody
//! out.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Sandbox, task};
use std::{fs, os::unix::fs::symlink, path::Path};

over_every_transport! {
    a_link_in_place_of_a_path_lets_nobody_out,
    what_becomes_of_other_files_does_not_matter,
}

/// Puts a link to the root where a directory was, and dies: the next worker would be let there.
#[task]
fn plant(inside: &Path) {
    fs::rename(inside, inside.with_extension("gone")).expect("it may be renamed");
    symlink("/", inside).expect("a link can be made");
    std::process::abort();
}

#[task]
fn can_read(file: &Path) -> bool {
    fs::read(file).is_ok()
}

#[task]
fn replace(file: &Path) {
    fs::write(file.with_extension("new"), "new").expect("it may be written");
    fs::rename(file.with_extension("new"), file).expect("it may be renamed");
    std::process::abort();
}

fn a_link_in_place_of_a_path_lets_nobody_out() {
    let (dir, outside) = (directory(), directory());
    let (inside, secret) = (dir.path().join("bin"), outside.path().join("secret"));
    fs::create_dir(&inside).unwrap();
    fs::write(&secret, "").unwrap();
    let sandbox = Sandbox::strict().write(dir.path()).execute(&inside);
    let pool = builder().processes(1).sandbox(sandbox).build().unwrap();
    assert!(!pool.apply(can_read::call(&secret)).unwrap());
    assert!(pool.apply(plant::call(&inside)).unwrap_err().is_worker_lost());
    assert!(fs::symlink_metadata(&inside).unwrap().is_symlink());
    let error = pool.apply(can_read::call(&secret)).unwrap_err().to_string();
    assert!(error.contains(inside.to_str().unwrap()) && error.contains("another file or directory"), "{error}");
}

fn what_becomes_of_other_files_does_not_matter() {
    let dir = directory();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let pool = builder().processes(1).sandbox(Sandbox::strict().write(dir.path())).build().unwrap();
    assert!(pool.apply(replace::call(&file)).unwrap_err().is_worker_lost());
    assert!(pool.apply(can_read::call(&file)).unwrap());
}
