use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    async fn get(&self) -> u64 {
        0
    }
}

fn main() {}
