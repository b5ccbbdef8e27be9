//! Where the calling thread's stack lies: what reads values of another process stops before it overflows that.

use super::step;
use rustix::process::Resource;
use std::cell::Cell;
use std::ops::Range;

/// What a stack without a limit is taken for.
const MOST: usize = 1 << 30;

/// From where the stack ends to where it begins, as it grows downwards. Equal: the system does not tell.
#[derive(Clone, Copy)]
struct StackPlace {
    end: usize,
    begin: usize,
}

thread_local! {
    static PLACE: Cell<Option<StackPlace>> = const { Cell::new(None) };
}

/// Where on its stack the calling thread is. The address of a variable does not tell: under a sanitizer, variables may be
/// elsewhere.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: copies a register, which is the same in all of a function.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) pointer, options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: copies a register, which is the same in all of a function.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov {}, sp", out(reg) pointer, options(pure, nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let here = 0_u8;
        pointer = (&raw const here).addr();
    }
    pointer
}

/// The addresses of the calling thread's stack, without what guards its end. None: the thread runs on other memory, as
/// libraries give it to their fibers, or the system does not tell.
pub(crate) fn stack() -> Option<Range<usize>> {
    let place = PLACE.get().unwrap_or_else(|| {
        let place = find();
        PLACE.set(Some(place));
        place
    });
    (place.end..place.begin).contains(&stack_pointer()).then_some(place.end..place.begin)
}

/// Has [`stack`] look again: the limit of the first thread's stack may have changed.
pub(crate) fn forget_stack() {
    PLACE.set(None);
}

fn find() -> StackPlace {
    let here = stack_pointer();
    let holds = |place: &StackPlace| (place.end..place.begin).contains(&here);
    // A process that a thread has forked has that thread's stack, and another first one.
    let is_first = rustix::process::getpid() == rustix::thread::gettid();
    let first = is_first.then(of_first_thread).flatten();
    first.filter(holds).or_else(as_the_library_says).or(first).unwrap_or(StackPlace { end: 0, begin: 0 })
}

/// The C library would read `/proc` for this, which a sandbox may deny.
fn of_first_thread() -> Option<StackPlace> {
    // SAFETY: asks for a number.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    // The kernel puts the program's name where the stack begins.
    let begin = name.checked_next_multiple_of(rustix::param::page_size()).filter(|_| name != 0)?;
    let limit = step::limit_of(Resource::Stack).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MOST);
    Some(StackPlace { end: begin.saturating_sub(limit), begin })
}

fn as_the_library_says() -> Option<StackPlace> {
    let (mut start, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: the attributes are filled in for the calling thread, read, and destroyed; the other pointers are those of
    // variables.
    let told = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) == 0 && {
            let told = libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size) == 0
                && libc::pthread_attr_getguardsize(&raw const attributes, &raw mut guard) == 0;
            libc::pthread_attr_destroy(&raw mut attributes);
            told
        }
    };
    // Older libraries count the guard as a part of the stack.
    let end = start.addr().checked_add(guard.min(size / 8))?;
    told.then(|| StackPlace { end, begin: start.addr().saturating_add(size) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn room() -> usize {
        stack_pointer() - stack().expect("this thread has a stack").start
    }

    #[inline(never)]
    fn deeper(by: usize) -> usize {
        let mut frame = [0_u8; 1 << 12];
        std::hint::black_box(&mut frame);
        if by < frame.len() { room() } else { deeper(by - frame.len()) }
    }

    #[test]
    fn a_thread_knows_how_much_of_its_stack_is_left() {
        for size in [1 << 17, 1 << 21, 1 << 24] {
            let [before, after] = thread::Builder::new()
                .stack_size(size)
                .spawn(move || [room(), deeper(size / 2)])
                .unwrap()
                .join()
                .unwrap();
            // What the C library keeps for a thread is at its beginning.
            assert!(before > size / 2 && before <= size + (1 << 16), "{before} of {size}");
            // A sanitizer keeps variables elsewhere.
            assert!(before > after, "{before} of {size}, then {after}");
        }
    }

    /// As in a process without `/proc`: nothing is asked but the limit.
    #[test]
    fn the_first_thread_has_as_much_as_its_limit_says() {
        let place = of_first_thread().expect("the kernel tells the program's name");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let [_, begin] = maps
            .lines()
            .find(|line| line.ends_with("[stack]"))
            .and_then(|line| line.split(' ').next())
            .map(|range| [0, 1].map(|n| usize::from_str_radix(range.split('-').nth(n).unwrap(), 16).unwrap()))
            .expect("it has a stack");
        assert!(place.begin.abs_diff(begin) <= 2 * rustix::param::page_size(), "{:x} and {begin:x}", place.begin);
        let limit = step::limit_of(Resource::Stack).map_or(MOST, |limit| limit as usize);
        assert_eq!(place.end, place.begin.saturating_sub(limit));
    }
}
