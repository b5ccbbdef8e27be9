//! Starts the library's own threads, and gives room to what should run on a process's first one.

use super::step;
use crate::locks::lock;
use rustix::process::{RawPid, Resource, getpid};
use rustix::thread::gettid;
use std::ffi::{c_int, c_void};
use std::io;
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock};
use std::thread::{self, JoinHandle};

/// The stack of a thread for which `std` would choose the size.
const USUAL: usize = 1 << 21;

/// Of a thread with this name: its stack has `stack` bytes for what runs on it, whatever the program's libraries keep for
/// each thread.
pub(crate) fn thread_builder(name: impl Into<String>, stack: Option<usize>) -> thread::Builder {
    thread::Builder::new().name(name.into()).stack_size(stack.unwrap_or(USUAL) + static_tls())
}

/// Starts a thread: see [`thread_builder`].
pub(crate) fn spawn_thread<T: Send + 'static>(
    name: impl Into<String>,
    stack: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread_builder(name, stack).spawn(work).map_err(|error| step::THREAD.failed(error))
}

/// The threads of this process that only wait for the one that [`with_room`] has started.
static WAITING: Mutex<Vec<RawPid>> = Mutex::new(Vec::new());

pub(super) fn waiting() -> Vec<RawPid> {
    lock(&WAITING).clone()
}

pub(super) fn number_of_this() -> RawPid {
    gettid().as_raw_nonzero().get()
}

/// Runs this with a stack as large as that of a process's first thread: there, or on a thread made for it. A test
/// harness runs its tests on threads with a quarter of that.
pub(crate) fn with_room<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if getpid() == gettid() {
        return work();
    }
    let work = Mutex::new(Some(work));
    let take = || lock(&work).take();
    let run = || take().map(|work| work());
    lock(&WAITING).push(number_of_this());
    let ran = thread::scope(|scope| {
        for size in [main_stack(), LEAST_MAIN] {
            if let Ok(thread) = thread_builder("main", Some(size)).spawn_scoped(scope, run) {
                return thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        }
        None
    });
    lock(&WAITING).retain(|thread| *thread != number_of_this());
    // The system gives no thread: less room is better than none.
    ran.or_else(run).expect("the work was taken where it ran")
}

/// The usual stack of a process's first thread, and the most that is made for one that has no limit.
const LEAST_MAIN: usize = 1 << 23;
const MOST_MAIN: usize = 1 << 30;

/// How large the stack of this process's first thread may grow.
fn main_stack() -> usize {
    let limit = step::limit_of(Resource::Stack).unwrap_or(1 << 26);
    usize::try_from(limit).unwrap_or(MOST_MAIN).clamp(LEAST_MAIN, MOST_MAIN)
}

/// How much of each thread's stack is taken for `thread_local!` constants, by all of the program's libraries.
///
/// glibc takes it from the size that was asked for. musl adds it by itself: there it is counted twice, which costs only
/// addresses.
fn static_tls() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| min_stack().unwrap_or(0).max(tls_segments()))
}

/// As glibc counts it, with what it keeps for libraries that come later.
fn min_stack() -> Option<usize> {
    type MinStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // SAFETY: the name is a C string; the function of that name, which the standard library calls too, has this
    // signature, and does not use the attributes.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr());
        let min_stack = std::mem::transmute::<*mut c_void, Option<MinStack>>(symbol)?;
        let mut attributes = std::mem::zeroed();
        (libc::pthread_attr_init(&raw mut attributes) == 0).then(|| {
            let least = min_stack(&raw const attributes);
            libc::pthread_attr_destroy(&raw mut attributes);
            least
        })
    }
}

/// By the headers of the program and its libraries: a sum that is never too small.
fn tls_segments() -> usize {
    extern "C" fn see(info: *mut libc::dl_phdr_info, _: libc::size_t, sum: *mut c_void) -> c_int {
        // SAFETY: the loader passes the description of an object, and what was handed to it below.
        let (info, sum) = unsafe { (&*info, &mut *sum.cast::<usize>()) };
        for index in 0..info.dlpi_phnum {
            // SAFETY: there are so many headers.
            let header = unsafe { &*info.dlpi_phdr.add(index.into()) };
            if header.p_type == libc::PT_TLS {
                *sum += header.p_memsz as usize + header.p_align as usize;
            }
        }
        0
    }
    let mut sum = 0;
    // SAFETY: the function has the signature that is asked for, and the number outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(see), (&raw mut sum).cast()) };
    sum
}
