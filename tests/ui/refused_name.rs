use pool_runtime::task;

#[task(name = "")]
fn empty() {}

#[task(name = 3)]
fn number() {}

#[task(name)]
fn missing() {}

fn main() {}
