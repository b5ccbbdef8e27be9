use pool_runtime::task;

#[task(nmae = "double", tiemout = 3, initializer)]
fn double(n: u32) -> u32 {
    2 * n
}

fn main() {}
