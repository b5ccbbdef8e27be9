use pool_runtime::task;

#[task]
fn total(xs: impl Iterator<Item = u32>) -> impl ToString {
    xs.sum::<u32>()
}

fn main() {}
