use pool_runtime::task;

struct Point {
    _x: f64,
}

#[task]
fn origin() -> Point {
    Point { _x: 0.0 }
}

#[task]
fn origins() -> Result<Vec<Point>, String> {
    Ok(vec![])
}

fn main() {}
