use pool_runtime::managed;

struct Counter;

struct TooLarge;

type Result<T> = std::result::Result<T, TooLarge>;

#[managed]
impl Counter {
    fn new() -> Result<Self> {
        Ok(Self)
    }
}

fn main() {}
