use pool_runtime::managed;

struct Counter;

struct Step;

#[managed]
impl Counter {
    fn step(&self) -> Step {
        Step
    }
}

fn main() {}
