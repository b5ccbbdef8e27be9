use pool_runtime::managed;

struct Counter;

#[managed(retries = 2)]
impl Counter {
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
