use pool_runtime::task;

use std::fmt::Debug;

#[task]
fn show(lent: &dyn Debug, boxed: Box<dyn Debug>) -> String {
    format!("{lent:?} {boxed:?}")
}

fn main() {}
