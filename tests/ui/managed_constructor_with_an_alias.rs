use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }
}

fn main() {}
