use pool_runtime::task;

#[task(initializer)]
fn open(#[state] model: &mut String) -> String {
    model.clone()
}

fn main() {}
