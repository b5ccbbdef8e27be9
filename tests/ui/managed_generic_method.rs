use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add<T>(&mut self, _n: T) {}
}

fn main() {}
