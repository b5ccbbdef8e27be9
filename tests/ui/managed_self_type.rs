use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn merge(&mut self, _other: &Self) {}
}

fn main() {}
