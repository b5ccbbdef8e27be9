use pool_runtime::task;

#[task]
struct Job;

fn main() {}
