use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    fn name(&self) -> &str {
        "counter"
    }
}

// The methods stay, so that one mistake gives one message.
fn main() {
    println!("{}", Counter.name());
}
