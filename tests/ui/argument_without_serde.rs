use pool_runtime::task;

struct Point {
    _x: f64,
}

#[task]
fn by_value(point: Point) {
    drop(point);
}

#[task]
fn lent(point: &Point) {
    let _ = point;
}

#[task]
fn in_a_list(points: Vec<Point>, lent: &[Point]) {
    let _ = (points, lent);
}

fn main() {}
