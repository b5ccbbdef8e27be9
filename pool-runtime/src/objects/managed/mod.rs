//! Managed objects: they live in a server process, and others call their methods through proxies.
//!
//! ```text
//!   client process                                    │  server process
//!   proxy ──▶ ObjectRef ──▶ Host ── a wire per call ═════▶ a thread per wire ──▶ table of methods ──▶ object
//!                                   (or an idle one)  │                              on the shelf, by number
//! ```
//!
//! | file | what it has |
//! |---|---|
//! | `method.rs` | what may be called: the table that `#[managed]` fills; objects and their locks |
//! | `message.rs` | what client and server say to each other |
//! | `wire.rs` | how they reach each other, and with which key |
//! | `shelf.rs` | the objects of a server, and how long they live |
//! | `server.rs` | the server's side |
//! | `host.rs` | the client's side: a server, and the conversations with it |
//! | `reference.rs` | what a proxy has, and how it travels |
//! | `manager.rs` | [`Manager`] |
//! | `value.rs` | values that the server does not know the types of |
//! | `dict.rs`, `list.rs` | ready-made objects |
//!
//! This module must never run anything that a client asks for but what is in the table, and never wait for a server
//! that has ended.

mod dict;
mod host;
mod list;
mod manager;
mod message;
mod method;
mod reference;
mod server;
mod shelf;
#[cfg(all(test, not(loom)))]
mod tests;
mod value;
mod wire;

pub use dict::Dict;
pub use host::Host;
pub use list::List;
pub use manager::Manager;
pub(crate) use manager::ServerProcess;
pub(crate) use method::check;
pub use method::{AnyObject, ManagedObject, MethodBody, MethodInfo, MethodRegistration, can_be_managed};
pub use reference::{Made, ObjectRef, Proxy};
pub(crate) use server::Server;
pub(crate) use wire::{Door, ManagerPlace, PipeEnd, Wire, WireListener, door};
