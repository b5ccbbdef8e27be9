//! `#[pool_runtime::main]`: a `main` around the user's own.
//!
//! The user's function is emitted as it stands, inside of the new one, with all of its attributes: so an executor's
//! attribute runs there, and never in a worker.

use crate::expand::select;
use crate::options::Options;
use crate::refusals::{Refusals, Subject};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Item, ItemFn, Safety};

/// Attributes of the language that a function may have. Any other can be that of an executor.
const BUILT_IN: [&str; 17] = [
    "allow",
    "cfg",
    "cold",
    "coverage",
    "deny",
    "deprecated",
    "diagnostic",
    "doc",
    "expect",
    "forbid",
    "inline",
    "must_use",
    "optimize",
    "rustfmt",
    "clippy",
    "track_caller",
    "warn",
];

const NOT_MAIN: &str = "only `fn main` can be the program's `main`: put the attribute there, or call \
                        `pool_runtime::enter()` first in a `main` of your own";

/// What `#[pool_runtime::main(options)]` on this item becomes.
pub fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut refusals = Refusals::of(Subject::Task);
    let mut function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            match syn::parse2::<Item>(item.clone()) {
                // A function without a body, for example, is no item that has a name.
                Ok(Item::Verbatim(_)) | Err(_) => refusals.errors.push(error),
                Ok(_) => refusals.add(&item, NOT_MAIN),
            }
            return refusals.after(item);
        }
    };
    let options = Options::parse_of_main(options, &mut refusals);
    if function.sig.ident != "main" {
        refusals.add(&function.sig.ident, NOT_MAIN);
        return refusals.after(function);
    }
    refuse_kind_of_main(&function, &mut refusals);

    let (name, vis) = (function.sig.ident.clone(), function.vis.clone());
    if !refusals.errors.is_empty() {
        // A `main` that the compiler accepts, so that it has nothing to add. An executor's attribute might have.
        function.attrs.retain(|attribute| !may_be_an_executor(attribute));
        return refusals.after(quote! {
            #vis fn #name() {
                #[allow(dead_code, unused)]
                #function
            }
        });
    }
    let outer = select(&function.attrs, &["cfg", "doc"]);
    let krate = options.krate.as_ref().map_or_else(|| quote!(::pool_runtime), |path| quote!(#path));
    quote! {
        #(#outer)*
        #vis fn #name() -> ::std::process::ExitCode {
            #function
            #krate::__private::main(#name)
        }
    }
}

fn refuse_kind_of_main(function: &ItemFn, refusals: &mut Refusals) {
    let signature = &function.sig;
    if let Some(input) = signature.inputs.first() {
        let reason = "`main` has no parameters: read the arguments of the program with `std::env::args()`";
        refusals.add(input, reason);
    }
    if let Some(parameter) = signature.generics.params.first() {
        refusals.add(parameter, "`main` cannot be generic, because nothing chooses its parameters");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        refusals.add(token, "`main` cannot be `unsafe`: put the unsafe code into a block inside of it");
    }
    if let Some(abi) = &signature.abi {
        refusals.add(abi.extern_token, "`main` has the Rust ABI: remove `extern`");
    }
    if let Some(token) = &signature.asyncness
        && !function.attrs.iter().any(may_be_an_executor)
    {
        let reason = "an `async fn main` needs an executor: write the attribute of one below this one, such as \
                      `#[tokio::main]`, or block on the future in an ordinary `main`";
        refusals.add(token, reason);
    }
}

fn may_be_an_executor(attribute: &Attribute) -> bool {
    let first = attribute.path().segments.first();
    first.is_some_and(|first| !BUILT_IN.iter().any(|built_in| first.ident == built_in))
}
