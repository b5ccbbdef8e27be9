use pool_runtime::managed;

struct Counter;

struct Step;

#[managed]
impl Counter {
    fn add(&mut self, _step: Step) {}

    fn new() -> Self {
        Self
    }
}

fn main() {}
