use pool_runtime::task;

#[task]
fn both(#[state] a: &mut u8, #[state] b: &mut u8) {
    *a += *b;
}

fn main() {}
