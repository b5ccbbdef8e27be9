//! A task that shuts its worker's sockets down for writing, and goes on, costs that worker: nobody waits for ever.

use crate::support::{over_every_transport, pool, returns};
use pool_runtime::task;

over_every_transport! { the_worker_is_replaced }

#[task]
fn shut_sockets_down() {
    for descriptor in 3..256 {
        // SAFETY: no memory is involved; it fails for what is no socket.
        unsafe { libc::shutdown(descriptor, libc::SHUT_WR) };
    }
    // What it returned would be told to nobody.
    loop {
        std::thread::park();
    }
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn the_worker_is_replaced() {
    let pool = pool(1);
    let (shut, doubled) = returns("a call that shuts sockets down, and one after it", move || {
        (pool.apply(shut_sockets_down::call()), pool.apply(double::call(21)))
    });
    assert!(shut.as_ref().is_err_and(|error| error.is_worker_lost()), "{shut:?}");
    assert_eq!(doubled.unwrap(), 42);
}
