//! The fault handler: a process that crashes notes how, where it is told to, and then dies of it.
//!
//! ```text
//!   fault ─▶ handler, on a stack of its own ─▶ note: signal, address ─▶ frames, one by one ─▶ the action from before
//!                                                                 └── an alarm ends it if it takes too long
//! ```
//!
//! The process may be in any state, so the handler must not allocate, lock, or wait without a limit. The process dies
//! of the same signal as without the handler. A handler that the program installs later replaces this one.
//!
//! Addresses are noted as distances from an [`anchor`], as the same program has other addresses in another process.

use super::signal::{action, action_of, raise, set_mask, set_of};
use super::stack::stack_pointer;
use crate::os::{CodePlace, Crash, CrashSink};
use rustix::io::writev;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use rustix::stdio::stderr;
use std::ffi::{c_int, c_void};
use std::io::IoSlice;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

impl Crash {
    /// The address that the process should not have touched. None if it did not die of that.
    pub(crate) fn fault_address(&self) -> Option<u64> {
        (self.code > 0 && self.code < 0x80 && matches!(self.signal, libc::SIGSEGV | libc::SIGBUS))
            .then_some(self.address)
    }
}

/// What the handler needs, made before it is installed.
struct Scene {
    sink: Arc<dyn CrashSink>,
    page_size: usize,
    /// A process that this one forks inherits the handler, but must not write its notes.
    pid: c_int,
    main: c_int,
    /// Where the main thread's stack was when this was made: not far from its beginning.
    origin: usize,
    before: [libc::sigaction; SIGNALS.len()],
}

static SCENE: OnceLock<Scene> = OnceLock::new();

/// The thread that is noting a crash.
static NOTING: AtomicI32 = AtomicI32::new(0);
static NOTED: AtomicBool = AtomicBool::new(false);
static DYING_OF: AtomicI32 = AtomicI32::new(libc::SIGABRT);

/// A place in the program from which others are counted.
#[inline(never)]
pub(crate) fn anchor() -> usize {
    anchor as *const () as usize
}

fn ids() -> (c_int, c_int) {
    // SAFETY: both only return a number.
    unsafe { (libc::getpid(), libc::gettid()) }
}

/// Makes this process note its crashes in `sink`, as far as the system lets it. For the main thread, once.
pub(crate) fn install(sink: Arc<dyn CrashSink>) {
    let before = SIGNALS.map(action);
    let (pid, main) = ids();
    let origin = stack_pointer();
    let page_size = rustix::param::page_size();
    if SCENE.set(Scene { sink, page_size, pid, main, origin, before }).is_err() {
        return;
    }
    let _ = take_stack(page_size);
    #[cfg(feature = "dossiers")]
    // The unwinder prepares itself when it is first used.
    // SAFETY: nobody else traces in this process yet.
    unsafe {
        backtrace::trace_unsynchronized(|_| false)
    };
    let action = action_of(on_fault as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK, &SIGNALS);
    for (signal, before) in SIGNALS.into_iter().zip(&before) {
        if signal != libc::SIGABRT || before.sa_sigaction != libc::SIG_IGN {
            // SAFETY: the function has the signature that the flags promise.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
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

/// Gives the handlers of the calling thread a larger stack than the standard library does.
fn take_stack(page_size: usize) -> rustix::io::Result<()> {
    /// Four times what following the frames was seen to take.
    const ROOM: usize = 1 << 16;
    /// The size of the kernel's own frame, which is large where the processor has wide registers.
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    // SAFETY: asks for a number.
    let frame = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
    let (guard, size) = (page_size, (ROOM + frame).next_multiple_of(page_size));
    let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice, which stays for as long as the process.
    unsafe {
        let start = mmap_anonymous(ptr::null_mut(), guard + size, ProtFlags::empty(), flags)?.byte_add(guard);
        mprotect(start, size, MprotectFlags::READ | MprotectFlags::WRITE)?;
        let stack = libc::stack_t { ss_sp: start, ss_flags: 0, ss_size: size };
        libc::sigaltstack(&raw const stack, ptr::null_mut());
    }
    Ok(())
}

/// The next instruction of the thread, and the end of its stack; zeroes on other processors.
fn place(context: &libc::ucontext_t) -> (usize, usize) {
    let registers = &context.uc_mcontext;
    #[cfg(target_arch = "x86_64")]
    return (registers.gregs[libc::REG_RIP as usize] as usize, registers.gregs[libc::REG_RSP as usize] as usize);
    #[cfg(target_arch = "aarch64")]
    return (registers.pc as usize, registers.sp as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return {
        let _ = registers;
        (0, 0)
    };
}

/// Was the guard page of a stack touched? Near the end of a stack in use, all other memory exists. Beyond its beginning
/// there may be none either; for the main thread, `origin` tells the two apart.
fn is_overflow(
    signal: c_int,
    code: c_int,
    address: usize,
    (stack, page_size): (usize, usize),
    origin: Option<usize>,
) -> bool {
    /// Frames of at most this size are entered without touching each of their pages.
    const FRAME: usize = 1 << 16;
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
    let (pid, thread) = ids();
    let (next, stack) = place(context);
    let (code, sent, on_main) = (info.si_code, info.si_code <= 0, thread == scene.main);
    // SAFETY: a fault has an address.
    let address = if sent { 0 } else { unsafe { info.si_addr() }.addr() };
    let overflow = is_overflow(signal, code, address, (stack, scene.page_size), on_main.then_some(scene.origin));
    if pid == scene.pid {
        match NOTING.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let (address, anchor) = (address as u64, anchor() as u64);
                scene.sink.note(&Crash { signal, code, address, overflow, on_main, anchor, frames: Vec::new() });
                // Writing to standard error may take without an end too, if nobody reads it.
                with_alarm(signal, || {
                    if overflow {
                        report_overflow(on_main);
                    }
                    note_frames(&*scene.sink, next, stack, !sent && address == next as u64);
                });
                NOTED.store(true, Ordering::Release);
            }
            // It has crashed while it noted this.
            Err(noting) if noting == thread => {}
            // The process is about to end; if it does not, this thread ends it.
            Err(_) => wait_until_noted(),
        }
    }
    pass_on(scene, signal, sent, overflow);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// The action from before gets the signal when the handler returns: a fault comes again by itself.
fn pass_on(scene: &Scene, signal: c_int, sent: bool, overflow: bool) {
    let memory = signal == libc::SIGSEGV || signal == libc::SIGBUS;
    let before = SIGNALS.iter().zip(&scene.before).find(|(number, _)| **number == signal);
    // The standard library's handler turns an overflow into an abort, and survives a signal that was sent.
    let before = before.filter(|_| !(overflow || sent && memory));
    let action = before.map_or_else(|| action_of(libc::SIG_DFL, 0, &[]), |(_, action)| *action);
    let (pid, thread) = ids();
    // SAFETY: the action is one that was in place, or the default; numbers otherwise.
    unsafe {
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        if sent {
            libc::syscall(libc::SYS_tgkill, pid, thread, signal);
        }
    }
}

fn wait_until_noted() {
    let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..3000 {
        if NOTED.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the time is valid; what is left of it is not asked for.
        unsafe { libc::nanosleep(&raw const millisecond, ptr::null_mut()) };
    }
}

/// Is there enough stack to follow the frames? The standard library gives its threads little for their handlers.
fn has_room() -> bool {
    let mut stack = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: only asks for the stack that the thread's handlers have.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    stack.ss_flags & libc::SS_ONSTACK == 0 || stack.ss_size >= 48 << 10
}

fn with_alarm(signal: c_int, work: impl FnOnce()) {
    extern "C" fn on_alarm(_: c_int) {
        let signal = DYING_OF.load(Ordering::Relaxed);
        // SAFETY: both may be called in a handler.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            set_mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
            raise(signal);
        }
    }
    /// In seconds. It takes milliseconds on a machine that is overloaded.
    const LIMIT: u32 = 3;
    DYING_OF.store(signal, Ordering::Relaxed);
    let action = action_of(on_alarm as *const () as usize, 0, &[]);
    let mut before = action_of(libc::SIG_DFL, 0, &[]);
    // SAFETY: as above; the mask of the thread is that of the handler, and is restored when it returns.
    unsafe {
        libc::sigaction(libc::SIGALRM, &raw const action, &raw mut before);
        set_mask(libc::SIG_UNBLOCK, &set_of(&[libc::SIGALRM]));
        libc::alarm(LIMIT);
        work();
        libc::alarm(0);
        libc::sigaction(libc::SIGALRM, &raw const before, ptr::null_mut());
    }
}

/// Notes where the thread was, and who called it. The unwinder finds nothing for a `lost` thread: it has called an
/// address without a function, and the stack has the return address.
fn note_frames(sink: &dyn CrashSink, next: usize, stack: usize, lost: bool) {
    let anchor = anchor() as u64;
    let note = |address: usize| sink.note_frame((address as u64).wrapping_sub(anchor));
    note(next);
    if !has_room() {
        return;
    }
    if lost && cfg!(target_arch = "x86_64") && stack != 0 {
        // SAFETY: none is needed: without memory there, the process dies of that instead.
        note(unsafe { ptr::with_exposed_provenance::<usize>(stack).read_volatile() });
    }
    #[cfg(feature = "dossiers")]
    if !lost {
        follow_frames(next, note);
    }
}

/// Notes the frames around `next`, from the inside out.
#[cfg(feature = "dossiers")]
fn follow_frames(next: usize, note: impl Fn(usize) -> bool) {
    let mut found = false;
    // SAFETY: the frames of this thread are its own; nothing is locked or allocated to follow them.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip().addr();
            let is_behind = found;
            found |= address == next;
            !is_behind || note(address)
        });
    }
}

/// Prints what the standard library would have printed.
fn report_overflow(on_main: bool) {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes a name of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = if on_main { &b"main"[..] } else { name.split(|byte| *byte == 0).next().unwrap_or_default() };
    let text = [&b"\nthread '"[..], name, b"' has overflowed its stack\n"];
    let _ = writev(stderr(), &text.map(IoSlice::new));
}

/// Where the program's code is, and where its file begins.
struct ProgramCode {
    base: usize,
    ranges: Vec<Range<usize>>,
}

fn code() -> &'static ProgramCode {
    extern "C" fn see(info: *mut libc::dl_phdr_info, _: libc::size_t, found: *mut c_void) -> c_int {
        // SAFETY: the loader passes the description of an object, and what was handed to it below.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<ProgramCode>()) };
        found.base = info.dlpi_addr as usize;
        for index in 0..info.dlpi_phnum {
            // SAFETY: there are so many headers.
            let header = unsafe { &*info.dlpi_phdr.add(index.into()) };
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                let start = (info.dlpi_addr + header.p_vaddr) as usize;
                found.ranges.push(start..start + header.p_memsz as usize);
            }
        }
        // The first object is the program.
        1
    }
    static CODE: OnceLock<ProgramCode> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut found = ProgramCode { base: 0, ranges: Vec::new() };
        // SAFETY: the function has the signature that is asked for, and what it fills outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(see), (&raw mut found).cast()) };
        found
    })
}

/// Where a frame that another process of this program has noted lies in this one. None outside of the program itself.
pub(crate) fn place_of(frame: u64) -> Option<CodePlace> {
    let (address, code) = ((anchor() as u64).wrapping_add(frame) as usize, code());
    let found = code.ranges.iter().any(|range| range.contains(&address));
    found.then(|| CodePlace { address, in_file: address.wrapping_sub(code.base) })
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
    fn the_stack_is_where_the_system_has_made_it() {
        std::thread::spawn(|| {
            // SAFETY: all zeroes is a value of attributes, which the next call fills for the calling thread.
            let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
            let (mut start, mut size) = (ptr::null_mut(), 0);
            // SAFETY: the pointers lead to values of the right types.
            unsafe {
                assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes), 0);
                assert_eq!(libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size), 0);
                libc::pthread_attr_destroy(&raw mut attributes);
            }
            assert!((start.addr()..start.addr() + size).contains(&stack_pointer()));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn only_this_program_has_places() {
        assert_eq!(place_of(0).map(|place| place.address), Some(anchor()));
        let function = (only_this_program_has_places as fn()) as usize as u64;
        assert!(place_of(function.wrapping_sub(anchor() as u64)).is_some());
        let library = (libc::getpid as *const ()).addr() as u64;
        // A static program has the library in it.
        let library = if cfg!(target_feature = "crt-static") { 0 } else { library };
        for outside in [library, 0, 8, u64::MAX] {
            assert!(place_of(outside.wrapping_sub(anchor() as u64)).is_none());
        }
    }
}
