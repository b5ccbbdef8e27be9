use pool_runtime::managed;

#[managed]
fn add(n: u64) -> u64 {
    n
}

fn main() {}
