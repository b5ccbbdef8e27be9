#[pool_runtime::main(flavor = "current_thread")]
unsafe extern "C" fn main<T>(arguments: Vec<String>) {
    drop(arguments);
}
