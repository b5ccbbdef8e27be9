use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn fill(&self, _numbers: &mut Vec<u64>) {}
}

fn main() {}
