//! The options in the parentheses of `#[task(…)]`, `#[managed(…)]` and `#[main(…)]`.
//!
//! After a mistake, the rest of the options is still read, so that one build reports every mistake.

use crate::refusals::{Refusals, Subject};
use bytesize::ByteSize;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use std::time::Duration;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::spanned::Spanned as _;
use syn::{Error, Expr, LitInt, LitStr, Path, Token};

#[derive(Default)]
pub struct Options {
    pub name: Option<Located<String>>,
    pub krate: Option<Path>,
    pub initializer: Option<Span>,
    pub timeout: Option<Located<Duration>>,
    pub soft_timeout: Option<Located<Duration>>,
    pub retries: Option<Located<u32>>,
    pub memory: Option<Located<u64>>,
    pub max_result: Option<Located<u64>>,
}

/// The value of an option, and where it stands.
pub struct Located<T> {
    pub value: T,
    pub at: Span,
}

impl Options {
    pub fn parse(tokens: TokenStream, refusals: &mut Refusals) -> Self {
        let mut options = Self::default();
        let read = |key: &Ident, input: ParseStream<'_>, subject| match subject {
            Subject::Task => options.read(key, input),
            Subject::Method => options.read_of_managed(key, input),
        };
        read_all(tokens, read, refusals);
        options.refuse_contradictions(refusals);
        options
    }

    pub fn parse_of_main(tokens: TokenStream, refusals: &mut Refusals) -> Self {
        let mut options = Self::default();
        read_all(tokens, |key, input, _| options.read_of_main(key, input), refusals);
        options
    }

    fn read_of_managed(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "name" | "crate" => self.read(key, input),
            "skip" => {
                let reason = "`skip` goes to a function of the `impl` that clients are not to call: write \
                              `#[managed(skip)]` there";
                Err(Error::new(key.span(), reason))
            }
            unknown => {
                let reason = format!("unknown option `{unknown}`: use `name = \"…\"` or `crate = path`");
                Err(Error::new(key.span(), reason))
            }
        }
    }

    fn read_of_main(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "crate" => self.read(key, input),
            unknown => {
                let reason = format!(
                    "unknown option `{unknown}`: use `crate = path`; options of an executor go to its own attribute"
                );
                Err(Error::new(key.span(), reason))
            }
        }
    }

    fn read(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "initializer" => once(&mut self.initializer, key, || Ok(key.span())),
            "name" => once(&mut self.name, key, || located(input, key, "\"…\"", task_name)),
            "crate" => once(&mut self.krate, key, || {
                equals(input, key, "path")?;
                input.call(Path::parse_mod_style)
            }),
            "timeout" => once(&mut self.timeout, key, || located(input, key, "\"30s\"", duration)),
            "soft_timeout" => once(&mut self.soft_timeout, key, || located(input, key, "\"20s\"", duration)),
            "retries" => once(&mut self.retries, key, || located(input, key, "2", retries)),
            "memory" => once(&mut self.memory, key, || located(input, key, "\"512MiB\"", memory)),
            "max_result" => once(&mut self.max_result, key, || located(input, key, "\"1MiB\"", max_result)),
            unknown => {
                let reason = format!(
                    "unknown option `{unknown}`: use `name = \"…\"`, `initializer`, `timeout = \"30s\"`, \
                     `soft_timeout = \"20s\"`, `retries = 2`, `memory = \"512MiB\"`, `max_result = \"1MiB\"` or \
                     `crate = path`"
                );
                Err(Error::new(key.span(), reason))
            }
        }
    }

    fn refuse_contradictions(&self, refusals: &mut Refusals) {
        if let (Some(soft), Some(hard)) = (&self.soft_timeout, &self.timeout)
            && soft.value >= hard.value
        {
            let reason = "the worker would be killed before the task is told to stop: make `soft_timeout` shorter than \
                          `timeout`";
            refusals.add(soft.at, reason);
        }
        if self.initializer.is_some() {
            let limits = [
                self.soft_timeout.as_ref().map(|limit| limit.at),
                self.retries.as_ref().map(|limit| limit.at),
                self.memory.as_ref().map(|limit| limit.at),
                self.max_result.as_ref().map(|limit| limit.at),
            ];
            for at in limits.into_iter().flatten() {
                refusals.add(at, "an initializer runs before any call, so only `timeout` applies: remove this option");
            }
        }
    }
}

fn read_all(
    tokens: TokenStream,
    mut read: impl FnMut(&Ident, ParseStream<'_>, Subject) -> syn::Result<()>,
    refusals: &mut Refusals,
) {
    let parsed = (|input: ParseStream<'_>| {
        while !input.is_empty() {
            let key = input.call(Ident::parse_any)?;
            if let Err(error) = read(&key, input, refusals.subject) {
                refusals.errors.push(error);
                while !input.is_empty() && !input.peek(Token![,]) {
                    input.parse::<TokenTree>()?;
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    })
    .parse2(tokens);
    refusals.errors.extend(parsed.err());
}

/// Reads an option that may be given once.
fn once<T>(option: &mut Option<T>, key: &Ident, read: impl FnOnce() -> syn::Result<T>) -> syn::Result<()> {
    if option.is_some() {
        return Err(Error::new(key.span(), format!("option `{key}` is given twice: keep one")));
    }
    *option = Some(read()?);
    Ok(())
}

fn equals(input: ParseStream<'_>, key: &Ident, example: &str) -> syn::Result<()> {
    let equals = input.parse::<Token![=]>();
    equals.map(drop).map_err(|_| Error::new(key.span(), format!("`{key}` needs a value: write `{key} = {example}`")))
}

type Convert<T> = fn(&Expr) -> Result<T, &'static str>;

/// Reads `= value`. The error of `convert` is the reason for a refusal.
fn located<T>(input: ParseStream<'_>, key: &Ident, example: &str, convert: Convert<T>) -> syn::Result<Located<T>> {
    equals(input, key, example)?;
    let value: Expr = input.parse()?;
    let at = value.span();
    convert(&value).map(|value| Located { value, at }).map_err(|reason| Error::new(at, reason))
}

fn task_name(value: &Expr) -> Result<String, &'static str> {
    string(value).filter(|name| !name.is_empty()).ok_or("a task's name must be a string literal that is not empty")
}

fn duration(value: &Expr) -> Result<Duration, &'static str> {
    match string(value).and_then(|text| humantime::parse_duration(&text).ok()) {
        Some(Duration::ZERO) => Err("a time limit must be longer than zero"),
        Some(time) => Ok(time),
        None => Err("expected a string literal with a time and its unit, such as \"30s\", \"250ms\" or \"1h 30m\""),
    }
}

fn retries(value: &Expr) -> Result<u32, &'static str> {
    let number = literal(value).and_then(|number: LitInt| number.base10_parse().ok());
    number.ok_or("expected a number of retries that fits into a `u32`, such as 2")
}

fn memory(value: &Expr) -> Result<u64, &'static str> {
    size(value, "a memory limit must be greater than zero")
}

fn max_result(value: &Expr) -> Result<u64, &'static str> {
    size(value, "a limit of the result must be greater than zero")
}

fn size(value: &Expr, zero: &'static str) -> Result<u64, &'static str> {
    // A size without a unit would be bytes, which is hardly ever what was meant.
    let size = string(value).filter(|size| size.trim_end().ends_with(['B', 'b']));
    match size.and_then(|size| size.parse().ok()) {
        Some(ByteSize(0)) => Err(zero),
        Some(ByteSize(bytes)) => Ok(bytes),
        None => Err("expected a string literal with a size and its unit, such as \"512MiB\" or \"2GB\""),
    }
}

fn string(value: &Expr) -> Option<String> {
    literal(value).map(|text: LitStr| text.value())
}

/// The value as a literal of that kind, also inside the invisible group in which a `macro_rules!` passes it on.
fn literal<T: Parse>(value: &Expr) -> Option<T> {
    syn::parse2(value.to_token_stream()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::{Delimiter, Group};
    use quote::quote;
    use syn::parse_quote;

    #[test]
    fn a_macro_can_pass_a_value_on() {
        let passed = Group::new(Delimiter::None, quote!("512MiB"));
        assert_eq!(memory(&parse_quote!(#passed)), Ok(512 << 20));
    }

    #[test]
    fn sizes_and_times_have_units() {
        let size = |value: Expr| memory(&value).ok();
        assert_eq!(size(parse_quote!("512MiB")), Some(512 << 20));
        assert_eq!(size(parse_quote!("2 GB")), Some(2_000_000_000));
        assert_eq!(size(parse_quote!("100B")), Some(100));
        for refused in
            [parse_quote!("512"), parse_quote!(512), parse_quote!("0MiB"), parse_quote!("many"), parse_quote!("")]
        {
            assert_eq!(size(refused), None);
        }
        let time = |value: Expr| duration(&value).ok();
        assert_eq!(time(parse_quote!("250ms")), Some(Duration::from_millis(250)));
        assert_eq!(time(parse_quote!("1h 30m")), Some(Duration::from_secs(5400)));
        for refused in
            [parse_quote!("30"), parse_quote!(30), parse_quote!("0s"), parse_quote!("soon"), parse_quote!("-1s")]
        {
            assert_eq!(time(refused), None);
        }
    }
}
