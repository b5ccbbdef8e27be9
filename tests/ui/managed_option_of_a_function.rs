use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    #[managed(name = "get")]
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
