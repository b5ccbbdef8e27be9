use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    extern "C" fn get(&self) -> u64 {
        0
    }
}

fn main() {}
