use pool_runtime::managed;

struct Counter<T>(T);

#[managed]
impl<T> Counter<T> {
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
