use pool_runtime::task;

use std::borrow::Cow;

#[task]
fn all(a: Option<&str>, b: (&str, u8), c: Cow<'_, str>, d: &&str, e: &[&str]) {
    let _ = (a, b, c, d, e);
}

fn main() {}
