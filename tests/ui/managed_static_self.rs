use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn get(&'static self) -> u64 {
        0
    }
}

fn main() {}
