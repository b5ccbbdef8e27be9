use pool_runtime::task;

struct Job;

#[task]
impl Job {
    fn run() {}
}

fn main() {}
