use pool_runtime::task;

#[task]
fn first<T>(xs: &[T]) -> usize {
    xs.len()
}

fn main() {}
