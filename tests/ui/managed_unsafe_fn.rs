use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    unsafe fn get(&self) -> u64 {
        0
    }
}

fn main() {}
