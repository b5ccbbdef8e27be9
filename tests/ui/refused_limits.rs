use pool_runtime::task;

#[task(timeout = 30)]
fn without_unit() {}

#[task(timeout = "soon", memory = "512", retries = -1)]
fn without_sense() {}

#[task(timeout = "0s", memory = "0MiB")]
fn without_anything() {}

#[task(timeout = "20s", soft_timeout = "30s")]
fn killed_before_it_is_told() {}

#[task(initializer, memory = "1GiB", retries = 2)]
fn initializes() {}

#[task(timeout)]
fn without_value() {}

fn main() {}
