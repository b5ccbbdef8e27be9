use pool_runtime::managed;

struct Counter(std::cell::Cell<u64>);

#[managed]
impl Counter {
    fn get(&self) -> u64 {
        self.0.get()
    }

    fn new() -> Self {
        Self(std::cell::Cell::new(0))
    }
}

fn main() {}
