use pool_runtime::task;

#[task]
unsafe fn poke() {}

fn main() {}
