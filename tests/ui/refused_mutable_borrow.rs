use pool_runtime::task;

#[task]
fn push(xs: &mut Vec<u8>) {
    xs.push(1);
}

fn main() {}
