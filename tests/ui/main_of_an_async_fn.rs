async fn run() {}

pool_runtime::pool_main!(run);
