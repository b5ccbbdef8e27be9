//! Signatures and types as people write them, for the table of tasks and for messages.
//!
//! The text is hashed, so it must depend on the tokens alone, never on how the source was laid out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{FnArg, Pat, Signature};

/// The signature as one would write it: `fn scale(xs: &[f64], by: f64) -> Vec<f64>`.
pub fn signature_text(signature: &Signature) -> String {
    let parameters: Vec<String> = signature
        .inputs
        .iter()
        .filter_map(|input| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(input) => {
                let name = match &*input.pat {
                    Pat::Ident(pattern) => pattern.ident.to_string(),
                    other => readable(other.to_token_stream()),
                };
                Some(format!("{name}: {}", readable(input.ty.to_token_stream())))
            }
        })
        .collect();
    let output = readable(signature.output.to_token_stream());
    let output = if output.is_empty() { output } else { format!(" {output}") };
    format!("fn {}({}){output}", signature.ident, parameters.join(", "))
}

/// Tokens with the spaces that rustfmt would put between them in a type.
pub fn readable(tokens: TokenStream) -> String {
    let mut text = String::new();
    write_readable(tokens, &mut text);
    text.trim().to_owned()
}

fn write_readable(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write_readable(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' => {
                    text.push(punct.as_char());
                    if tokens.peek().is_some() {
                        text.push(' ');
                    }
                }
                '-' if matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '>') => {
                    tokens.next();
                    text.push_str(if text.is_empty() { "-> " } else { " -> " });
                }
                // Between two operands; before one, `*` belongs to a pointer and `-` to a number.
                operator @ ('+' | '=' | '*' | '-' | '/' | '%') if text.ends_with(ends_operand) => {
                    text.extend([' ', operator, ' ']);
                }
                other => text.push(other),
            },
            word => {
                if text.ends_with(ends_operand) {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

fn ends_operand(last: char) -> bool {
    last.is_alphanumeric() || "_)]}>".contains(last)
}
