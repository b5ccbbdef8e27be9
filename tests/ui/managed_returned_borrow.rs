use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn name(&self) -> &str {
        "counter"
    }
}

fn main() {}
