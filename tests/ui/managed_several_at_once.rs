use pool_runtime::managed;

struct Counter;

#[managed]
impl Counter {
    async fn get(&self) -> &str {
        ""
    }

    fn add<T>(self, _words: Option<&str>) {}
}

fn main() {}
