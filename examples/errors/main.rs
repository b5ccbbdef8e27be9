//! cargo run --example errors
//!
//! Everything that can go wrong in a task, as the error that its caller gets, while the pool goes on; then what is
//! known of a crash, and the same crash again, in one process.

use pool_runtime::{Call, Pool, Result, Task, pool_main, task};
use std::{fmt::Debug, os::unix::process::ExitStatusExt, path::Path, process::Command};

#[task]
fn panics(n: u32) {
    assert!(n.is_multiple_of(2), "{n} is odd");
}

/// An `Err` is a value like others: the call has done what it should.
#[task]
fn returns_an_error(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| format!("cannot read {text:?} as a number: {error}"))
}

#[task]
fn exits(code: i32) {
    std::process::exit(code);
}

#[task]
fn segfaults(field: usize) {
    eprintln!("about to write field {field} of a struct that is not there");
    // As C programs do it.
    let field = std::hint::black_box(std::ptr::null_mut::<u8>()).wrapping_add(field);
    // SAFETY: none; nothing is mapped there, so that the system kills the process, which is what is to be shown.
    unsafe { field.write_volatile(1) };
}

#[task]
fn overflows_its_stack(depth: u64) -> u64 {
    // The sum is made after the call, so that no compiler turns this into a loop.
    if depth == u64::MAX { 0 } else { std::hint::black_box(overflows_its_stack(depth + 1)) + depth }
}

pool_main!(run);

fn run() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("errors-{}", std::process::id()));
    let pool = Pool::builder().processes(2).dossiers(&dir).build()?;
    show(&pool, panics::call(3))?;
    show(&pool, returns_an_error::call("seven"))?;
    show(&pool, exits::call(3))?;
    show(&pool, overflows_its_stack::call(0))?;
    let error = pool.apply(segfaults::call(8)).expect_err("there is nothing at address 8");
    let dossier = error.dossier().expect("its worker was lost");
    println!("{dossier}");
    run_again(dossier.saved().expect("a file was written"), error.signal());
    std::fs::remove_dir_all(dir).expect("only dossiers are in it");
    Ok(())
}

/// As in a shell: POOL_REPLAY=file program
fn run_again(file: &Path, signal: Option<i32>) {
    let program = std::env::current_exe().expect("this program has a file");
    let status = Command::new(program).env("POOL_REPLAY", file).status().expect("it starts");
    println!("run again, the call ends the process with {status}");
    assert_eq!(status.signal(), signal, "the same crash");
}

/// Makes a call that goes wrong, and after it one that does not.
fn show<T: Task<Output: Debug>>(pool: &Pool, call: Call<'_, T>) -> Result<()> {
    println!("{}", call.task_name());
    match pool.apply(call) {
        Ok(value) => println!("    returned {value:?}"),
        Err(error) => {
            println!("    is_panic {}, is_worker_lost {}", error.is_panic(), error.is_worker_lost());
            println!("    signal {:?}, exit_code {:?}, ran {:?}", error.signal(), error.exit_code(), error.ran());
            println!("    {error}");
        }
    }
    pool.apply(panics::call(2)) // the pool goes on
}
