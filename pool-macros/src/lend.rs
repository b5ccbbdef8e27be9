//! How one parameter travels: by value, lent from the caller, or not at all because the worker holds it.
//!
//! The caller's side lends what the function borrows; the worker decodes something that it can lend on. What that is
//! (a slice where it lies, a `Vec`, a `PathBuf`) the runtime's `Probe` picks where the types are known: this module
//! must never guess from a type's name.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Token, Type, ext::IdentExt as _};

/// One parameter of a task.
pub struct Parameter {
    /// Its name in `call` and in messages.
    pub name: Ident,
    pub form: Form,
}

/// How a parameter travels.
pub enum Form {
    /// `T`: encoded by the caller, decoded by the worker.
    Value(Type),
    /// `&T`: lent by the caller for the time of the call, decoded and lent on by the worker.
    Lent { and: Token![&], of: Type },
    /// `#[state] &T` or `#[state] &mut T`: made in the worker.
    State { mutable: bool, of: Type },
}

impl Parameter {
    /// The type that is encoded and decoded.
    pub fn travels(&self) -> Option<&Type> {
        match &self.form {
            Form::Value(of) | Form::Lent { of, .. } => Some(of),
            Form::State { .. } => None,
        }
    }

    /// The parameter of `call`.
    pub fn in_call(&self) -> Option<TokenStream> {
        let name = &self.name;
        match &self.form {
            Form::Value(of) => Some(quote!(#name: #of)),
            Form::Lent { and, of } => Some(quote!(#name: #and 'call #of)),
            Form::State { .. } => None,
        }
    }

    /// A borrow of the parameter of `call`.
    pub fn lent_by_caller(&self) -> TokenStream {
        let name = &self.name;
        match &self.form {
            Form::Value(_) => quote!(&#name),
            Form::Lent { .. } | Form::State { .. } => quote!(#name),
        }
    }

    /// Its name in messages.
    pub fn label(&self) -> String {
        self.name.unraw().to_string()
    }

    /// The worker's variable of the parameter at `index`: what it decoded.
    pub fn held(index: usize) -> Ident {
        format_ident!("__argument_{index}", span = Span::mixed_site())
    }

    /// What the worker passes to the function.
    pub fn passed_by_worker(&self, index: usize, krate: &TokenStream) -> TokenStream {
        let held = Self::held(index);
        match &self.form {
            Form::Value(_) => quote!(#held),
            Form::Lent { of, .. } => quote!(::core::borrow::Borrow::<#of>::borrow(&#held)),
            Form::State { mutable: true, of } => quote!(#krate::__private::Run::state::<#of>(__run)?),
            Form::State { mutable: false, of } => quote!(&*#krate::__private::Run::state::<#of>(__run)?),
        }
    }
}

/// The type without the invisible groups that a `macro_rules!` puts around it, and without parentheses.
pub fn peel(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        }
    }
}

/// An expression that picks the way of `ty`; methods of the ranks are called on it.
///
/// The five references are the highest rank plus the one that a method takes of itself.
pub fn probe(ty: &Type, krate: &TokenStream) -> TokenStream {
    let span = syn::spanned::Spanned::span(ty);
    quote_spanned!(span=> (&&&&&#krate::__private::Probe::<#ty>::new()))
}
