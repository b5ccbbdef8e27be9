#[pool_runtime::main]
struct Program;

fn main() {}
