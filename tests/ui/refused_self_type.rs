use pool_runtime::task;

struct Counter(u32);

impl Counter {
    #[task]
    fn count(counter: Self) -> Vec<Self> {
        vec![counter]
    }
}

fn main() {}
