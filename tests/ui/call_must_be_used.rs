#![deny(warnings)]

use pool_runtime::task;

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn main() {
    double::call(4);
}
