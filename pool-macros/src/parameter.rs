//! One parameter of a task or a method, and how its caller and who runs it pass it.

use crate::refusals::{Refusals, Subject};
use crate::types::{self, Position, peel};
use proc_macro2::Span;
use quote::format_ident;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, Generics, Ident, Pat, PatType, Token, Type};

pub struct Parameter {
    /// Its name in `call` and in messages.
    pub name: Ident,
    pub passing: Passing,
}

pub enum Passing {
    /// `T`: `call` takes it by value, and the worker decodes it.
    Value(Type),
    /// `&T`: `call` borrows it, and the worker decodes a value that the function borrows.
    Borrow { and: Token![&], of: Type },
    /// `#[state] &T` or `#[state] &mut T`: the function borrows what the worker's initializer returned.
    State { at: Span, mutable: bool, of: Type },
}

impl Parameter {
    /// Reads the parameter and removes `#[state]` from it. `None` if nothing can be expanded from it.
    pub fn parse(input: &mut PatType, index: usize, generics: &Generics, refusals: &mut Refusals) -> Option<Self> {
        let is_cfg = |attr: &&Attribute| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr");
        if let Some(cfg) = input.attrs.iter().find(is_cfg) {
            let reason = match refusals.subject {
                Subject::Task => "a task's parameters cannot depend on `cfg`: write one task for each case",
                Subject::Method => "a method's parameters cannot depend on `cfg`: write one method for each case",
            };
            refusals.add(cfg.path(), reason);
        }
        let state = take_state(&mut input.attrs, refusals);
        if let (Some(at), Subject::Method) = (state, refusals.subject) {
            refusals.add(at, "a managed object is its own state: use the fields of `self`");
            return None;
        }
        let name = match &*input.pat {
            Pat::Ident(pattern) => pattern.ident.clone(),
            // Mixed-site hygiene keeps it apart from a parameter that the user called `arg0`.
            _ => format_ident!("arg{index}", span = Span::mixed_site()),
        };
        Some(Self { name, passing: passing(&input.ty, state, generics, refusals)? })
    }

    /// The name without `r#`.
    pub fn label(&self) -> String {
        self.name.unraw().to_string()
    }
}

/// Removes `#[state]`, and returns where it was.
fn take_state(attrs: &mut Vec<Attribute>, refusals: &mut Refusals) -> Option<Span> {
    let state = attrs.extract_if(.., |attr| attr.path().is_ident("state")).last()?;
    if let Err(error) = state.meta.require_path_only() {
        refusals.add(error.span(), "`#[state]` takes no arguments: remove them");
    }
    Some(state.path().span())
}

fn passing(ty: &Type, state: Option<Span>, generics: &Generics, refusals: &mut Refusals) -> Option<Passing> {
    let Type::Reference(borrow) = peel(ty) else {
        if let Some(at) = state {
            refusals.add(at, "the state stays in the worker: take it as `&T` or `&mut T`");
            return None;
        }
        types::check(ty, Position::Argument, generics, refusals);
        return Some(Passing::Value(ty.clone()));
    };
    if let Some(lifetime) = borrow.lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
        let reason = format!("{} borrows a parameter for one call only: remove `'static`", refusals.subject.noun());
        refusals.add(lifetime, reason);
    }
    let of = peel(&borrow.elem).clone();
    let Some(at) = state else {
        if let Some(token) = &borrow.mutability {
            let reason = format!(
                "{} changes its own copy, which the caller never sees: take the value and return the changed one",
                refusals.subject.runner()
            );
            refusals.add(token, reason);
        }
        types::check(&of, Position::Argument, generics, refusals);
        return Some(Passing::Borrow { and: borrow.and_token, of });
    };
    match &of {
        Type::Slice(_) | Type::TraitObject(_) => refusals.add(&of, UNSIZED_STATE),
        Type::Path(path) if path.path.is_ident("str") => refusals.add(path, UNSIZED_STATE),
        _ => types::check(&of, Position::State, generics, refusals),
    }
    Some(Passing::State { at, mutable: borrow.mutability.is_some(), of })
}

const UNSIZED_STATE: &str = "tasks find the state by the sized type that the initializer returns: write that type, \
                             such as `String`, `Vec<T>` or `Box<dyn Trait>`";
