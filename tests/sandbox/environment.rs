//! In the strictest sandbox, a worker gets few of this program's environment variables, and all that it is given.

use crate::support::{VARIABLE, builder, over_every_transport};
use pool_runtime::{PoolBuilder, Process, Sandbox, task};
use std::collections::BTreeSet;

over_every_transport! {
    secrets_stay_here,
    all_of_it_can_be_inherited,
    what_is_given_is_added,
}

#[task]
fn names() -> BTreeSet<String> {
    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
}

fn own() -> BTreeSet<String> {
    let own: BTreeSet<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    assert!(own.iter().any(|name| !is_ordinary(name)), "cargo sets many: {own:?}");
    own
}

fn is_ordinary(name: &str) -> bool {
    ["PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD"].contains(&name)
        || name.starts_with("LC_")
        || name.starts_with("RUST_")
}

fn of_worker(builder: PoolBuilder) -> BTreeSet<String> {
    let mut names = builder.processes(1).build().unwrap().apply(names::call()).unwrap();
    assert!(names.remove(VARIABLE), "the pool sets it");
    names
}

fn secrets_stay_here() {
    let got = of_worker(builder().sandbox(Sandbox::strict().read("/")));
    assert!(got.iter().all(|name| is_ordinary(name)), "{got:?}");
    let mut expected = own().into_iter().filter(|name| is_ordinary(name) && !name.starts_with("RUST_"));
    assert!(expected.all(|name| got.contains(&name)), "{got:?}");
    assert!(got.contains("PATH"), "{got:?}");
    let process = Process::new(names::call()).sandbox(Sandbox::strict()).start().unwrap().join().unwrap();
    assert!(process.iter().all(|name| is_ordinary(name)), "{process:?}");
}

fn all_of_it_can_be_inherited() {
    for sandbox in [Sandbox::strict().inherit_env(true), Sandbox::none().network(false)] {
        let got = of_worker(builder().sandbox(sandbox));
        assert!(got.is_superset(&own()), "{got:?}");
    }
}

fn what_is_given_is_added() {
    let given = builder().sandbox(Sandbox::strict()).env("GIVEN", "1").env_remove("PATH");
    let got = of_worker(given);
    assert!(got.contains("GIVEN") && !got.contains("PATH"), "{got:?}");
}
