use pool_runtime::task;

#[task]
fn add(#[state] sum: &mut u64, n: u64) -> u64 {
    *sum += n;
    *sum
}

fn main() {
    let _ = add::call(1);
    let _ = add::call(&mut 1, 1);
}
