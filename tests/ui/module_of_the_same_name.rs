use pool_runtime::task;

mod resize {
    #[pool_runtime::task]
    pub fn resize(n: u32) -> u32 {
        n
    }
}

use resize::resize;

fn main() {
    let _ = resize::call(1);
}
