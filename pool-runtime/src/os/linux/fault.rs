//! The fault handler: a process that crashes notes how, where it is told to, and then dies of it.
//!
//! ```text
//!   fault ─▶ handler, on a stack of its own ─▶ note: signal, address ─▶ frames, one by one ─▶ the action from before
//!                                                                 └── an alarm ends it if it takes too long
//! ```
//!
//! Whatever state the process is in, nothing here may allocate, lock, or wait for a thread without an end. The process
//! dies of the signal that it would have died of: what was in place before gets it, or the system. A handler that the
//! program installs later replaces this one.
//!
//! Addresses are noted as distances from an [`anchor`], as the same program lies elsewhere in another process.

use crate::os::{Crash, CrashSink};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

/// What programs crash with.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// How much stack it takes to follow the frames, with some to spare: a quarter of it has been seen.
const ROOM: usize = 1 << 16;
/// Less is not tried.
const LEAST_ROOM: usize = 48 << 10;

impl Crash {
    /// The address that the process should not have touched, if that is what it died of. Of a signal that was sent, or
    /// of one for another reason, there is none.
    pub(crate) fn fault_address(&self) -> Option<u64> {
        (self.code > 0 && self.code < 0x80 && matches!(self.signal, libc::SIGSEGV | libc::SIGBUS))
            .then_some(self.address)
    }
}

/// What the handler needs, made before it is installed.
struct Scene {
    sink: Arc<dyn CrashSink>,
    page_size: usize,
    /// A process that this one forks has the handler, but its notes are nobody's.
    pid: c_int,
    main: c_int,
    /// Where the main thread's stack was when this was made: not far from its beginning.
    origin: usize,
    before: [libc::sigaction; SIGNALS.len()],
}

static SCENE: OnceLock<Scene> = OnceLock::new();

/// The thread that is noting a crash.
static AT_IT: AtomicI32 = AtomicI32::new(0);
static NOTED: AtomicBool = AtomicBool::new(false);
/// What the alarm ends the process with.
static DYING_OF: AtomicI32 = AtomicI32::new(libc::SIGABRT);

/// A place in the program from which others are counted.
#[inline(never)]
fn anchor() -> usize {
    anchor as *const () as usize
}

/// Has this process note its crashes in `sink`. To be called on its main thread, once; if the system refuses something,
/// crashes are as they are without it.
pub(crate) fn install(sink: Arc<dyn CrashSink>) {
    // SAFETY: no handler is asked to be installed; all zeroes is a value.
    let before = SIGNALS.map(|signal| unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    });
    // SAFETY: both only return a number.
    let (pid, main) = unsafe { (libc::getpid(), libc::gettid()) };
    let origin = (&raw const pid).addr();
    let page_size = rustix::param::page_size();
    if SCENE.set(Scene { sink, page_size, pid, main, origin, before }).is_err() {
        return;
    }
    take_stack(page_size);
    // The unwinder prepares itself when it is first used.
    // SAFETY: nobody else traces in this process yet.
    unsafe { backtrace::trace_unsynchronized(|_| false) };
    for (signal, before) in SIGNALS.iter().zip(&before) {
        if *signal == libc::SIGABRT && before.sa_sigaction == libc::SIG_IGN {
            continue;
        }
        // SAFETY: the action is initialised, and its function has the signature that its flags promise.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            SIGNALS.iter().for_each(|blocked| {
                libc::sigaddset(&raw mut action.sa_mask, *blocked);
            });
            libc::sigaction(*signal, &raw const action, ptr::null_mut());
        }
    }
}

/// No handler, not even that of the standard library: a crash leaves the stack as it was.
pub(crate) fn leave_to_system() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action is always allowed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Gives the calling thread a larger stack for its handlers than the standard library has given it.
fn take_stack(page_size: usize) {
    /// The kernel's frame on it can be large where the processor has wide registers.
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    // SAFETY: asks for a number.
    let frame = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
    let (guard, size) = (page_size, (ROOM + frame).next_multiple_of(page_size));
    // SAFETY: a new mapping at an address of the kernel's choice, which stays for as long as the process.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let memory = libc::mmap(ptr::null_mut(), guard + size, libc::PROT_NONE, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return;
        }
        let start = memory.byte_add(guard);
        if libc::mprotect(start, size, libc::PROT_READ | libc::PROT_WRITE) == 0 {
            let stack = libc::stack_t { ss_sp: start, ss_flags: 0, ss_size: size };
            libc::sigaltstack(&raw const stack, ptr::null_mut());
        }
    }
}

/// Where the thread was: its next instruction, the end of its stack, and where its function was called from, if that
/// can be told without a look at memory.
fn place(context: &libc::ucontext_t) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    let place = {
        let register = |index: c_int| context.uc_mcontext.gregs[index as usize] as usize;
        (register(libc::REG_RIP), register(libc::REG_RSP))
    };
    #[cfg(target_arch = "aarch64")]
    let place = (context.uc_mcontext.pc as usize, context.uc_mcontext.sp as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let place = {
        let _ = context;
        (0, 0)
    };
    place
}

/// Was it the guard behind a stack that was touched? Memory close to the end of a stack in use is there otherwise: a
/// function reaches for its own frame, or, when it is called, for what is just below. Behind the other end of a stack,
/// there is nothing either: of the main thread, that is told apart by where its stack began.
fn is_overflow(
    signal: c_int,
    code: c_int,
    address: usize,
    (stack, page_size): (usize, usize),
    origin: Option<usize>,
) -> bool {
    /// Frames of this size and less are taken without a look at each of their pages.
    const FRAME: usize = 1 << 16;
    /// No stack is as short.
    const SHORTEST: usize = 1 << 15;
    let (no_memory, no_right) = (1, 2);
    let above = if origin.is_some() { FRAME } else { page_size };
    signal == libc::SIGSEGV
        && (code == no_memory || code == no_right)
        && stack != 0
        && origin.is_none_or(|origin| address.saturating_add(SHORTEST) < origin)
        && address.wrapping_sub(stack.wrapping_sub(page_size)) < page_size + above
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes both, and they live as long as the handler runs.
    let (info, context) = unsafe { (&*info, &*context.cast::<libc::ucontext_t>()) };
    let Some(scene) = SCENE.get() else { return };
    // SAFETY: the thread's own number for errors, which is put back below.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: both only return a number.
    let (pid, thread) = unsafe { (libc::getpid(), libc::gettid()) };
    let (next, stack) = place(context);
    let sent = info.si_code <= 0;
    // SAFETY: of a fault, there is an address.
    let address = if sent { 0 } else { unsafe { info.si_addr() }.addr() };
    let overflow = is_overflow(
        signal,
        info.si_code,
        address,
        (stack, scene.page_size),
        (thread == scene.main).then_some(scene.origin),
    );
    if pid == scene.pid {
        match AT_IT.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let crash = Crash {
                    signal,
                    code: info.si_code,
                    address: address as u64,
                    overflow,
                    on_main: thread == scene.main,
                    anchor: anchor() as u64,
                    frames: Vec::new(),
                };
                scene.sink.note(&crash);
                // Nobody may read what standard error leads to, and then that takes without an end, too.
                with_alarm(signal, || {
                    if overflow {
                        say_overflow(thread == scene.main);
                    }
                    if has_room() {
                        let lost = !sent && address == next;
                        note_frames(&*scene.sink, next, stack, lost);
                    } else {
                        scene.sink.note_frame((next as u64).wrapping_sub(anchor() as u64));
                    }
                });
                NOTED.store(true, Ordering::Release);
            }
            // It has crashed while it noted this.
            Err(at_it) if at_it == thread => {}
            // The process is about to end; if it does not, this thread ends it.
            Err(_) => wait_until_noted(),
        }
    }
    pass_on(scene, signal, sent, overflow, pid, thread);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// What was in place before gets the signal when the handler returns: a fault comes again by itself.
fn pass_on(scene: &Scene, signal: c_int, sent: bool, overflow: bool, pid: c_int, thread: c_int) {
    let memory = signal == libc::SIGSEGV || signal == libc::SIGBUS;
    let before = SIGNALS.iter().zip(&scene.before).find(|(number, _)| **number == signal);
    // The standard library's handler makes an abort of an overflow, and lets a process live that was sent the signal.
    let before = before.filter(|_| !(overflow || sent && memory));
    // SAFETY: the action is one that was in place, or all zeroes, which is the default; numbers otherwise.
    unsafe {
        let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(
            signal,
            before.map_or(&raw const default, |(_, action)| ptr::from_ref(action)),
            ptr::null_mut(),
        );
        if sent {
            libc::syscall(libc::SYS_tgkill, pid, thread, signal);
        }
    }
}

fn wait_until_noted() {
    for _ in 0..3000 {
        if NOTED.load(Ordering::Acquire) {
            return;
        }
        let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the time is valid; what is left of it is not asked for.
        unsafe { libc::nanosleep(&raw const millisecond, ptr::null_mut()) };
    }
}

/// Is there enough stack to follow the frames? The threads of the standard library have little for their handlers.
fn has_room() -> bool {
    let mut stack = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: only asks for the stack that the thread's handlers have.
    let stack = unsafe {
        libc::sigaltstack(ptr::null(), stack.as_mut_ptr());
        stack.assume_init()
    };
    stack.ss_flags & libc::SS_ONSTACK == 0 || stack.ss_size >= LEAST_ROOM
}

/// Ends the process if `work` does not.
fn with_alarm(signal: c_int, work: impl FnOnce()) {
    extern "C" fn on_alarm(_: c_int) {
        let signal = DYING_OF.load(Ordering::Relaxed);
        // SAFETY: all of these may be called in a handler; the set is initialised before it is used.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            libc::raise(signal);
        }
    }
    /// In seconds. It takes milliseconds on a machine that is overloaded.
    const LONG: u32 = 3;
    DYING_OF.store(signal, Ordering::Relaxed);
    // SAFETY: as above; the mask of the thread is that of the handler, and is restored when it returns.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_alarm as *const () as usize;
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        libc::sigaction(libc::SIGALRM, &raw const action, before.as_mut_ptr());
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        libc::alarm(LONG);
        work();
        libc::alarm(0);
        libc::sigaction(libc::SIGALRM, before.as_ptr(), ptr::null_mut());
    }
}

/// Notes where the thread was, and how it got there. `lost` is a thread that has called what is no function: there the
/// unwinder finds nothing, and would look for it.
fn note_frames(sink: &dyn CrashSink, next: usize, stack: usize, lost: bool) {
    let anchor = anchor() as u64;
    let note = |address: usize| sink.note_frame((address as u64).wrapping_sub(anchor));
    note(next);
    if lost {
        // What the caller has left on the stack says who it was.
        #[cfg(target_arch = "x86_64")]
        if stack != 0 {
            // SAFETY: none is needed: if nothing is there, the process dies of that in place of what it dies of anyway.
            note(unsafe { ptr::with_exposed_provenance::<usize>(stack).read_volatile() });
        }
        return;
    }
    let mut found = false;
    // SAFETY: the frames of this thread are its own; nothing is locked or allocated to follow them.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip().addr();
            // Before that, there is the handler itself.
            let is_behind = found;
            found |= address == next;
            !is_behind || note(address)
        });
    }
}

/// Says what the standard library would have said.
fn say_overflow(on_main: bool) {
    let mut text = [0_u8; 80];
    let mut length = 0;
    let mut push = |bytes: &[u8]| {
        for byte in bytes.iter().take_while(|byte| **byte != 0) {
            if let Some(place) = text.get_mut(length) {
                *place = *byte;
                length += 1;
            }
        }
    };
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes a name of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    push(b"\nthread '");
    push(if on_main { b"main" } else { &name });
    push(b"' has overflowed its stack\n");
    // SAFETY: the bytes are those of the text; if nobody takes them, nobody reads them.
    unsafe { libc::write(2, text.as_ptr().cast(), length) };
}

/// Where this program has code, in this process.
fn code() -> &'static [std::ops::Range<usize>] {
    extern "C" fn see(info: *mut libc::dl_phdr_info, _: libc::size_t, found: *mut c_void) -> c_int {
        // SAFETY: the loader passes the description of an object, and what was handed to it below.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<std::ops::Range<usize>>>()) };
        for index in 0..info.dlpi_phnum {
            // SAFETY: there are so many headers.
            let header = unsafe { &*info.dlpi_phdr.add(index.into()) };
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                let start = (info.dlpi_addr + header.p_vaddr) as usize;
                found.push(start..start + header.p_memsz as usize);
            }
        }
        // The first object is the program.
        1
    }
    static CODE: OnceLock<Vec<std::ops::Range<usize>>> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut found = Vec::new();
        // SAFETY: the function has the signature that is asked for, and the vector outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(see), (&raw mut found).cast()) };
        found
    })
}

/// The address, if it lies in the code of this program.
fn here(address: usize) -> Option<usize> {
    code().iter().any(|code| code.contains(&address)).then_some(address)
}

/// Where a frame that another process of this program has noted lies in this one. None outside of the program itself.
pub(crate) fn place_of(frame: u64) -> Option<usize> {
    here((anchor() as u64).wrapping_add(frame) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_is_told_from_other_faults() {
        let stack = 0x7000_0000;
        let main = Some(stack + (8 << 20));
        let is = |signal, code, address, origin| is_overflow(signal, code, address, (stack, 4096), origin);
        for origin in [main, None] {
            for address in [stack - 8, stack, stack + 4095, stack - 4096] {
                assert!(is(libc::SIGSEGV, 1, address, origin));
                assert!(!is(libc::SIGBUS, 1, address, origin));
                assert!(!is(libc::SIGSEGV, 128, address, origin));
            }
            for address in [0, 8, stack - 4097, stack + (1 << 17), usize::MAX] {
                assert!(!is(libc::SIGSEGV, 1, address, origin));
            }
        }
        // A large frame; of other threads, nobody knows where their stacks end.
        assert!(is(libc::SIGSEGV, 1, stack + 5000, main));
        assert!(!is(libc::SIGSEGV, 1, stack + 5000, None));
    }

    #[test]
    fn behind_the_beginning_of_a_stack_is_no_overflow() {
        let stack = 0x7000_0000;
        let origin = Some(stack + 2000);
        for address in [stack, stack + 1000, stack + 4096, stack + 50_000] {
            assert!(!is_overflow(libc::SIGSEGV, 1, address, (stack, 4096), origin));
        }
    }

    #[test]
    fn only_this_program_has_places() {
        assert_eq!(place_of(0), Some(anchor()));
        let function = (only_this_program_has_places as fn()) as usize as u64;
        assert!(place_of(function.wrapping_sub(anchor() as u64)).is_some());
        let library = (libc::getpid as *const ()).addr() as u64;
        // A static program has the library in it.
        let library = if cfg!(target_feature = "crt-static") { 0 } else { library };
        for outside in [library, 0, 8, u64::MAX] {
            assert_eq!(place_of(outside.wrapping_sub(anchor() as u64)), None);
        }
    }
}
