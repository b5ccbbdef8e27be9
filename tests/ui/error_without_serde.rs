use pool_runtime::task;

struct Foreign;

#[task]
fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
    text.parse()
}

#[task]
fn fail() -> Result<(), Foreign> {
    Err(Foreign)
}

#[task]
fn boxed() -> Result<(), Box<dyn std::fmt::Debug>> {
    Ok(())
}

fn main() {}
