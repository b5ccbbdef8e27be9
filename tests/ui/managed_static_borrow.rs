use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, _words: &'static str) {}
}

fn main() {}
