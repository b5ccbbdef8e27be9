use pool_runtime::task;

#[task]
fn fine(#[state] f: &Box<dyn for<'a> Fn(&'a str) -> &'a str>, #[allow(unused)] x: u8) -> usize {
    f("x").len()
}

#[task]
fn borrows(#[state] state: &mut Vec<&u8>) {
    state.clear();
}

#[task]
fn long(#[state] state: &'static u8) {
    let _ = state;
}

#[task]
fn options(#[state(mut)] state: &u8) {
    let _ = state;
}

#[task(initializer)]
fn opaque() -> impl Send {
    1
}

fn main() {}
