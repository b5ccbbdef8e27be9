use pool_runtime::managed;

struct Counter;

#[managed(skip)]
impl Counter {
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
