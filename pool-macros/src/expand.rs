//! What a task expands to: the function, its twin in the type namespace, and its entry in the table.
//!
//! The expansion must never name anything that the user's module could have redefined, nor define a name that the
//! user's types could mean: paths are absolute, traits come in as `_`, and our own names begin with `__`.

use crate::{
    lend::{Form, Parameter, probe},
    options::{Limit, Options},
    signature::Task,
};
use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use std::time::Duration;
use syn::{
    Attribute, Meta, Token, ext::IdentExt as _, parse_quote, parse_quote_spanned, punctuated::Punctuated,
    spanned::Spanned as _,
};

/// The items that replace the annotated function.
pub fn expand(task: &Task) -> TokenStream {
    let Task { function, options, parameters, output, text } = task;
    let (name, vis) = (&function.sig.ident, &function.vis);
    let plain_name = name.unraw().to_string();
    let krate = &match &options.krate {
        Some(path) => quote!(#path),
        None => quote!(::pool_runtime),
    };
    let private = &quote!(#krate::__private);
    let cfgs = &forwarded(&function.attrs, &["cfg"]);
    let twin_attrs = forwarded(&function.attrs, &["cfg", "deprecated"]);
    let (twin_doc, call_doc) = docs(&plain_name, parameters);

    let travelling = || parameters.iter().filter_map(|parameter| Some((parameter, parameter.travels()?)));
    let lifetime: Option<TokenStream> =
        parameters.iter().any(|p| matches!(p.form, Form::Lent { .. })).then(|| quote!(<'call>));
    let call_lifetime = if lifetime.is_some() { quote!('call) } else { quote!('static) };
    let call_parameters = parameters.iter().filter_map(Parameter::in_call);
    let encode = travelling().map(|(parameter, ty)| {
        let (probe, lent, label) = (probe(ty, krate), parameter.lent_by_caller(), parameter.label());
        quote!(#probe.encode(#lent, __writer).map_err(|__reason| (#label, __reason))?;)
    });
    // Numbers alone need no memory: whether they are is known once the types are.
    let few = travelling().map(|(parameter, ty)| {
        let (probe, lent) = (probe(ty, krate), parameter.lent_by_caller());
        quote!(.and_then(|__few| __few.and(#probe.few(#lent))))
    });
    let done = parameters.iter().filter_map(|parameter| match &parameter.form {
        Form::Value(ty) => {
            let (name, probe) = (&parameter.name, probe(ty, krate));
            Some(quote!(#probe.done(#name);))
        }
        Form::Lent { .. } | Form::State { .. } => None,
    });
    let check = travelling().map(|(_, ty)| {
        let probe = probe(ty, krate);
        quote_spanned!(ty.span()=> #probe.check();)
    });
    let decode = parameters.iter().enumerate().filter_map(|(index, parameter)| {
        let (held, label, probe) = (Parameter::held(index), parameter.label(), probe(parameter.travels()?, krate));
        let (ty, method) = match &parameter.form {
            Form::Value(ty) => (Some(quote!(: #ty)), quote!(decode)),
            Form::Lent { .. } | Form::State { .. } => (None, quote!(lend)),
        };
        Some(quote! {
            let #held #ty = #probe.#method(&mut __arguments).map_err(#private::Fault::argument(#label))?;
        })
    });
    let passed = parameters.iter().enumerate().map(|(index, parameter)| parameter.passed_by_worker(index, krate));
    let state = parameters.iter().find_map(|parameter| match &parameter.form {
        Form::State { of, .. } => Some(of),
        Form::Value(_) | Form::Lent { .. } => None,
    });
    // Asked for before the task counts as started, and again where it is lent.
    let state_is_there = state.map(|of| quote!(#private::Run::state::<#of>(__run)?;));

    let returned = probe(output, krate);
    let state_probe = quote!((&&&#private::StateProbe::<#output>::new()));
    let (body, result, finish, role, state_type, check_returned);
    if options.initializer.is_some() {
        body = quote!(Initializer(__invoke));
        result = quote!(::std::boxed::Box<dyn ::core::any::Any>);
        finish = quote!(#state_probe.state(__value));
        role = quote!(impl #krate::Initializer for #name {});
        state_type = quote!(::core::option::Option::Some(|| #state_probe.state_type()));
        check_returned = None;
    } else {
        body = quote!(Task(__invoke, |__series| #private::Series::run(__series, __invoke)));
        result = quote!(());
        finish = quote! {
            if let ::core::option::Option::Some(__few) = #returned.few(&__value) {
                return #private::Run::finish_few(__run, __few);
            }
            #private::Run::finish(__run, |__writer| #returned.encode_last(__value, __writer))
        };
        // At the user's type: a `pub` task whose result is private is refused there.
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
        state_type = match state {
            Some(of) => quote!(::core::option::Option::Some(|| #private::StateType::of::<#of>())),
            None => quote!(::core::option::Option::None),
        };
        check_returned = Some(quote_spanned!(output.span()=> #returned.check_returned();));
    }

    let task_name = match &options.name {
        Some(name) => quote!(#name),
        None => quote!(::core::concat!(::core::module_path!(), "::", #plain_name)),
    };
    let place = quote_spanned!(name.span()=> (::core::file!(), ::core::line!()));

    let wishes = wishes(options, private);

    // At the function's name: messages about wrong arguments, and editors, then show the function.
    let call = Ident::new("call", name.span());

    quote! {
        #function

        #(#twin_attrs)*
        #[doc = #twin_doc]
        #[allow(non_camel_case_types)]
        #vis struct #name {}

        #(#cfgs)*
        #[allow(deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
        const _: () = {
            use #private::few_rank0::IsNotFew as _;
            use #private::few_rank1::IsFew as _;
            use #private::rank0::Refused as _;
            use #private::rank1::Owned as _;
            use #private::rank2::{Value as _, ValueSlice as _};
            use #private::rank3::Text as _;
            use #private::rank4::{BulkSlice as _, BulkValue as _};
            use #private::{StateItself as _, StateOrDebug as _, StateOrError as _};

            impl #name {
                #[doc = #call_doc]
                #[inline]
                #vis fn #call #lifetime (#(#call_parameters),*) -> #krate::Call<#call_lifetime, #name> {
                    let __few = ::core::option::Option::Some(#private::Few::NONE) #(#few)*;
                    if let ::core::option::Option::Some(__few) = __few {
                        return #krate::Call::few(__few);
                    }
                    let __call = #krate::Call::encode(|__writer| {
                        #(#encode)*
                        ::core::result::Result::Ok(())
                    });
                    #(#done)*
                    __call
                }
            }

            static __INFO: #krate::TaskInfo =
                #krate::TaskInfo::new(#task_name, #place, #text, #private::Body::#body, #state_type)
                    #wishes;

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
                #state_is_there
                #private::Run::start(__run, &__arguments)?;
                let __value: #output = #name(#(#passed),*);
                #finish
            }

            fn __check() {
                #(#check)*
                #check_returned
            }

            #private::inventory::submit! { #private::Registration(&__INFO) }
        };
    }
}

/// What the attribute says that a call may take; nothing if it says nothing.
fn wishes(options: &Options, private: &TokenStream) -> Option<TokenStream> {
    let some = |value: Option<TokenStream>| match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    };
    let time = |limit: &Option<Limit<Duration>>| {
        some(limit.as_ref().map(|limit| {
            let (seconds, nanos) = (limit.value.as_secs(), limit.value.subsec_nanos());
            quote!(::core::time::Duration::new(#seconds, #nanos))
        }))
    };
    let (timeout, soft_timeout) = (time(&options.timeout), time(&options.soft_timeout));
    let retries = options.retries.as_ref().map(|limit| limit.value);
    let memory = options.memory.as_ref().map(|limit| limit.value);
    let any = options.timeout.is_some() || options.soft_timeout.is_some() || retries.is_some() || memory.is_some();
    let (retries, memory) = (some(retries.map(|retries| quote!(#retries))), some(memory.map(|bytes| quote!(#bytes))));
    any.then(|| quote!(.wishes(#private::Wish::declared(#timeout, #soft_timeout, #retries, #memory))))
}

/// The documentation of the twin and of its `call`.
fn docs(name: &str, parameters: &[Parameter]) -> (String, String) {
    let names: Vec<String> =
        parameters.iter().filter(|parameter| parameter.travels().is_some()).map(Parameter::label).collect();
    let names = names.join(", ");
    let twin = format!(
        "The task of the function [`{name}`](fn@{name}).\n\n`{name}::call({names})` makes a call of it, which a pool or \
         a process runs."
    );
    let call = format!("Makes a call of [`{name}`](fn@{name}): it has not run yet, and a pool or a process runs it.");
    (twin, call)
}

/// The attributes of those names, also where `cfg_attr` holds them.
fn forwarded(attrs: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    attrs
        .iter()
        .filter_map(|attr| Some((attr, keep(&attr.meta, names)?)))
        .map(|(attr, meta)| parse_quote_spanned!(attr.span()=> #[#meta]))
        .collect()
}

fn keep(meta: &Meta, names: &[&str]) -> Option<Meta> {
    if names.iter().any(|name| meta.path().is_ident(name)) {
        return Some(meta.clone());
    }
    let Meta::List(list) = meta else { return None };
    if !list.path.is_ident("cfg_attr") {
        return None;
    }
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let mut parts = parts.into_iter();
    let condition = parts.next()?;
    let kept: Vec<Meta> = parts.filter_map(|part| keep(&part, names)).collect();
    (!kept.is_empty()).then(|| parse_quote!(cfg_attr(#condition, #(#kept),*)))
}
