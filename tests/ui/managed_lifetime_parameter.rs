use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add<'a>(&mut self, _words: &'a str) {}
}

fn main() {}
