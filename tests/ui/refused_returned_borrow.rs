use pool_runtime::task;

#[task]
fn first(text: &str) -> &str {
    &text[..1]
}

#[task]
fn maybe() -> Option<&'static str> {
    None
}

fn main() {}
