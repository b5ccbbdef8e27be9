use pool_runtime::managed;

struct Counter;

#[managed(name = "a", name = "b")]
impl Counter {
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
