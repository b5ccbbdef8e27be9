//! Connections between programs that find each other by an address: Python's `multiprocessing.connection`.
//!
//! A [`Listener`] is bound to an address, a [`Client`] connects to it, and both sides get a [`Connection`], which
//! carries whole messages. Before that, both prove that they have the same [`AuthKey`], without sending it. Messages
//! and proofs are those of CPython, so the other side may be a Python program. The [guide](crate::guide::connection)
//! has the whole picture.
//!
//! ```
//! use pool_runtime::connection::{AuthKey, Client, Listener};
//!
//! # fn main() -> pool_runtime::Result<()> {
//! let key = AuthKey::new("a secret that both programs know");
//! let listener = Listener::builder().authkey(key.clone()).bind("127.0.0.1:0")?;
//! let address = listener.address().clone();
//!
//! let client = std::thread::spawn(move || {
//!     let connection = Client::builder().authkey(key).connect(address)?;
//!     connection.send_bytes(b"hello")?;
//!     connection.recv_bytes()
//! });
//! let connection = listener.accept()?;
//! assert_eq!(connection.recv_bytes()?.as_deref(), Some(&b"hello"[..]));
//! connection.send_bytes(b"and hello to you")?;
//! assert_eq!(client.join().expect("no panic")?.as_deref(), Some(&b"and hello to you"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it has |
//! |---|---|
//! | `address.rs` | [`Address`]: where a listener is |
//! | `listener.rs`, `client.rs` | how connections come about |
//! | `stream.rs` | [`Connection`]: messages over a socket |
//! | `framing.rs` | where a message begins and ends |
//! | `challenge.rs` | the proof of the key, without any socket: messages in, messages out |
//! | `session.rs` | takes a socket through that proof |
//!
//! This module must never trust a peer before it has proved that it has the key, and never wait for one without an end:
//! until then it reads a few hundred bytes in a few seconds, whatever the peer does.

mod address;
mod challenge;
mod client;
mod framing;
mod listener;
mod session;
mod stream;

pub use crate::authkey::AuthKey;
pub use address::Address;
pub use client::{Client, ClientBuilder};
pub use listener::{Listener, ListenerBuilder};
pub use stream::Connection;
