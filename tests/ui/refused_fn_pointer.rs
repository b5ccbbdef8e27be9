use pool_runtime::task;

#[task]
fn apply(f: fn(u8) -> u8) -> u8 {
    f(1)
}

fn main() {}
