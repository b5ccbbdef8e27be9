use pool_runtime::task;

#[task]
fn take(#[state] model: String) -> usize {
    model.len()
}

fn main() {}
