//! The mistakes that were found in one use of `#[task]`.
//!
//! A refusal points to the token that has to change and says why, and what to write instead, in one lower-case
//! sentence. All of them are collected, so that one build reports every mistake. Imports nothing of this crate.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::fmt::Display;
use syn::Error;
use syn::spanned::Spanned;

#[derive(Default)]
pub struct Refusals(pub Vec<Error>);

impl Refusals {
    pub fn add(&mut self, at: impl Spanned, reason: impl Display) {
        self.0.push(Error::new(at.span(), reason));
    }

    /// The item, followed by a compile error for each refusal.
    ///
    /// The item stays because the compiler would otherwise also report each use of it.
    pub fn after(&self, item: impl ToTokens) -> TokenStream {
        let errors = self.0.iter().map(Error::to_compile_error);
        quote!(#item #(#errors)*)
    }
}
