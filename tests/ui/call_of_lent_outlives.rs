use pool_runtime::{Call, task};

#[task]
fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let call: Call<'_, length> = {
        let text = String::from("gone");
        length::call(&text)
    };
    drop(call);
}
