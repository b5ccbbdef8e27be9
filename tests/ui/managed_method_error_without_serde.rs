use pool_runtime::managed;

struct Counter;

struct TooLarge;

#[managed]
impl Counter {
    fn new() -> Self {
        Self
    }

    fn add(&mut self, n: u32) -> Result<u32, TooLarge> {
        Ok(n)
    }
}

fn main() {}
