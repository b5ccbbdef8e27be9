use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn finish(self) -> u64 {
        0
    }
}

fn main() {}
