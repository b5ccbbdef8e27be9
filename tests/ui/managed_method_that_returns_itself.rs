use pool_runtime::managed;
use std::io;

struct Counter;

#[managed]
impl Counter {
    fn new() -> Self {
        Self
    }

    fn fork(&self) -> io::Result<Self> {
        Ok(Self)
    }
}

fn main() {}
