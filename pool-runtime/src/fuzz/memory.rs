//! How much memory a thread has at the most while it does something.
//!
//! All tests of this crate run with it. It only counts, for each thread alone, so that none sees the others.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// How much this thread has, beyond what it had when it was last asked. Less than nothing if it frees what others
    /// had.
    static HAS: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // They have no destructors, so that they can be counted in as long as the thread lives.
    let has = HAS.get() + change;
    HAS.set(has);
    MOST.set(MOST.get().max(has));
}

// SAFETY: all is done by the system's allocator, which keeps what is promised.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as promised to this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as promised to this function.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Does something, and says how much memory it had at the most, beyond what the thread had before.
pub(super) fn most_of<R>(work: impl FnOnce() -> R) -> (R, usize) {
    HAS.set(0);
    MOST.set(0);
    let done = work();
    (done, MOST.get().unsigned_abs())
}

#[test]
fn what_is_had_at_once_is_counted() {
    let (_, none) = most_of(|| 1 + 1);
    let (_, most) = most_of(|| {
        for _ in 0..10 {
            std::hint::black_box(Vec::<u8>::with_capacity(1000));
        }
        let mut kept = Vec::<u8>::with_capacity(50_000);
        kept.reserve_exact(70_000);
        std::hint::black_box(&kept);
    });
    assert_eq!(none, 0);
    assert!((70_000..71_000).contains(&most), "{most}");
}
