//! A sandbox that asks for more than the kernel has is refused, once and for all, and the error says what is missing;
//! with `best_effort` it does what is left.

use crate::support::{builder, children, over_every_transport, returns};
use pool_runtime::{Pool, Process, Sandbox, task};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};
use std::{net::TcpListener, path::Path};

// They look at the children of this whole process.
over_every_transport! { in_turn:
    without_landlock,
    without_seccomp,
}

/// Does something on a thread from which on there is no such system call, as in an older kernel.
fn on_a_kernel_without<R: Send + 'static>(call: i64, work: impl FnOnce() -> R + Send + 'static) -> R {
    returns("a pool", move || {
        let missing = SeccompAction::Errno(libc::ENOSYS as u32);
        let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
        let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, missing, architecture);
        apply_filter(&filter.and_then(TryInto::<Vec<_>>::try_into).expect("a filter")).expect("a filter");
        work()
    })
}

#[task]
fn try_to(file: &Path, address: &std::net::SocketAddr) -> (bool, bool) {
    (std::fs::File::open(file).is_ok(), std::net::TcpStream::connect(address).is_ok())
}

fn inside(sandbox: Sandbox) -> Result<Pool, String> {
    builder().processes(2).sandbox(sandbox).build().map_err(|error| error.to_string())
}

/// Whether a task could open a file, and whether it could connect.
fn could(sandbox: Sandbox) -> (bool, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = inside(sandbox).expect("a pool");
    pool.apply(try_to::call(Path::new("/etc/passwd"), &listener.local_addr().unwrap())).unwrap()
}

fn is_refused(error: &str, why: &str) {
    let start =
        "the workers cannot start: the worker refuses to work: its sandbox asks for more than this kernel has: ";
    assert!(error.starts_with(start) && error.contains(why) && error.contains("best_effort()"), "{error}");
    assert!(!error.contains("tries"), "it is final: {error}");
    assert_eq!(children(), []);
}

fn without_landlock() {
    let call = libc::SYS_landlock_create_ruleset;
    let error = on_a_kernel_without(call, || inside(Sandbox::strict()).map(drop).unwrap_err());
    is_refused(&error, "no Landlock");
    let process = || Process::idle().sandbox(Sandbox::strict()).start().unwrap().join();
    let error = on_a_kernel_without(call, process).unwrap_err().to_string();
    assert!(error.contains("no Landlock"), "{error}");
    // Where files are allowed, it is to keep workers from the memory of other processes.
    let error = on_a_kernel_without(call, || inside(Sandbox::none().network(false)).map(drop).unwrap_err());
    is_refused(&error, "tracing other processes");
    assert_eq!(on_a_kernel_without(call, || could(Sandbox::none().network(false).best_effort())), (true, false));
    // What denies nothing works.
    assert_eq!(on_a_kernel_without(call, || could(Sandbox::none().memory(1 << 30))), (true, true));
    assert_eq!(on_a_kernel_without(call, || could(Sandbox::strict().best_effort())), (true, false));
    // Where there is all that is asked for, it is done.
    assert_eq!(could(Sandbox::strict().best_effort()), (false, false));
}

fn without_seccomp() {
    let call = libc::SYS_seccomp;
    let error = on_a_kernel_without(call, || inside(Sandbox::strict()).map(drop).unwrap_err());
    is_refused(&error, "no seccomp");
    assert_eq!(on_a_kernel_without(call, || could(Sandbox::strict().best_effort())), (false, true));
    assert_eq!(on_a_kernel_without(call, || could(Sandbox::none().memory(1 << 30))), (true, true));
}
