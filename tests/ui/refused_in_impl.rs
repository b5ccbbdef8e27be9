use pool_runtime::task;

struct Counter;

impl Counter {
    #[task]
    fn count(by: u32) -> u32 {
        by
    }
}

fn main() {}
