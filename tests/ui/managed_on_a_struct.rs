use pool_runtime::managed;

#[managed]
struct Counter;

fn main() {}
