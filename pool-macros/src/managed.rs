//! Parses `#[managed(…)] impl …`, and refuses what cannot be called from another process.
//!
//! What clients may call are the methods, and the functions that make an object. The bodies are never looked at.

use crate::options::Options;
use crate::parameter::Parameter;
use crate::refusals::{Refusals, Subject};
use crate::signature::{refuse_kind_of_function, returned};
use crate::text::signature_text;
use crate::types::{self, Position, peel};
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::{
    Attribute, FnArg, GenericArgument, ImplItem, ImplItemFn, ItemImpl, PathArguments, ReceiverKind, ReturnType,
    Signature, Type, Visibility,
};

/// An `impl` whose functions clients may call.
pub struct ManagedImpl {
    /// The impl as it is emitted: without `#[managed(skip)]`.
    pub item: ItemImpl,
    pub options: Options,
    /// The last name of the type's path.
    pub name: Ident,
    pub functions: Vec<ManagedFunction>,
    /// The widest visibility of the functions.
    pub vis: Visibility,
}

/// A function that clients may call.
pub struct ManagedFunction {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub role: Role,
    pub parameters: Vec<Parameter>,
    /// The signature as users read it, which is also hashed.
    pub text: String,
}

pub enum Role {
    /// `&self` or `&mut self`, and what it returns.
    Method { mutable: bool, output: Box<Type> },
    /// Returns `Self`, or a `Result` with this error.
    Constructor { error: Option<ConstructorError> },
}

/// The error with which a constructor refuses to make an object.
pub enum ConstructorError {
    /// It is written: `Result<Self, E>`.
    Written(Box<Type>),
    /// That of an alias, such as `io::Result<Self>`, which is here with the type's name in place of `Self`.
    OfAlias(Box<Type>),
}

/// Reads the options and the impl. If anything is refused, the error is what to emit instead of the expansion.
pub fn parse(options: TokenStream, item: TokenStream) -> Result<ManagedImpl, TokenStream> {
    let mut refusals = Refusals::of(Subject::Method);
    let Ok(mut parsed) = syn::parse2::<ItemImpl>(item.clone()) else {
        let at = item.clone().into_iter().next();
        refusals.add(at, "only an `impl` can be managed: put `#[managed]` on the `impl` with the methods");
        return Err(refusals.after(item));
    };
    let options = Options::parse(options, &mut refusals);
    let name = refuse_kind_of_impl(&parsed, &mut refusals);
    let mut functions = Vec::new();
    for item in &mut parsed.items {
        let ImplItem::Fn(function) = item else { continue };
        if take_skip(&mut function.attrs, &mut refusals) {
            continue;
        }
        functions.extend(read(function, &parsed.self_ty, &mut refusals));
    }
    let is_constructor = |function: &ManagedFunction| matches!(function.role, Role::Constructor { .. });
    if refusals.errors.is_empty() && !functions.iter().any(is_constructor) {
        let reason = "no function returns `Self` or `Result<Self, E>`, so clients could not make an object: add one \
                      to this `impl`, such as `fn new() -> Self`";
        refusals.add(&parsed.self_ty, reason);
    }
    match name.filter(|_| refusals.errors.is_empty()) {
        Some(name) => {
            let vis = widest(&functions);
            Ok(ManagedImpl { item: parsed, options, name, functions, vis })
        }
        None => Err(refusals.after(parsed)),
    }
}

/// Refuses what is wrong with the impl whatever is in it. Returns the type's name.
fn refuse_kind_of_impl(item: &ItemImpl, refusals: &mut Refusals) -> Option<Ident> {
    if let Some((path, _)) = &item.trait_ {
        let reason = "an `impl` of a trait cannot be managed: write an `impl` of the type alone, with methods that call \
                      those of the trait";
        refusals.add(path, reason);
    }
    for param in &item.generics.params {
        let reason = "a generic `impl` cannot be managed, because the server finds a type by its name: write one `impl` \
                      for each type";
        refusals.add(param, reason);
    }
    if let Some(token) = &item.unsafety {
        refusals.add(token, "an `unsafe impl` cannot be managed: the server does not know its contract");
    }
    match peel(&item.self_ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last().map(|last| last.ident.clone()),
        other => {
            refusals.add(other, "only an `impl` of a type with a name can be managed: its proxy is named after it");
            None
        }
    }
}

/// Removes `#[managed(skip)]`, and returns whether it was there.
fn take_skip(attrs: &mut Vec<Attribute>, refusals: &mut Refusals) -> bool {
    let is_put_off = |attr: &Attribute| {
        let holds = |token: TokenTree| matches!(token, TokenTree::Ident(name) if name == "managed");
        attr.path().is_ident("cfg_attr")
            && attr.meta.require_list().is_ok_and(|list| list.tokens.clone().into_iter().any(holds))
    };
    for attr in attrs.extract_if(.., |attr| is_put_off(attr)) {
        let reason = "`#[managed(skip)]` cannot depend on a `cfg_attr`, which is obeyed later: write two functions, one \
                      of them skipped, each with a `cfg`";
        refusals.add(attr.path(), reason);
    }
    // It may be written with the path of its crate, or of one that re-exports it.
    let is_own = |attr: &Attribute| attr.path().segments.last().is_some_and(|last| last.ident == "managed");
    let taken: Vec<Attribute> = attrs.extract_if(.., |attr| is_own(attr)).collect();
    for attr in &taken {
        let is_skip = attr.parse_args::<Ident>().is_ok_and(|option| option == "skip");
        if !is_skip {
            refusals.add(attr.path(), "on a function, there is only `#[managed(skip)]`: clients are not to call it");
        }
    }
    !taken.is_empty()
}

/// Reads one function. None: it is none for clients, or nothing can be expanded from it.
fn read(function: &mut ImplItemFn, of: &Type, refusals: &mut Refusals) -> Option<ManagedFunction> {
    let ImplItemFn { attrs, vis, sig, .. } = function;
    let receiver = sig.receiver().cloned();
    // What a method returns is none of the server's objects.
    let made = if receiver.is_none() { constructed(&sig.output, of) } else { None };
    if receiver.is_none() && made.is_none() {
        return None;
    }
    refuse_kind_of_function(sig, refusals);
    if sig.ident == "open" {
        let reason = "every proxy has an `open`, which finds a published object: choose another name, or hide the function \
                      from clients with `#[managed(skip)]`";
        refusals.add(&sig.ident, reason);
    }
    let text = signature_text(sig);
    let Signature { inputs, generics, output, ident, .. } = sig;
    let mut parameters = Vec::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        if let FnArg::Typed(input) = input {
            let index = index - usize::from(receiver.is_some());
            parameters.extend(Parameter::parse(input, index, generics, refusals));
        }
    }
    let role = match receiver {
        None => {
            let error = made?;
            if let Some(ConstructorError::Written(error)) = &error {
                types::check_error(error, generics, refusals);
            }
            Role::Constructor { error }
        }
        Some(receiver) => {
            let mut mutable = false;
            match &receiver.kind {
                ReceiverKind::Reference(_, lifetime, token) => {
                    mutable = token.is_some();
                    if let Some(lifetime) = lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
                        refusals
                            .add(lifetime, "a managed method borrows the object for one call only: remove `'static`");
                    }
                }
                _ => {
                    let reason = "a managed object stays in its server: take `&self` or `&mut self`, or hide the method \
                                  from clients with `#[managed(skip)]`";
                    refusals.add(receiver.self_token, reason);
                }
            }
            let output = returned(output, Position::Result, generics, refusals);
            Role::Method { mutable, output: Box::new(output) }
        }
    };
    Some(ManagedFunction { attrs: attrs.clone(), vis: vis.clone(), name: ident.clone(), role, parameters, text })
}

/// Whether this is what a constructor returns: `Some(None)` for the type, `Some(Some(…))` for a `Result` of it.
fn constructed(output: &ReturnType, of: &Type) -> Option<Option<ConstructorError>> {
    let ReturnType::Type(_, ty) = output else { return None };
    let is_itself = |ty: &Type| {
        let ty = peel(ty);
        tokens_of(ty) == tokens_of(peel(of)) || matches!(ty, Type::Path(path) if path.path.is_ident("Self"))
    };
    if is_itself(ty) {
        return Some(None);
    }
    let Type::Path(path) = peel(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut arguments = arguments.args.iter();
    let (Some(GenericArgument::Type(value)), error) = (arguments.next(), arguments.next()) else { return None };
    if !is_itself(value) {
        return None;
    }
    if let Some(GenericArgument::Type(error)) = error {
        return Some(Some(ConstructorError::Written(Box::new(error.clone()))));
    }
    let mut alias = path.clone();
    if let Some(PathArguments::AngleBracketed(arguments)) =
        alias.path.segments.last_mut().map(|last| &mut last.arguments)
        && let Some(GenericArgument::Type(value)) = arguments.args.first_mut()
    {
        *value = of.clone();
    }
    Some(Some(ConstructorError::OfAlias(Box::new(Type::Path(alias)))))
}

fn tokens_of(ty: &Type) -> String {
    ty.to_token_stream().to_string()
}

/// The visibility of the proxy: that of its most visible function.
fn widest(functions: &[ManagedFunction]) -> Visibility {
    let width = |vis: &&Visibility| match vis {
        Visibility::Inherited => 0,
        Visibility::Restricted(restricted) if restricted.path.is_ident("self") => 1,
        Visibility::Restricted(restricted) if restricted.path.is_ident("crate") => 3,
        Visibility::Restricted(_) => 2,
        Visibility::Public(_) => 4,
    };
    functions.iter().map(|function| &function.vis).max_by_key(width).cloned().unwrap_or(Visibility::Inherited)
}

impl ManagedFunction {
    /// The name without `r#`.
    pub fn label(&self) -> String {
        self.name.unraw().to_string()
    }
}
