use pool_runtime::task;

#[derive(serde::Serialize, serde::Deserialize)]
struct Point;

#[task]
pub fn origin() -> Point {
    Point
}

fn main() {}
