use pool_runtime::task;

#[task]
fn read(at: *const u8, end: Option<*mut u8>) -> bool {
    at.is_null() || end.is_none()
}

fn main() {}
