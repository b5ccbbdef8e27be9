//! Workers that are no processes: the program's own threads run the calls, for tests and debuggers.
//!
//! ```text
//!   Threads, Faults     attendant ══ local queues ══▶ a thread: receive ─▶ Duty ─▶ report …      (thread.rs)
//!                                                                 └─ draws what goes wrong       (faults.rs)
//!   Inline              whoever submits ─▶ frame ─▶ Duty ─▶ record ─▶ the job, at once           (inline.rs)
//! ```
//!
//! What runs the calls is the very [`Duty`](crate::worker::Duty) of a worker process: it is given frames, claims each
//! call on a page, and writes records. Nothing of the calls takes another way than with processes, so what cannot
//! travel fails here, too.
//!
//! It stands between the worker and the pool, as `spawn.rs` does for processes: the pool knows what is here, and
//! nothing here knows the pool.

mod autopsy;
pub(crate) mod faults;
mod handshake;
mod inline;
pub(crate) mod relay;
mod spawn;
mod thread;

pub(crate) use inline::Inline;
/// Worker processes: [started](spawn), [greeted](handshake) and [examined](autopsy).
pub(crate) mod launch {
    pub(crate) use super::{
        autopsy::LAST_BREATH,
        handshake::hello,
        spawn::{Launch, Launched, START_TIMEOUT},
    };
}

pub(crate) use thread::{Hired, Thread};
