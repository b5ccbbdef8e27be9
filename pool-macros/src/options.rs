//! What stands in the parentheses of `#[task(…)]`.
//!
//! An unknown option, one that is given twice, and a value that makes no sense are refused where they stand; the
//! options around it are read all the same, so that all mistakes are told at once.

use crate::refusals::Refusals;
use bytesize::ByteSize;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use std::time::Duration;
use syn::{
    Error, Expr, ExprLit, Lit, LitStr, Path, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    spanned::Spanned as _,
};

#[derive(Default)]
pub struct Options {
    pub name: Option<LitStr>,
    pub krate: Option<Path>,
    pub initializer: Option<Span>,
    pub timeout: Option<Limit<Duration>>,
    pub soft_timeout: Option<Limit<Duration>>,
    pub retries: Option<Limit<u32>>,
    pub memory: Option<Limit<u64>>,
}

/// What a call may take, and where that is said.
pub struct Limit<T> {
    pub value: T,
    pub at: Span,
}

const KNOWN: &str = "`name = \"…\"`, `initializer`, `crate = path`, `timeout = \"30s\"`, `soft_timeout = \"20s\"`, \
                     `retries = 2` or `memory = \"512MiB\"`";

impl Options {
    pub fn parse(tokens: TokenStream, refusals: &mut Refusals) -> Self {
        let mut options = Self::default();
        let parsed = (|input: ParseStream<'_>| {
            while !input.is_empty() {
                let key = input.call(Ident::parse_any)?;
                if let Err(error) = options.read(&key, input) {
                    refusals.add_error(error);
                    skip_value(input)?;
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        })
        .parse2(tokens);
        if let Err(error) = parsed {
            refusals.add_error(error);
        }
        options.refuse_contradictions(refusals);
        options
    }

    fn read(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "initializer" => once(&mut self.initializer, key, || Ok(key.span())),
            "name" => once(&mut self.name, key, || task_name(&value(input, key, "\"…\"")?)),
            "crate" => once(&mut self.krate, key, || {
                equals(input, key, "path")?;
                input.call(Path::parse_mod_style)
            }),
            "timeout" => once(&mut self.timeout, key, || duration(&value(input, key, "\"30s\"")?)),
            "soft_timeout" => once(&mut self.soft_timeout, key, || duration(&value(input, key, "\"20s\"")?)),
            "retries" => once(&mut self.retries, key, || number(&value(input, key, "2")?)),
            "memory" => once(&mut self.memory, key, || memory(&value(input, key, "\"512MiB\"")?)),
            unknown => Err(Error::new(key.span(), format!("`{unknown}` is not an option of `task`: use {KNOWN}"))),
        }
    }

    fn refuse_contradictions(&self, refusals: &mut Refusals) {
        if let (Some(soft), Some(hard)) = (&self.soft_timeout, &self.timeout)
            && soft.value >= hard.value
        {
            let reason =
                "the task would be killed before it is told to stop: make `soft_timeout` shorter than `timeout`";
            refusals.add(soft.at, reason);
        }
        if self.initializer.is_some() {
            let limits = [
                self.soft_timeout.as_ref().map(|limit| limit.at),
                self.retries.as_ref().map(|limit| limit.at),
                self.memory.as_ref().map(|limit| limit.at),
            ];
            for at in limits.into_iter().flatten() {
                refusals
                    .add(at, "an initializer runs once, before all calls: of the limits, only `timeout` holds for it");
            }
        }
    }
}

/// Reads an option that may be given once.
fn once<T>(option: &mut Option<T>, key: &Ident, read: impl FnOnce() -> syn::Result<T>) -> syn::Result<()> {
    if option.is_some() {
        return Err(Error::new(key.span(), format!("`{key}` is given twice: keep one")));
    }
    *option = Some(read()?);
    Ok(())
}

fn equals(input: ParseStream<'_>, key: &Ident, example: &str) -> syn::Result<()> {
    let equals = input.parse::<Token![=]>();
    equals.map(drop).map_err(|_| Error::new(key.span(), format!("`{key}` needs a value: `{key} = {example}`")))
}

fn value(input: ParseStream<'_>, key: &Ident, example: &str) -> syn::Result<Expr> {
    equals(input, key, example)?;
    input.parse()
}

fn skip_value(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

fn task_name(value: &Expr) -> syn::Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(name), .. }) if !name.value().is_empty() => Ok(name.clone()),
        other => Err(Error::new(other.span(), "a task's name is a string literal that is not empty")),
    }
}

fn duration(value: &Expr) -> syn::Result<Limit<Duration>> {
    let refused =
        || Error::new(value.span(), "a time is a string literal with a unit, such as \"30s\", \"250ms\" or \"1h 30m\"");
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else { return Err(refused()) };
    let time = humantime::parse_duration(&text.value()).map_err(|_| refused())?;
    match time.is_zero() {
        false => Ok(Limit { value: time, at: text.span() }),
        true => Err(Error::new(text.span(), "no task ends before it has begun: give it some time")),
    }
}

fn number(value: &Expr) -> syn::Result<Limit<u32>> {
    let refused = || Error::new(value.span(), "the number of retries is a whole number, such as 2");
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = value else { return Err(refused()) };
    Ok(Limit { value: number.base10_parse().map_err(|_| refused())?, at: number.span() })
}

fn memory(value: &Expr) -> syn::Result<Limit<u64>> {
    let refused =
        || Error::new(value.span(), "a memory size is a string literal with a unit, such as \"512MiB\" or \"2GB\"");
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else { return Err(refused()) };
    let size = text.value();
    // A bare number would be bytes, which nobody means.
    let bytes = size.trim_end().ends_with(['B', 'b']).then(|| size.parse::<ByteSize>().ok()).flatten();
    match bytes.ok_or_else(refused)?.as_u64() {
        0 => Err(Error::new(text.span(), "no task runs without memory: give it some")),
        bytes => Ok(Limit { value: bytes, at: text.span() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn sizes_and_times_have_units() {
        let size = |value: Expr| memory(&value).ok().map(|limit| limit.value);
        assert_eq!(size(parse_quote!("512MiB")), Some(512 << 20));
        assert_eq!(size(parse_quote!("2 GB")), Some(2_000_000_000));
        assert_eq!(size(parse_quote!("100B")), Some(100));
        for refused in
            [parse_quote!("512"), parse_quote!(512), parse_quote!("0MiB"), parse_quote!("many"), parse_quote!("")]
        {
            assert_eq!(size(refused), None);
        }
        let time = |value: Expr| duration(&value).ok().map(|limit| limit.value);
        assert_eq!(time(parse_quote!("250ms")), Some(Duration::from_millis(250)));
        assert_eq!(time(parse_quote!("1h 30m")), Some(Duration::from_secs(5400)));
        for refused in
            [parse_quote!("30"), parse_quote!(30), parse_quote!("0s"), parse_quote!("soon"), parse_quote!("-1s")]
        {
            assert_eq!(time(refused), None);
        }
    }
}
