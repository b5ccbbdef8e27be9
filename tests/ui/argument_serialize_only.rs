use pool_runtime::task;

#[derive(serde::Serialize)]
struct Point {
    x: f64,
}

#[task]
fn norm(point: Point) -> f64 {
    point.x
}

fn main() {}
