use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn add(&mut self, #[cfg(unix)] _n: u64) {}
}

fn main() {}
