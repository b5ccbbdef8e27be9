use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        0..3
    }
}

fn main() {}
