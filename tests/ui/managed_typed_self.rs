use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn finish(self: Box<Self>) -> u64 {
        0
    }
}

fn main() {}
