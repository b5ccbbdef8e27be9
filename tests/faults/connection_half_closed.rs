//! A task that shuts its worker's sockets down for writing costs that worker, and nobody waits for ever.

use crate::support::{over_every_transport, pool, returns};
use pool_runtime::task;

over_every_transport! { the_worker_is_replaced }

#[task]
fn shut_sockets_down() {
    for descriptor in 3..256 {
        // SAFETY: no memory is involved; it fails for what is no socket.
        unsafe { libc::shutdown(descriptor, libc::SHUT_WR) };
    }
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn the_worker_is_replaced() {
    let pool = pool(1);
    let doubled = returns("a call after it", move || {
        // Its result may have left before.
        let _ = pool.apply(shut_sockets_down::call());
        pool.apply(double::call(21))
    });
    // Or it was sent to the worker while that was being given up.
    let lost = doubled.as_ref().is_err_and(|error| error.is_worker_lost());
    assert!(lost || matches!(doubled, Ok(42)), "{doubled:?}");
}
