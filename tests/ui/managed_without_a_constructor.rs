use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn get(&self) -> u64 {
        1
    }

    fn limit() -> u64 {
        2
    }
}

fn main() {}
