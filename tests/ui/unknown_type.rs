use pool_runtime::task;

#[task]
fn show(point: Piont) -> Piont {
    point
}

fn main() {}
