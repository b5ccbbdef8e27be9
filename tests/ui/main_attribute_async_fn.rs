async fn program() {}

/// The program.
#[pool_runtime::main]
#[allow(clippy::needless_return)]
async fn main() {
    program().await;
}
