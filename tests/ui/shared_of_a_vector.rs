//! A `Shared` is of a slice or of a string, not of what has kept them.

use pool_runtime::{Shared, task};

#[task]
fn sum(numbers: Shared<Vec<f64>>) -> f64 {
    numbers.iter().sum()
}

fn main() {
    let _: Shared<String> = Shared::new("text".to_string()).unwrap();
    let _ = Shared::new(5);
}
