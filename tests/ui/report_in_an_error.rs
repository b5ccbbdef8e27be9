use pool_runtime::Report;

#[derive(Debug)]
struct Outer(Report);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Outer {}

fn convert(outer: Outer) -> Result<(), Report> {
    Err(outer)?
}

fn main() {}
