use pool_runtime::task;

#[task]
fn double(#[cfg(all())] n: u32) -> u32 {
    2 * n
}

fn main() {}
