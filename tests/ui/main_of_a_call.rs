mod program {
    pub fn run() {}
}

pool_runtime::pool_main!(program::run());
