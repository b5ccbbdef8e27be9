//! What `#[managed]` expands to: the impl, the proxy, and the entries in the table of methods.
//!
//! The expansion keeps to the rules that `expand.rs` names.

use crate::expand::{Fragments, fragments, probe, select};
use crate::managed::{ConstructorError, ManagedFunction, ManagedImpl, Role};
use crate::options::Located;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Type, parse_quote_spanned};

/// The items that replace the annotated impl.
pub fn expand(managed: &ManagedImpl) -> TokenStream {
    let ManagedImpl { item, options, name, functions, vis } = managed;
    let krate = &options.krate.as_ref().map_or_else(|| quote!(::pool_runtime), |path| quote!(#path));
    let private = &quote!(#krate::__private);
    let of = &*item.self_ty;
    let plain_name = name.unraw().to_string();
    let proxy = &format_ident!("{plain_name}Proxy", span = name.span());
    let kind = match &options.name {
        Some(Located { value, .. }) => quote!(#value),
        None => quote!(::core::concat!(::core::module_path!(), "::", #plain_name)),
    };
    let cfgs = select(&item.attrs, &["cfg"]);
    let parts = Parts { krate, private, of, proxy, kind: &kind };
    let (offered, entries): (Vec<_>, Vec<_>) = functions.iter().map(|function| parts.function(function)).unzip();
    let can_be_managed = quote_spanned!(of.span()=> #private::can_be_managed::<#of>(););
    let proxy_doc = format!(
        "A proxy of a `{plain_name}` that lives in the server of a `Manager`.\n\nIt has the same methods, each of which \
         returns a `pool_runtime::Result`: its error says why the call could not be made, or that the method panicked. A \
         clone, and what another process gets, stand for the same object."
    );
    let open_doc = format!(
        "The `{plain_name}` that was published by this name.\n\n# Errors\n\nNothing of this type was published by this \
         name, or the server is gone."
    );

    quote! {
        #item

        #(#cfgs)*
        #[doc = #proxy_doc]
        #[allow(dead_code, private_interfaces, unreachable_pub)]
        #[derive(::core::clone::Clone, ::core::cmp::PartialEq, ::core::cmp::Eq, ::core::hash::Hash)]
        #vis struct #proxy {
            __object: #private::ObjectRef,
        }

        #(#cfgs)*
        #[allow(dead_code, deprecated, private_interfaces, unreachable_pub)]
        #[allow(clippy::all, clippy::pedantic, clippy::nursery)]
        const _: () = {
            use #private::rank0::{Refused as _, RefusedError as _};
            use #private::{ByValue as _, Lend as _};

            const __KIND: &::core::primitive::str = #kind;

            impl #proxy {
                #[doc = #open_doc]
                #vis fn open(
                    manager: &#krate::Manager,
                    name: &::core::primitive::str,
                ) -> #krate::Result<Self> {
                    let __object = #private::ObjectRef::open(#krate::Manager::host(manager), name, __KIND)?;
                    ::core::result::Result::Ok(Self { __object })
                }

                #(#offered)*
            }

            #[automatically_derived]
            impl #krate::Proxy for #proxy {
                fn object(&self) -> &#private::ObjectRef {
                    &self.__object
                }
            }

            #[automatically_derived]
            impl ::core::fmt::Debug for #proxy {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::fmt::Formatter::write_fmt(
                        __f,
                        ::core::format_args!("{}({:?})", ::core::stringify!(#proxy), self.__object),
                    )
                }
            }

            #[automatically_derived]
            impl #private::serde::Serialize for #proxy {
                fn serialize<__S: #private::serde::Serializer>(
                    &self,
                    __serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #private::serde::Serialize::serialize(&self.__object, __serializer)
                }
            }

            #[automatically_derived]
            impl<'__de> #private::serde::Deserialize<'__de> for #proxy {
                fn deserialize<__D: #private::serde::Deserializer<'__de>>(
                    __deserializer: __D,
                ) -> ::core::result::Result<Self, __D::Error> {
                    ::core::result::Result::map(
                        #private::serde::Deserialize::deserialize(__deserializer),
                        |__object| Self { __object },
                    )
                }
            }

            fn __check_object() {
                #can_be_managed
            }

            #(#entries)*
        };
    }
}

/// What all functions of one impl have in common.
struct Parts<'p> {
    krate: &'p TokenStream,
    private: &'p TokenStream,
    of: &'p Type,
    proxy: &'p syn::Ident,
    kind: &'p TokenStream,
}

impl Parts<'_> {
    /// What the proxy has of a function, and its entry in the table.
    fn function(&self, function: &ManagedFunction) -> (TokenStream, TokenStream) {
        let Self { private, of, kind, .. } = self;
        let ManagedFunction { attrs, name, role, parameters, text, .. } = function;
        let fragments = fragments(parameters, private);
        let Fragments { check, decode, passed, .. } = &fragments;
        let (plain_name, cfgs) = (function.label(), select(attrs, &["cfg"]));
        let [info, invoke, checks] =
            ["__INFO_", "__invoke_", "__check_"].map(|part| format_ident!("{part}{plain_name}"));
        let location = quote_spanned!(name.span()=> (::core::file!(), ::core::line!()));
        let decoded = quote! {
            let mut __arguments = #private::Run::arguments(__run);
            #(#decode)*
        };
        let (offered, invoked, body, returned);
        match role {
            Role::Method { mutable, output } => {
                let result = probe(output, private);
                let (lock, reference) =
                    if *mutable { (quote!(write), quote!(&mut)) } else { (quote!(read), quote!(&)) };
                let guard = if *mutable { quote!(mut __guard) } else { quote!(__guard) };
                offered = self.method(function, &fragments, output);
                body = quote!(Method(#invoke));
                returned = Some(quote_spanned!(output.span()=> #result.check_returned();));
                invoked = quote! {
                    fn #invoke(
                        __object: &#private::AnyObject,
                        __run: &mut #private::Run<'_>,
                    ) -> ::core::result::Result<(), #private::Fault> {
                        let __kept = #private::ManagedObject::<#of>::of(__object)?;
                        #decoded
                        #private::Run::start(__run, &__arguments)?;
                        let __value: #output = {
                            let #guard = __kept.#lock();
                            <#of>::#name(#reference *__guard, #(#passed),*)
                        };
                        #private::Run::finish_reply(__run, |__writer| #result.encode_last(__value, __writer))
                    }
                };
            }
            Role::Constructor { error } => {
                let kept = quote_spanned!(of.span()=> #private::can_be_managed::<#of>());
                let made = quote!(::core::result::Result::Ok(::core::option::Option::Some(#kept(__made))));
                let error = &error.as_ref().map(|error| error_type(error, private));
                let finish = match error {
                    None => quote!(let __made: #of = __made; #made),
                    Some(error) => {
                        let refusal = probe(&refused(error), private);
                        quote! {
                            let __made: ::core::result::Result<#of, #error> = __made;
                            match __made {
                                ::core::result::Result::Ok(__made) => #made,
                                ::core::result::Result::Err(__refusal) => {
                                    let __refusal = ::core::result::Result::Err(__refusal);
                                    #private::Run::finish_reply(__run, |__writer| #refusal.encode_last(__refusal, __writer))?;
                                    ::core::result::Result::Ok(::core::option::Option::None)
                                }
                            }
                        }
                    }
                };
                offered = self.constructor(function, &fragments, error.as_ref());
                body = quote!(Constructor(#invoke));
                returned = error.as_ref().map(|error| {
                    let refusal = probe(&refused(error), private);
                    quote_spanned!(error.span()=> #refusal.check_returned();)
                });
                invoked = quote! {
                    fn #invoke(
                        __run: &mut #private::Run<'_>,
                    ) -> ::core::result::Result<::core::option::Option<::std::boxed::Box<#private::AnyObject>>, #private::Fault>
                    {
                        #decoded
                        #private::Run::start(__run, &__arguments)?;
                        let __made = <#of>::#name(#(#passed),*);
                        #finish
                    }
                };
            }
        }
        let entry = quote! {
            #(#cfgs)*
            #[allow(non_upper_case_globals)]
            static #info: #private::MethodInfo = #private::MethodInfo::new(
                __KIND,
                ::core::concat!(#kind, "::", #plain_name),
                #location,
                #text,
                #private::MethodBody::#body,
            );

            #(#cfgs)*
            #[allow(non_snake_case)]
            #invoked

            #(#cfgs)*
            #[allow(non_snake_case)]
            fn #checks() {
                #(#check)*
                #returned
            }

            #(#cfgs)*
            #private::inventory::submit! { #private::MethodRegistration(&#info) }
        };
        (offered, entry)
    }

    /// The proxy's method.
    fn method(&self, function: &ManagedFunction, fragments: &Fragments<'_>, output: &Type) -> TokenStream {
        let Self { krate, private, .. } = self;
        let ManagedFunction { vis, name, attrs, .. } = function;
        let (attrs, info) = (select(attrs, KEPT), format_ident!("__INFO_{}", function.label()));
        let Fragments { parameters, encode, .. } = fragments;
        let result = probe(output, private);
        quote! {
            #(#attrs)*
            #vis fn #name(&self, #(#parameters),*) -> #krate::Result<#output> {
                #private::ObjectRef::call(
                    &self.__object,
                    &#info,
                    |__writer| {
                        #(#encode)*
                        ::core::result::Result::Ok(())
                    },
                    |__reader| #result.decode(__reader),
                )
            }
        }
    }

    /// The proxy's function that makes an object.
    fn constructor(&self, function: &ManagedFunction, fragments: &Fragments<'_>, error: Option<&Type>) -> TokenStream {
        let Self { krate, private, proxy, .. } = self;
        let ManagedFunction { vis, name, attrs, .. } = function;
        // The user's parameters may have this name.
        let manager = format_ident!("manager", span = Span::mixed_site());
        let (attrs, info) = (select(attrs, KEPT), format_ident!("__INFO_{}", function.label()));
        let Fragments { parameters, encode, .. } = fragments;
        let (returned, refusal, made, refuse);
        match error {
            None => {
                returned = quote!(Self);
                // The server refuses nothing for such a constructor.
                refusal = quote! {
                    |_| ::core::result::Result::<::core::convert::Infallible, _>::Err(
                        #private::CodecError::unexpected_refusal()
                    )
                };
                made = quote!(#proxy { __object });
                refuse = quote!(match __refusal {});
            }
            Some(error) => {
                let decode = probe(&refused(error), private);
                returned = quote!(::core::result::Result<Self, #error>);
                refusal = quote! {
                    |__reader| -> ::core::result::Result<#error, #private::CodecError> {
                        match #decode.decode(__reader)? {
                            ::core::result::Result::Err(__refusal) => ::core::result::Result::Ok(__refusal),
                            ::core::result::Result::Ok(()) => {
                                ::core::result::Result::Err(#private::CodecError::unexpected_refusal())
                            }
                        }
                    }
                };
                made = quote!(::core::result::Result::Ok(#proxy { __object }));
                refuse = quote!(::core::result::Result::Err(__refusal));
            }
        }
        quote! {
            #(#attrs)*
            #vis fn #name(#manager: &#krate::Manager, #(#parameters),*) -> #krate::Result<#returned> {
                let __made = #private::ObjectRef::make(
                    #krate::Manager::host(#manager),
                    &#info,
                    |__writer| {
                        #(#encode)*
                        ::core::result::Result::Ok(())
                    },
                    #refusal,
                )?;
                ::core::result::Result::Ok(match __made {
                    #private::Made::Object(__object) => #made,
                    #private::Made::Refused(__refusal) => #refuse,
                })
            }
        }
    }
}

/// The error's type. What that of an alias is, the compiler knows.
fn error_type(error: &ConstructorError, private: &TokenStream) -> Type {
    match error {
        ConstructorError::Written(error) => (**error).clone(),
        ConstructorError::OfAlias(result) => {
            parse_quote_spanned!(result.span()=> <#result as #private::ResultParts>::Error)
        }
    }
}

/// What a constructor that fails sends: a result, as errors that cannot travel by themselves do in one.
fn refused(error: &Type) -> Type {
    parse_quote_spanned!(error.span()=> ::core::result::Result<(), #error>)
}

/// What the proxy's functions have of the attributes.
const KEPT: &[&str] = &["doc", "cfg", "deprecated"];
