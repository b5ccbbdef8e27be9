//! macros
/// placeholder
#[proc_macro_attribute]
pub fn task(_: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream { item }
