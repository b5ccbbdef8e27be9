//! Signatures as users read them, in the table of tasks and in messages.
//!
//! The text is hashed, so it must depend on the tokens alone, never on the layout of the source.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{FnArg, Pat, Receiver, ReceiverKind, Signature};

/// The signature in one line: `fn scale(xs: &[f64], by: f64) -> Vec<f64>`.
pub fn signature_text(signature: &Signature) -> String {
    let parameters: Vec<String> = signature
        .inputs
        .iter()
        .map(|input| {
            let input = match input {
                FnArg::Receiver(receiver) => return receiver_text(receiver).to_owned(),
                FnArg::Typed(input) => input,
            };
            let name = match &*input.pat {
                Pat::Ident(pattern) => pattern.ident.to_string(),
                other => readable(other),
            };
            format!("{name}: {}", readable(&input.ty))
        })
        .collect();
    let text = format!("fn {}({}) {}", signature.ident, parameters.join(", "), readable(&signature.output));
    text.trim_end().to_owned()
}

fn receiver_text(receiver: &Receiver) -> &'static str {
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => "&mut self",
        ReceiverKind::Reference(_, _, None) => "&self",
        // Others are refused.
        _ => "self",
    }
}

/// Tokens with the spaces that rustfmt would put between them in a type.
fn readable(part: impl ToTokens) -> String {
    let mut text = String::new();
    write_readable(part.into_token_stream(), &mut text);
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
                    text.push_str(" -> ");
                }
                // Spaces surround a binary operator only: `*` also begins a pointer, and `-` a number.
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
