use pool_runtime::managed;

struct Counter;

struct Step;

#[managed]
impl Counter {
    fn step(&self) -> Step {
        Step
    }

    fn new() -> Self {
        Self
    }
}

fn main() {}
