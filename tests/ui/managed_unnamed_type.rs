use pool_runtime::managed;

trait Add {}

#[managed]
impl dyn Add {
    fn get(&self) -> u64 {
        0
    }
}

fn main() {}
