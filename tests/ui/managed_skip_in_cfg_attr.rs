use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn new() -> Self {
        Self
    }

    #[cfg_attr(debug_assertions, managed(skip))]
    fn get(&self) -> u64 {
        1
    }
}

fn main() {}
