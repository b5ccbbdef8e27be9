use pool_runtime::managed;

struct Counter;

trait Add {
    fn add(&mut self);
}

#[managed]
impl Add for Counter {
    fn add(&mut self) {}
}

fn main() {}
