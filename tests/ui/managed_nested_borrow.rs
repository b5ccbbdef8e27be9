use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, _words: Option<&str>) {}
}

fn main() {}
