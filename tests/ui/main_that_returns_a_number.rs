#[pool_runtime::main]
fn main() -> u32 {
    3
}
