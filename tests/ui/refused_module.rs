use pool_runtime::task;

#[task]
mod jobs {
    pub fn run() {}
}

fn main() {}
