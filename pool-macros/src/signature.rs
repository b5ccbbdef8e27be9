//! Parses `#[task(…)] fn …`, and refuses what cannot be called from another process.
//!
//! Each refusal stands at the token that has to change, in one lower-case sentence: why, and what to do. All that a
//! function has are reported together. This module must never let a function through whose expansion does not
//! compile for a reason that can be seen here, and never look at the body.

use crate::{
    lend::{Form, Parameter, peel},
    options::Options,
    refusals::Refusals,
    text::{readable, signature_text},
};
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident};
use syn::{
    Attribute, Error, Expr, FnArg, GenericParam, Ident, Item, ItemFn, Lifetime, Pat, PatType, ReturnType, Safety, Type,
    TypePath, parse_quote,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// A function that can be a task.
pub struct Task {
    /// The function as it is emitted: without `#[state]`.
    pub function: ItemFn,
    pub options: Options,
    pub parameters: Vec<Parameter>,
    pub output: Type,
    /// The signature for people and for the table's hash.
    pub text: String,
}

/// Reads the options and the function. If any of it is refused, the error is what to emit instead of the expansion.
pub fn parse(options: TokenStream, item: TokenStream) -> Result<Task, TokenStream> {
    let mut refusals = Refusals::default();
    let mut function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            refusals.add_error(not_a_function(&item).unwrap_or(error));
            return Err(refusals.after(item));
        }
    };
    let options = Options::parse(options, &mut refusals);
    refuse_kind_of_function(&function, &mut refusals);
    let declared: Vec<Lifetime> = function.sig.generics.lifetimes().map(|param| param.lifetime.clone()).collect();
    let text = signature_text(&function.sig);

    let mut parameters = Vec::new();
    let mut state_seen = false;
    for (index, input) in function.sig.inputs.iter_mut().enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let is_state = take_state(input, &mut refusals);
        if let Some(second) = is_state.filter(|_| state_seen) {
            refusals.add(second, "a worker has one state: make it a struct of all that the task needs");
        }
        if let Some(at) = is_state.filter(|_| options.initializer.is_some()) {
            refusals.add(at, "an initializer makes the state, so it cannot take one: return the state instead");
        }
        state_seen |= is_state.is_some();
        let form = match is_state {
            Some(at) => state_form(&input.ty, at, &declared, &mut refusals),
            None => argument_form(&input.ty, &declared, &mut refusals),
        };
        parameters.extend(form.map(|form| Parameter { name: parameter_name(&input.pat, index), form }));
    }
    let output = output(&function.sig.output, &declared, options.initializer.is_some(), &mut refusals);
    if refusals.is_empty() {
        Ok(Task { function, options, parameters, output, text })
    } else {
        Err(refusals.after(function))
    }
}

/// What stands there instead of a function.
fn not_a_function(item: &TokenStream) -> Option<Error> {
    let at = match syn::parse2::<Item>(item.clone()).ok()? {
        Item::Struct(item) => item.struct_token.span,
        Item::Enum(item) => item.enum_token.span,
        Item::Union(item) => item.union_token.span,
        Item::Impl(item) => item.impl_token.span,
        Item::Mod(item) => item.mod_token.span,
        Item::Trait(item) => item.trait_token.span,
        Item::Const(item) => item.const_token.span,
        Item::Static(item) => item.static_token.span,
        Item::Type(item) => item.type_token.span,
        Item::Fn(_) => return None,
        other => other.span(),
    };
    Some(Error::new(at, "only a function can be a task: put `#[task]` on each `fn` that other processes shall run"))
}

/// What is wrong before any type is looked at.
fn refuse_kind_of_function(function: &ItemFn, refusals: &mut Refusals) {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        refusals.add(token.span, "an `async fn` cannot be a task yet: block on the future in an ordinary function");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        refusals.add(token.span, "an `unsafe fn` cannot be a task, as the worker calls it: wrap it in a safe function");
    }
    if let Some(abi) = &signature.abi {
        refusals.add(abi.extern_token.span, "a task has Rust's own ABI: wrap the `extern` function in an ordinary one");
    }
    for param in &signature.generics.params {
        match param {
            GenericParam::Lifetime(param) => refusals.add(
                param.lifetime.span(),
                "a task is lent its arguments for one call only: write `&T` without a lifetime",
            ),
            GenericParam::Type(param) => refusals.add(param.ident.span(), GENERIC),
            GenericParam::Const(param) => refusals.add(param.ident.span(), GENERIC),
        }
    }
    if let Some(receiver) = signature.receiver() {
        let reason = "a task is a function of its own, not a method: take what it needs as an ordinary parameter";
        refusals.add(receiver.self_token.span, reason);
    }
    if let Some(variadic) = &signature.variadic {
        refusals.add(variadic.dots.span(), "a task has a fixed number of parameters: take a slice");
    }
}

const GENERIC: &str = "the worker finds a task by its name, so it cannot be generic: write one task for each type";

/// Takes `#[state]` off the parameter.
fn take_state(input: &mut PatType, refusals: &mut Refusals) -> Option<Span> {
    if let Some(cfg) = input.attrs.iter().find(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr")) {
        refusals.add(cfg.path().span(), "a task's parameters cannot depend on `cfg`: write one task for each case");
    }
    let is_state = |attr: &Attribute| attr.path().is_ident("state");
    let found = input.attrs.iter().find(|attr| is_state(attr))?;
    let at = found.path().span();
    if let Err(error) = found.meta.require_path_only() {
        refusals.add_error(error);
    }
    input.attrs.retain(|attr| !is_state(attr));
    Some(at)
}

fn parameter_name(pattern: &Pat, index: usize) -> Ident {
    match pattern {
        Pat::Ident(pattern) => pattern.ident.clone(),
        // Hygienic: another parameter may be called so.
        _ => format_ident!("arg{index}", span = Span::mixed_site()),
    }
}

fn argument_form(ty: &Type, declared: &[Lifetime], refusals: &mut Refusals) -> Option<Form> {
    let mut inner = Inner { declared, place: Place::Argument, refusals };
    let Type::Reference(borrow) = peel(ty) else {
        inner.visit_type(ty);
        return Some(Form::Value(ty.clone()));
    };
    if let Some(token) = &borrow.mutability {
        let reason = "the worker has a copy, so the caller would not see the change: take the value and return it";
        inner.refusals.add(token.span, reason);
    } else if let Some(lifetime) = borrow.lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
        let elem = readable(borrow.elem.to_token_stream());
        let reason = format!("the worker lends its own copy for one call only: write `&{elem}`");
        inner.refusals.add(lifetime.span(), reason);
    }
    inner.visit_type(&borrow.elem);
    Some(Form::Lent { and: borrow.and_token, of: unparenthesized(&borrow.elem) })
}

fn state_form(ty: &Type, state: Span, declared: &[Lifetime], refusals: &mut Refusals) -> Option<Form> {
    let Type::Reference(borrow) = peel(ty) else {
        refusals.add(state, "the state stays in the worker: take it as `&T` or `&mut T`");
        return None;
    };
    if let Some(lifetime) = borrow.lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
        refusals.add(lifetime.span(), "the state is lent for one call only: write `&T` or `&mut T` without a lifetime");
    }
    match peel(&borrow.elem) {
        unsized_type @ (Type::Slice(_) | Type::TraitObject(_)) => {
            refusals.add(first_span(unsized_type), UNSIZED_STATE);
        }
        Type::Path(path) if path.path.is_ident("str") => refusals.add(path.span(), UNSIZED_STATE),
        _ => Inner { declared, place: Place::State, refusals }.visit_type(&borrow.elem),
    }
    Some(Form::State { mutable: borrow.mutability.is_some(), of: unparenthesized(&borrow.elem) })
}

const UNSIZED_STATE: &str = "the state is the very type that the initializer returns: write its sized type, such as \
                             `String`, `Vec<T>` or `Box<dyn Trait>`";

/// `&(dyn A + B)` is refused elsewhere; what is left needs no parentheses, and would warn about them.
fn unparenthesized(ty: &Type) -> Type {
    match ty {
        Type::Paren(paren) => unparenthesized(&paren.elem),
        other => other.clone(),
    }
}

fn output(output: &ReturnType, declared: &[Lifetime], initializer: bool, refusals: &mut Refusals) -> Type {
    let ReturnType::Type(_, ty) = output else {
        return parse_quote!(());
    };
    if let Type::Never(never) = peel(ty) {
        refusals
            .add(never.bang_token.span(), "a task has a result to send back: return `()` if there is nothing to say");
    } else {
        let place = if initializer { Place::State } else { Place::Result };
        Inner { declared, place, refusals }.visit_type(ty);
    }
    (**ty).clone()
}

/// Where a type stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Argument,
    Result,
    /// In the worker's memory: need not travel, but must live as long as the worker.
    State,
}

/// Looks through a whole type for parts that cannot travel.
struct Inner<'a> {
    declared: &'a [Lifetime],
    place: Place,
    refusals: &'a mut Refusals,
}

impl Inner<'_> {
    fn refuse(&mut self, at: Span, reason: &str) {
        self.refusals.add(at, reason);
    }
}

impl<'ast> Visit<'ast> for Inner<'_> {
    fn visit_type(&mut self, ty: &'ast Type) {
        let travels = self.place != Place::State;
        match ty {
            Type::Reference(borrow) => {
                let is_static = borrow.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
                match self.place {
                    Place::State if is_static => self.visit_type(&borrow.elem),
                    Place::State => {
                        self.refuse(borrow.and_token.span(), "the state outlives the call: it must own what it holds")
                    }
                    Place::Result => self.refuse(
                        borrow.and_token.span(),
                        "a result comes from another process, so it cannot borrow: return an owned value, such as \
                         `String` or `Vec<T>`",
                    ),
                    Place::Argument => self.refuse(
                        borrow.and_token.span(),
                        "only a whole parameter can be lent to another process: use an owned type here, such as \
                         `String` or `Vec<T>`",
                    ),
                }
            }
            // What such a type mentions is not held by its value.
            Type::FnPtr(_) | Type::TraitObject(_) if !travels => {}
            Type::Ptr(pointer) if travels => self.refuse(
                pointer.star_token.span(),
                "an address means nothing in another process: pass the value itself",
            ),
            Type::FnPtr(pointer) => self.refuse(
                pointer.fn_token.span(),
                "an address means nothing in another process: pass a value that says which function to call",
            ),
            Type::TraitObject(object) => self.refuse(
                first_span(object),
                "the other process must know the exact type to decode it: write that type, or an enum of the possible \
                 ones",
            ),
            Type::ImplTrait(opaque) if travels => self.refuse(
                opaque.impl_token.span(),
                "the other process must know the exact type to decode it: write that type",
            ),
            Type::ImplTrait(opaque) => {
                self.refuse(opaque.impl_token.span(), "tasks ask for the state by its exact type: write that type");
            }
            other => visit::visit_type(self, other),
        }
    }

    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        if let Some(first) = ty.path.segments.first().filter(|first| first.ident == "Self") {
            self.refuse(first.ident.span(), "a task is a function of its own, not of a type: write the type's name");
        }
        visit::visit_type_path(self, ty);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        // Those that the function declares are refused where they are declared.
        if lifetime.ident != "static" && !self.declared.contains(lifetime) {
            let reason =
                "a type that borrows cannot leave its process: use one that owns what it holds, such as `String`";
            self.refuse(lifetime.span(), reason);
        }
    }

    // The length of an array is no type.
    fn visit_expr(&mut self, _: &'ast Expr) {}
}

/// The span of the first token: on stable, a span of several tokens is no more than that, and less predictable.
fn first_span(tokens: &impl quote::ToTokens) -> Span {
    tokens.to_token_stream().into_iter().next().map_or_else(Span::call_site, |token| token.span())
}
