//! Which types may stand in the signature of a task or a method.
//!
//! A type is judged by its syntax alone. What a name stands for is unknown here, so a type that cannot be serialized
//! is left to the bounds of the expansion.

use crate::refusals::{Refusals, Subject};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Expr, GenericArgument, Generics, Lifetime, PathArguments, Type, TypePath, TypeTraitObject};

/// Where a type stands in a signature.
#[derive(Clone, Copy, PartialEq)]
pub enum Position {
    Argument,
    Result,
    /// The state is never sent, but lives as long as its worker.
    State,
}

/// Refuses every part of the type that cannot stand in that position.
pub fn check(ty: &Type, position: Position, generics: &Generics, refusals: &mut Refusals) {
    let boxed = match position {
        Position::Result => error_of(ty).and_then(boxed),
        Position::Argument | Position::State => None,
    };
    Check { position, generics, refusals, boxed }.visit_type(ty);
}

/// The same for the error of a result.
pub fn check_error(error: &Type, generics: &Generics, refusals: &mut Refusals) {
    Check { position: Position::Result, generics, refusals, boxed: boxed(error) }.visit_type(error);
}

/// The second argument of a type that has two, such as `Result<T, E>`.
fn error_of(ty: &Type) -> Option<&Type> {
    match *arguments(ty)? {
        [_, error] => Some(error),
        _ => None,
    }
}

/// The `dyn …` in a `Box<dyn …>`, as an error. The compiler checks that the trait is `Error`.
fn boxed(error: &Type) -> Option<&TypeTraitObject> {
    match *arguments(error)? {
        [Type::TraitObject(object)] => Some(object),
        _ => None,
    }
}

/// The arguments of a type that has a path, if all of them are types.
fn arguments(ty: &Type) -> Option<Vec<&Type>> {
    let Type::Path(TypePath { path, .. }) = peel(ty) else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.segments.last()?.arguments else { return None };
    let types = arguments.args.iter().map(|argument| match argument {
        GenericArgument::Type(ty) => Some(peel(ty)),
        _ => None,
    });
    types.collect()
}

/// The type without parentheses, and without the invisible groups that a `macro_rules!` puts around it.
pub fn peel(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        }
    }
}

struct Check<'a> {
    position: Position,
    generics: &'a Generics,
    refusals: &'a mut Refusals,
    /// What is left to the compiler.
    boxed: Option<&'a TypeTraitObject>,
}

impl Check<'_> {
    fn borrow_reason(&self) -> &'static str {
        match self.position {
            Position::Argument if self.refusals.subject == Subject::Method => {
                "a managed method can borrow a whole parameter, but not a part of one: use an owned type here, such as \
                 `String` or `Vec<T>`"
            }
            Position::Argument => {
                "a task can borrow a whole parameter, but not a part of one: use an owned type here, such as `String` \
                 or `Vec<T>`"
            }
            Position::Result => {
                "a result comes from another process, so it cannot borrow: return an owned type, such as `String` or \
                 `Vec<T>`"
            }
            Position::State => {
                "the state outlives the call, so it cannot borrow: use an owned type, such as `String` or `Vec<T>`"
            }
        }
    }
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type(&mut self, ty: &'ast Type) {
        let sent = self.position != Position::State;
        let (at, reason) = match ty {
            Type::Reference(borrow) if !sent && borrow.lifetime.as_ref().is_some_and(|l| l.ident == "static") => {
                return self.visit_type(&borrow.elem);
            }
            Type::Reference(borrow) => (borrow.and_token.span(), self.borrow_reason()),
            // The types that these mention are not part of the state.
            Type::FnPtr(_) | Type::TraitObject(_) if !sent => return,
            Type::TraitObject(object) if self.boxed.is_some_and(|boxed| std::ptr::eq(boxed, object)) => {
                return visit::visit_type(self, ty);
            }
            Type::Ptr(pointer) if sent => (
                pointer.star_token.span(),
                "a pointer is meaningless in another process: pass the value that it points to",
            ),
            Type::FnPtr(pointer) => (
                pointer.fn_token.span(),
                "a function pointer is meaningless in another process: pass a value that says which function to call, \
                 such as an enum",
            ),
            Type::TraitObject(object) => (
                object.span(),
                "the receiving process must know which concrete type to decode: write that type, or an enum of the \
                 possible ones",
            ),
            Type::ImplTrait(opaque) if sent => (
                opaque.impl_token.span(),
                "the receiving process must know which concrete type to decode: write that type",
            ),
            Type::ImplTrait(opaque) => {
                (opaque.impl_token.span(), "tasks find the state by its concrete type: write that type")
            }
            other => return visit::visit_type(self, other),
        };
        self.refusals.add(at, reason);
    }

    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        if let Some(first) = ty.path.segments.first().filter(|first| first.ident == "Self") {
            let reason = match self.refusals.subject {
                Subject::Task => "a task is a free function, which has no `Self`: write the type's name",
                Subject::Method => {
                    "in the proxy, `Self` would be the proxy: write the type's name, if the object itself is to travel, or \
                     that of its proxy"
                }
            };
            self.refusals.add(&first.ident, reason);
        }
        visit::visit_type_path(self, ty);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        // A lifetime that the function declares is refused where it is declared.
        if lifetime.ident != "static" && self.generics.lifetimes().all(|param| param.lifetime != *lifetime) {
            self.refusals.add(lifetime, self.borrow_reason());
        }
    }

    // The length of an array is not a type, and may contain any expression.
    fn visit_expr(&mut self, _: &'ast Expr) {}
}
