use pool_runtime::task;

#[task(name = "a", name = "b")]
fn double(n: u32) -> u32 {
    2 * n
}

fn main() {}
