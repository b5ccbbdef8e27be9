use pool_runtime::task;

#[task]
fn length<'a>(text: &'a str) -> usize {
    text.len()
}

fn main() {}
