use pool_runtime::task;

#[task]
fn take(#[state] name: &str) -> usize {
    name.len()
}

fn main() {}
