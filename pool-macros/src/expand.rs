//! What a task expands to: the function, the type of the same name, and the entry in the table of tasks.
//!
//! The expansion must never name what the user's module could redefine, nor define a name that the user's types could
//! mean: paths are absolute, traits are imported as `_`, and its own names begin with `__`.

use crate::options::{Located, Options};
use crate::parameter::{Parameter, Passing};
use crate::signature::TaskFunction;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use std::time::Duration;
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, Meta, Token, Type, parse_quote, parse_quote_spanned};

/// The items that replace the annotated function.
pub fn expand(task: &TaskFunction) -> TokenStream {
    let TaskFunction { function, options, parameters, output, text } = task;
    let (name, vis) = (&function.sig.ident, &function.vis);
    let plain_name = name.unraw().to_string();
    let krate = &options.krate.as_ref().map_or_else(|| quote!(::pool_runtime), |path| quote!(#path));
    let private = &quote!(#krate::__private);
    let cfgs = select(&function.attrs, &["cfg"]);
    let type_attrs = select(&function.attrs, &["cfg", "deprecated"]);
    let (type_doc, call_doc) = docs(&plain_name, parameters);
    let Fragments { parameters: call_parameters, inline, encode, release, mut check, decode, state, passed } =
        fragments(parameters, private);
    // A worker without this state must fail before the call counts as started, so the state is asked for twice.
    let state_exists = state.map(|of| quote!(#private::Run::state::<#of>(__run)?;));

    let returned = probe(output, private);
    let state_probe = quote!((&&&&&#private::Probe::<#output>::new()));
    let (body, result, finish, role, state_type, bound);
    if options.initializer.is_some() {
        body = quote!(Initializer(__invoke));
        result = quote!(::std::boxed::Box<dyn ::core::any::Any>);
        finish = quote!(#state_probe.state(__value));
        role = quote!(impl #krate::Initializer for #name {});
        state_type = Some(quote!(|| #state_probe.state_type()));
        bound = quote!(::core::primitive::u64::MAX);
    } else {
        body = quote!(Task(__invoke, |__series| #private::Series::run(__series, __invoke)));
        result = quote!(());
        finish = quote! {
            if let ::core::option::Option::Some(__inline) = #returned.short(&__value) {
                return #private::Run::finish_short(__run, __inline);
            }
            #private::Run::finish(__run, |__writer| #returned.encode_last(__value, __writer))
        };
        // The compiler reports a private result of a `pub` task at this span, so it is that of the user's type.
        let output_type = quote_spanned!(output.span()=> type Output = #output;);
        role = quote! {
            #[automatically_derived]
            impl #krate::Task for #name {
                #output_type

                fn decode(
                    __result: &mut #private::Reader<'_>,
                ) -> ::core::result::Result<#output, #private::CodecError> {
                    #returned.decode(__result)
                }
            }
        };
        bound = quote!(#private::Probe::<#output>::RESULT_BOUND);
        state_type = state.map(|of| quote!(|| #private::StateType::of::<#of>()));
        check.push(quote_spanned!(output.span()=> #returned.check_returned();));
    }
    let state_type = quote_option(state_type);

    let task_name = match &options.name {
        Some(Located { value, .. }) => quote!(#value),
        None => quote!(::core::concat!(::core::module_path!(), "::", #plain_name)),
    };
    let location = quote_spanned!(name.span()=> (::core::file!(), ::core::line!()));
    let limits = limits(options, private);
    // The compiler's messages about wrong arguments, and editors, show the function because of this span.
    let call = Ident::new("call", name.span());

    quote! {
        #function

        #(#type_attrs)*
        #[doc = #type_doc]
        #[allow(non_camel_case_types)]
        #vis struct #name {}

        #(#cfgs)*
        #[allow(deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
        const _: () = {
            use #private::rank0::{Refused as _, RefusedError as _};
            use #private::{ByValue as _, Lend as _, Short as _, ToState as _, Unbounded as _};

            impl #name {
                #[doc = #call_doc]
                #[inline]
                #vis fn #call(#(#call_parameters),*) -> #krate::Call<'static, #name> {
                    let __inline = ::core::option::Option::Some(#private::ShortBytes::NONE) #(#inline)*;
                    if let ::core::option::Option::Some(__inline) = __inline {
                        return #krate::Call::short(__inline);
                    }
                    let __call = #krate::Call::encode(|__writer| {
                        #(#encode)*
                        ::core::result::Result::Ok(())
                    });
                    #(#release)*
                    __call
                }
            }

            static __INFO: #krate::TaskInfo =
                #krate::TaskInfo::new(
                    #task_name, #location, #text, #private::Body::#body, #state_type, (#limits, #bound)
                );

            #[automatically_derived]
            impl #private::Registered for #name {
                fn info() -> &'static #krate::TaskInfo {
                    &__INFO
                }
            }

            #role

            #[inline]
            fn __invoke(
                __run: &mut #private::Run<'_>,
            ) -> ::core::result::Result<#result, #private::Fault> {
                let mut __arguments = #private::Run::arguments(__run);
                #(#decode)*
                #state_exists
                #private::Run::start(__run, &__arguments)?;
                let __value: #output = #name(#(#passed),*);
                #finish
            }

            fn __check() {
                #(#check)*
            }

            #private::inventory::submit! { #private::Registration(&__INFO) }
        };
    }
}

/// The parts of the expansion that depend on the parameters, in their order.
#[derive(Default)]
pub struct Fragments<'a> {
    /// Those of a function that encodes them, and is done with what they borrow when it returns.
    pub parameters: Vec<TokenStream>,
    /// Appends an argument to an encoding that needs no buffer, unless the argument is not a number.
    inline: Vec<TokenStream>,
    pub encode: Vec<TokenStream>,
    /// Drops an encoded argument, or keeps its memory for another one.
    release: Vec<TokenStream>,
    /// Fails to compile if the type cannot be sent.
    pub check: Vec<TokenStream>,
    pub decode: Vec<TokenStream>,
    state: Option<&'a Type>,
    /// The function's arguments in the worker.
    pub passed: Vec<TokenStream>,
}

pub fn fragments<'a>(parameters: &'a [Parameter], private: &TokenStream) -> Fragments<'a> {
    let mut fragments = Fragments::default();
    for (index, parameter) in parameters.iter().enumerate() {
        let (name, label) = (&parameter.name, parameter.label());
        let decoded = format_ident!("__argument_{index}", span = Span::mixed_site());
        let (ty, borrowed, declaration, method) = match &parameter.passing {
            Passing::State { mutable, of, .. } => {
                let reborrow = (!mutable).then(|| quote!(&*));
                fragments.passed.push(quote!(#reborrow #private::Run::state::<#of>(__run)?));
                fragments.state = Some(of);
                continue;
            }
            Passing::Borrow { and, of } => {
                fragments.parameters.push(quote!(#name: #and #of));
                fragments.passed.push(quote!(::core::borrow::Borrow::<#of>::borrow(&#decoded)));
                // `lend` may return something else that borrows as this type, such as a slice of the message.
                (of, quote!(#name), quote!(#decoded), quote!(lend))
            }
            Passing::Value(of) => {
                let probe = probe(of, private);
                fragments.parameters.push(quote!(#name: #of));
                fragments.release.push(quote!(#probe.done(#name);));
                fragments.passed.push(quote!(#decoded));
                (of, quote!(&#name), quote!(#decoded: #of), quote!(decode))
            }
        };
        let probe = probe(ty, private);
        fragments.inline.push(quote!(.and_then(|__inline| __inline.and(#probe.short(#borrowed)))));
        fragments.encode.push(quote!(#probe.encode(#borrowed, __writer).map_err(|__reason| (#label, __reason))?;));
        fragments.check.push(quote_spanned!(ty.span()=> #probe.check();));
        fragments.decode.push(quote! {
            let #declaration = #probe.#method(&mut __arguments).map_err(#private::Fault::argument(#label))?;
        });
    }
    fragments
}

/// An expression whose methods resolve to the highest rank that the type has.
///
/// Method look-up removes one reference for each rank, and one more is what a method takes of itself.
pub fn probe(ty: &Type, private: &TokenStream) -> TokenStream {
    quote_spanned!(ty.span()=> (&&&&&#private::Probe::<#ty>::new()))
}

/// The limits that the attribute declares.
fn limits(options: &Options, private: &TokenStream) -> TokenStream {
    let time = |limit: &Located<Duration>| {
        let (seconds, nanos) = (limit.value.as_secs(), limit.value.subsec_nanos());
        quote!(::core::time::Duration::new(#seconds, #nanos))
    };
    let [timeout, soft_timeout, retries, memory, max_result] = [
        options.timeout.as_ref().map(time),
        options.soft_timeout.as_ref().map(time),
        options.retries.as_ref().map(|Located { value, .. }| quote!(#value)),
        options.memory.as_ref().map(|Located { value, .. }| quote!(#value)),
        options.max_result.as_ref().map(|Located { value, .. }| quote!(#value)),
    ]
    .map(quote_option);
    quote! {
        #private::Wish {
            timeout: #timeout,
            soft_timeout: #soft_timeout,
            retries: #retries,
            memory: #memory,
            max_result: #max_result,
        }
    }
}

fn quote_option(value: Option<TokenStream>) -> TokenStream {
    value.map_or_else(|| quote!(::core::option::Option::None), |value| quote!(::core::option::Option::Some(#value)))
}

/// The documentation of the type and of its `call`.
fn docs(name: &str, parameters: &[Parameter]) -> (String, String) {
    let sent = parameters.iter().filter(|parameter| !matches!(parameter.passing, Passing::State { .. }));
    let names = sent.map(Parameter::label).collect::<Vec<_>>().join(", ");
    (
        format!(
            "The task that runs [`{name}`](fn@{name}).\n\n`{name}::call({names})` makes a call, which a pool or a \
             process runs."
        ),
        format!("Makes a call of [`{name}`](fn@{name}), which runs once a pool or a process is given it."),
    )
}

/// The attributes of these names, also where `cfg_attr` adds them.
pub fn select(attrs: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    let selected = attrs.iter().filter_map(|attr| Some((attr, select_meta(&attr.meta, names)?)));
    selected.map(|(attr, meta)| parse_quote_spanned!(attr.span()=> #[#meta])).collect()
}

fn select_meta(meta: &Meta, names: &[&str]) -> Option<Meta> {
    if names.iter().any(|name| meta.path().is_ident(name)) {
        return Some(meta.clone());
    }
    let list = meta.require_list().ok().filter(|list| list.path.is_ident("cfg_attr"))?;
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let mut parts = parts.into_iter();
    let condition = parts.next()?;
    let selected: Vec<Meta> = parts.filter_map(|part| select_meta(&part, names)).collect();
    (!selected.is_empty()).then(|| parse_quote!(cfg_attr(#condition, #(#selected),*)))
}
