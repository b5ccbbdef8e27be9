use pool_runtime::task;

#[task]
extern "C" fn poke() {}

fn main() {}
