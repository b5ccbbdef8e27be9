//! The inputs that programs have, owned or borrowed, go to tasks that borrow and tasks that take values.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Call, Job, Result, task};
use std::path::{Path, PathBuf};

over_every_transport! {
    owned_inputs_are_lent_to_tasks_that_borrow,
    borrowed_inputs_are_lent_on,
    a_call_outlives_what_it_was_made_of,
}

#[task]
fn index(path: &Path) -> String {
    path.display().to_string()
}

#[task]
fn resize(path: &Path, width: u32) -> String {
    format!("{}@{width}", path.display())
}

#[task]
fn shout(word: &str) -> String {
    word.to_uppercase()
}

#[task]
fn square(n: u64) -> u64 {
    n * n
}

#[task]
fn sum(row: &[f64]) -> f64 {
    row.iter().sum()
}

/// As a walk through a directory: an endless iterator of values that nobody else has.
fn walk() -> impl Iterator<Item = PathBuf> {
    (0..).map(|n| PathBuf::from(format!("/photos/{n}.jpg")))
}

fn owned_inputs_are_lent_to_tasks_that_borrow() {
    let pool = pool(2);
    let indexed: Vec<String> = pool.imap(|path| index::call(&path), walk()).take(3).collect::<Result<_>>().unwrap();
    assert_eq!(indexed, ["/photos/0.jpg", "/photos/1.jpg", "/photos/2.jpg"]);
    let resized = pool.imap_unordered(|path| resize::call(&path, 100), walk().take(100));
    assert_eq!(resized.filter(|result| result.as_ref().is_ok_and(|name| name.ends_with("@100"))).count(), 100);
    let later = pool.map_async(|path| index::call(path.parent().unwrap()), walk().take(2));
    assert_eq!(pool.map(|path| index::call(&path), walk().take(1)).unwrap(), ["/photos/0.jpg"]);
    assert_eq!(later.get().unwrap(), ["/photos", "/photos"]);
    let words = vec![String::from("to"), String::from("be")];
    assert_eq!(pool.map(|word| shout::call(&word), words).unwrap(), ["TO", "BE"]);
    assert_eq!(pool.map(|n| shout::call(&format!("n{n}")), [1, 2]).unwrap(), ["N1", "N2"]);
}

fn borrowed_inputs_are_lent_on() {
    let pool = pool(2);
    let paths: Vec<PathBuf> = walk().take(2).collect();
    assert_eq!(pool.map(|path| index::call(path), &paths).unwrap(), ["/photos/0.jpg", "/photos/1.jpg"]);
    assert_eq!(pool.map(index::call, paths.iter().map(PathBuf::as_path)).unwrap().len(), 2);
    let words = vec![String::from("to"), String::from("be")];
    assert_eq!(pool.map(|word| shout::call(word), &words).unwrap(), ["TO", "BE"]);
    assert_eq!(pool.map(|&n| square::call(n), &vec![1, 2, 3]).unwrap(), [1, 4, 9]);
    let rows = vec![vec![1.0, 2.0], vec![], vec![0.5]];
    assert_eq!(pool.map(|row| sum::call(row), &rows).unwrap(), [3.0, 0.0, 0.5]);
}

fn a_call_outlives_what_it_was_made_of() {
    let calls: Vec<Call<'static, shout>> =
        ["to", "be"].iter().map(|word| shout::call(&format!("not {word}"))).collect();
    let pool = pool(1);
    let jobs: Vec<Job<String>> = calls.into_iter().map(|call| pool.apply_async(call)).collect();
    let said: Result<Vec<String>> = jobs.into_iter().map(Job::get).collect();
    assert_eq!(said.unwrap(), ["NOT TO", "NOT BE"]);
}
