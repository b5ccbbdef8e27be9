#[pool_runtime::main]
fn start() {}

fn main() {}
