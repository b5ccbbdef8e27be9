use pool_runtime::task;

#[task(fast)]
async fn work<T>(a: &mut T, b: Option<&str>) -> &'static str {
    let _ = (a, b);
    "done"
}

fn main() {}
