use pool_runtime::managed;

struct Counter;

struct TooLarge;

#[managed]
impl Counter {
    fn new() -> Result<Self, TooLarge> {
        Ok(Self)
    }
}

fn main() {}
