use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, words: Option<&str>) {}
}

fn main() {}
