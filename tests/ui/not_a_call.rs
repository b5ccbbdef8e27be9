//! What a pool says of something that is not a call of a task.

use pool_runtime::{Initializer, Task, TaskCall, task};

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

#[task(initializer)]
fn open() {}

fn plain(n: u32) -> u32 {
    n
}

fn wants_call<C: TaskCall>(_: C) {}
fn wants_task<T: Task>() {}
fn wants_initializer<T: Initializer>() {}

fn main() {
    wants_call(5);
    wants_call(|| 5);
    wants_call(plain);
    wants_call(plain(1));
    wants_call(double);
    wants_call(open::call());
    wants_task::<u32>();
    wants_task::<open>();
    wants_initializer::<double>();
}
