#![deny(warnings)]

use pool_runtime::{Pool, task};

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn run(pool: &Pool) {
    pool.apply_async(double::call(4));
}

fn main() {
    run(&Pool::new(1).unwrap());
}
