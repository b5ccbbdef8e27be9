//! cargo run --example errors
//!
//! Everything that can go wrong in a task, as the error that its caller gets, while the pool goes on.

use pool_runtime::{Call, Pool, Result, Task, pool_main, task};
use std::fmt::Debug;

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

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
fn aborts() {
    std::process::abort();
}

#[task]
fn exits(code: i32) {
    std::process::exit(code);
}

#[task]
fn segfaults() {
    // The field of a struct that is not there, as C programs reach for it: address 8.
    let field = std::hint::black_box(std::ptr::null_mut::<u8>()).wrapping_add(8);
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
    let pool = Pool::new(2)?;
    show(&pool, panics::call(3))?;
    show(&pool, returns_an_error::call("seven"))?;
    show(&pool, aborts::call())?;
    show(&pool, exits::call(3))?;
    show(&pool, segfaults::call())?;
    show(&pool, overflows_its_stack::call(0))?;
    Ok(())
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
    println!("    the pool goes on: 2 + 2 = {}", pool.apply(add::call(2, 2))?);
    Ok(())
}
