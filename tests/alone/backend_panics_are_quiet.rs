//! A panic in a task that runs in this process is a value, and is not printed, as with processes; all others go to the
//! program's hook.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Backend, pool_main, task};
use std::sync::Mutex;
use support::pool_on;

pool_main!();

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[task]
fn panics(text: &str) {
    panic!("{text}");
}

#[task]
fn panics_beside(text: &str) {
    let text = text.to_owned();
    std::thread::spawn(move || panic!("{text}")).join().unwrap_err();
}

#[test]
fn only_the_users_own_panics_reach_the_programs_hook() {
    std::panic::set_hook(Box::new(|hook| {
        let text = hook.payload_as_str().unwrap_or_default().to_owned();
        SEEN.lock().unwrap().push(text);
    }));
    for (name, backend) in [("inline", Backend::Inline), ("threads", Backend::Threads)] {
        let pool = pool_on(backend, 1);
        let error = pool.apply(panics::call(&format!("quiet {name}"))).unwrap_err();
        let panic = error.panic().unwrap();
        assert_eq!(panic.message(), format!("quiet {name}"));
        assert_eq!((panic.file(), panic.line().is_some(), panic.column().is_some()), (Some(file!()), true, true));
        pool.apply(panics_beside::call(&format!("beside {name}"))).unwrap();
        let text = format!("own {name}");
        std::panic::catch_unwind(|| panic!("{text}")).unwrap_err();
    }
    let seen: Vec<_> = std::mem::take(&mut *SEEN.lock().unwrap());
    assert_eq!(seen, ["beside inline", "own inline", "beside threads", "own threads"]);

    // One that is set later gets all, and the place is known all the same.
    std::panic::set_hook(Box::new(|hook| {
        let text = hook.payload_as_str().unwrap_or_default().to_owned();
        SEEN.lock().unwrap().push(format!("later: {text}"));
    }));
    for backend in [Backend::Inline, Backend::Threads] {
        let error = pool_on(backend, 1).apply(panics::call("seen")).unwrap_err();
        assert_eq!(error.panic().unwrap().file(), Some(file!()), "{error}");
    }
    assert_eq!(*SEEN.lock().unwrap(), ["later: seen", "later: seen"]);
}
