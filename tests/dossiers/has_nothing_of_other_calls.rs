//! The file of a lost call has the bytes of its own arguments, and nothing that earlier calls have left in the memory in
//! which they travelled.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::task;

over_every_transport! {
    a_file_has_the_arguments_of_its_call_alone,
}

const LENGTH: usize = 1 << 20;

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn dies(bytes: &[u8]) -> usize {
    std::hint::black_box(bytes);
    std::process::abort()
}

fn a_file_has_the_arguments_of_its_call_alone() {
    let dir = directory();
    let pool = builder().processes(1).dossiers(dir.path()).build().unwrap();
    let secret: Vec<u8> = b"a secret of another call, 32 long".repeat(LENGTH / 32);
    assert_eq!(pool.apply(length::call(&secret)).unwrap(), secret.len());
    // Shorter, and so in the beginning of the same memory.
    let own = b"what belongs to the call that dies".repeat(LENGTH / 80);
    let error = pool.apply(dies::call(&own)).unwrap_err();
    let file = std::fs::read(error.dossier().unwrap().saved().expect("a file")).unwrap();
    let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
    assert!(has(b"what belongs to the call that dies"), "its own arguments");
    assert!(!has(b"a secret of another call"), "those of another call");
    assert!(file.len() < own.len() + (1 << 16), "{} bytes, for an argument of {}", file.len(), own.len());
}
