use pool_runtime::task;

#[task]
fn scale(xs: &[f64], by: f64) -> Vec<f64> {
    xs.iter().map(|x| x * by).collect()
}

fn main() {
    let _ = scale::call(&[1.0, 2.0], "twice");
    let _ = scale::call(&[1.0, 2.0]);
}
