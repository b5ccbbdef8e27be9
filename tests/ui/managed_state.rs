use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, #[state] _n: &u64) {}
}

fn main() {}
