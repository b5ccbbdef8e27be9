use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add<const N: usize>(&mut self, _n: [u64; N]) {}
}

fn main() {}
