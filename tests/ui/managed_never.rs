use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn serve(&self) -> ! {
        loop {}
    }
}

fn main() {}
