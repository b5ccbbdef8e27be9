use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, _f: Box<dyn Fn() -> u64>) {}
}

fn main() {}
