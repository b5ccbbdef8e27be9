//! The attribute macros of `pool-runtime`, which re-exports them: use them from there.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | entry points and their documentation |
//! | `signature.rs` | parse; every refusal, each at its exact token |
//! | `lend.rs` | how one parameter travels: by value, lent, or as the worker's state |
//! | `expand.rs` | the one `quote!` |
//!
//! A macro here must never change what the function does, and never drop it: whatever is refused, the function item is
//! emitted, so that one mistake gives one message.

mod expand;
mod lend;
mod signature;

use proc_macro::TokenStream;

/// Makes a function callable in other processes.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    match signature::parse(options.into(), item.into()) {
        Ok(task) => expand::expand(&task),
        Err(refused) => refused.into_tokens(),
    }
    .into()
}
