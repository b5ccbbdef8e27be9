use pool_runtime::task;

#[task]
fn sum<const N: usize>(xs: [u8; N]) -> usize {
    xs.len()
}

fn main() {}
