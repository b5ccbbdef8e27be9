//! The mistakes that were found in one use of a macro.
//!
//! A refusal points to the token that has to change and says why, and what to write instead, in one lower-case
//! sentence. All of them are collected, so that one build reports every mistake. Imports nothing of this crate.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::fmt::Display;
use syn::Error;
use syn::spanned::Spanned;

/// What the macro stands on, as messages name it.
#[derive(Clone, Copy, PartialEq)]
pub enum Subject {
    Task,
    Method,
}

impl Subject {
    /// With its article.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Task => "a task",
            Self::Method => "a managed method",
        }
    }

    /// Who runs it.
    pub fn runner(self) -> &'static str {
        match self {
            Self::Task => "the worker",
            Self::Method => "the server",
        }
    }
}

pub struct Refusals {
    pub errors: Vec<Error>,
    pub subject: Subject,
}

impl Refusals {
    pub fn of(subject: Subject) -> Self {
        Self { errors: Vec::new(), subject }
    }

    pub fn add(&mut self, at: impl Spanned, reason: impl Display) {
        self.errors.push(Error::new(at.span(), reason));
    }

    /// The item, followed by a compile error for each refusal.
    ///
    /// The item stays because the compiler would otherwise also report each use of it.
    pub fn after(&self, item: impl ToTokens) -> TokenStream {
        let errors = self.errors.iter().map(Error::to_compile_error);
        quote!(#item #(#errors)*)
    }
}
