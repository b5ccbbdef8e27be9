//! One mistake gives one message: the function is there all the same.

use pool_runtime::task;

#[task(tiemout = 3)]
fn double(n: u32) -> u32 {
    2 * n
}

fn main() {
    println!("{}", double(4));
}
