use pool_runtime::{Result, managed};

struct Counter;

#[managed]
impl Counter {
    fn get(&self) -> u64 {
        0
    }

    #[managed(skip)]
    fn secret(&self) -> u64 {
        1
    }

    fn new() -> Self {
        Self
    }
}

fn ask(counter: &CounterProxy) -> Result<u64> {
    Ok(counter.get()? + counter.secret()?)
}

fn main() {}
