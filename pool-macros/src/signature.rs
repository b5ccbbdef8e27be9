//! Parses `#[task(…)] fn …`, and refuses what cannot be called from another process.
//!
//! A function that passes must have an expansion that compiles, except for what only the compiler can see, such as
//! which traits a type has. The body is never looked at.

use crate::options::Options;
use crate::parameter::{Parameter, Passing};
use crate::refusals::{Refusals, Subject};
use crate::text::signature_text;
use crate::types::{self, Position, peel};
use proc_macro2::{Span, TokenStream};
use syn::{Error, FnArg, GenericParam, Generics, Item, ItemFn, ReturnType, Safety, Signature, Type, parse_quote};

/// A function that can be a task.
pub struct TaskFunction {
    /// The function as it is emitted: without `#[state]`.
    pub function: ItemFn,
    pub options: Options,
    pub parameters: Vec<Parameter>,
    pub output: Type,
    /// The signature as users read it, which is also hashed.
    pub text: String,
}

/// Reads the options and the function. If anything is refused, the error is what to emit instead of the expansion.
pub fn parse(options: TokenStream, item: TokenStream) -> Result<TaskFunction, TokenStream> {
    let mut refusals = Refusals::of(Subject::Task);
    let mut function: ItemFn = syn::parse2(item.clone()).map_err(|error| {
        refusals.errors.push(not_a_function(&item).unwrap_or(error));
        refusals.after(&item)
    })?;
    let options = Options::parse(options, &mut refusals);
    refuse_kind_of_function(&function.sig, &mut refusals);
    let text = signature_text(&function.sig);

    let Signature { inputs, output, generics, .. } = &mut function.sig;
    let mut parameters = Vec::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        if let FnArg::Typed(input) = input {
            parameters.extend(Parameter::parse(input, index, generics, &mut refusals));
        }
    }
    let (states_allowed, position, reason) = match options.initializer {
        Some(_) => {
            (0, Position::State, "an initializer makes the state, so it cannot take one: return the state instead")
        }
        None => (1, Position::Result, "a worker has one state: put all that the task needs into one struct"),
    };
    let states = parameters.iter().filter_map(|parameter| match parameter.passing {
        Passing::State { at, .. } => Some(at),
        Passing::Value(_) | Passing::Borrow { .. } => None,
    });
    for at in states.skip(states_allowed) {
        refusals.add(at, reason);
    }
    let output = returned(output, position, generics, &mut refusals);

    match refusals.errors.is_empty() {
        true => Ok(TaskFunction { function, options, parameters, output, text }),
        false => Err(refusals.after(function)),
    }
}

/// The refusal of an item that is valid, but not a function.
fn not_a_function(item: &TokenStream) -> Option<Error> {
    const KEYWORDS: [&str; 9] = ["struct", "enum", "union", "impl", "mod", "trait", "const", "static", "type"];
    if let Item::Fn(_) | Item::Verbatim(_) = syn::parse2(item.clone()).ok()? {
        return None;
    }
    let keyword = item.clone().into_iter().find(|token| KEYWORDS.contains(&&*token.to_string()));
    let at = keyword.map_or_else(Span::call_site, |keyword| keyword.span());
    Some(Error::new(at, "only a function can be a task: put `#[task]` on each `fn` that other processes run"))
}

/// Refuses what is wrong with the function whatever its types are.
pub fn refuse_kind_of_function(signature: &Signature, refusals: &mut Refusals) {
    let (noun, runner) = (refusals.subject.noun(), refusals.subject.runner());
    let one_each = match refusals.subject {
        Subject::Task => "task",
        Subject::Method => "method",
    };
    let generic =
        format!("{noun} cannot be generic, because {runner} finds it by its name: write one {one_each} for each type");
    if let Some(token) = &signature.asyncness {
        let reason = format!("an `async fn` cannot be {noun} yet: block on the future in an ordinary function");
        refusals.add(token, reason);
    }
    if let Safety::Unsafe(token) = &signature.safety {
        let reason = format!(
            "an `unsafe fn` cannot be {noun}, because {runner} does not know its contract: call it from a safe function"
        );
        refusals.add(token, reason);
    }
    if let Some(abi) = &signature.abi {
        let reason = format!(
            "an `extern` function cannot be {noun}, because {runner} uses the Rust ABI: call it from an ordinary function"
        );
        refusals.add(abi.extern_token, reason);
    }
    for param in &signature.generics.params {
        match param {
            GenericParam::Lifetime(param) => {
                let reason = format!(
                    "{noun} borrows its parameters for one call only, so it declares no lifetimes: write `&T` without one"
                );
                refusals.add(&param.lifetime, reason);
            }
            GenericParam::Type(param) => refusals.add(&param.ident, &generic),
            GenericParam::Const(param) => refusals.add(&param.ident, &generic),
        }
    }
    if let (Some(receiver), Subject::Task) = (signature.receiver(), refusals.subject) {
        let reason = "a method cannot be a task: write a free function that takes the value as a parameter";
        refusals.add(receiver.self_token, reason);
    }
    if let Some(variadic) = &signature.variadic {
        refusals.add(variadic.dots, format!("{noun} has a fixed number of parameters: take a slice"));
    }
}

/// The type that the function returns.
pub fn returned(output: &ReturnType, position: Position, generics: &Generics, refusals: &mut Refusals) -> Type {
    let ReturnType::Type(_, ty) = output else {
        return parse_quote!(());
    };
    if let Type::Never(never) = peel(ty) {
        let noun = refusals.subject.noun();
        let reason = format!("{noun} must return, or its call never ends: write `()` if there is no result");
        refusals.add(never.bang_token, reason);
    } else {
        types::check(ty, position, generics, refusals);
    }
    (**ty).clone()
}
