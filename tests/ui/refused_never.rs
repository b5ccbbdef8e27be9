use pool_runtime::task;

#[task]
fn forever() -> ! {
    loop {}
}

fn main() {}
