use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn open(&self) -> bool {
        true
    }
}

fn main() {}
