//! `#[managed]` compiles wherever its impl does: under the strictest lints, and beside names that shadow everything.

#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications, missing_debug_implementations)]
#![deny(missing_copy_implementations, single_use_lifetimes, unused_lifetimes, unused_results, unnameable_types)]
#![deny(elided_lifetimes_in_paths, redundant_lifetimes, let_underscore_drop, absolute_paths_not_starting_with_crate)]
#![deny(clippy::all, clippy::pedantic)]

use ::pool_runtime::{Manager, Result, managed};

/// Everything that an expansion could have meant by accident.
pub mod shadowed {
    use ::pool_runtime::managed;
    use ::std::fmt::Debug;
    use ::std::prelude::rust_2024::derive;

    /// Not core's.
    #[derive(Debug, Clone, Copy)]
    pub struct Result;
    /// Not core's.
    pub type Option = u8;
    /// Not alloc's.
    pub type String = u16;
    /// Not alloc's.
    pub type Box = u64;
    /// Not the runtime's.
    pub type Manager = i8;
    /// Not the runtime's.
    pub type Run = i16;
    /// Not core's.
    pub mod core {}
    /// Not the standard library's.
    pub mod std {}
    /// Not the runtime's.
    pub mod pool_runtime {}

    /// Each type is the one of this module.
    #[derive(Debug, Clone, Copy)]
    pub struct Object {
        n: Option,
    }

    #[managed]
    impl Object {
        /// The name of a parameter is that of the proxy's own.
        #[must_use]
        pub fn new(manager: Option) -> Self {
            Self { n: manager }
        }

        /// Each type is the one of this module.
        #[must_use]
        pub fn types(&self, name: Option, b: String, c: &Box, d: &[Manager], e: Run) -> Option {
            let _ = (b, c, d, e);
            name + self.n
        }
    }
}

/// With functions of every visibility, of which most are never called here.
#[derive(Debug, Default)]
pub struct Visible {
    n: u8,
    text: String,
}

#[managed(name = "visible things")]
impl Visible {
    /// Named like a keyword.
    #[must_use]
    pub fn r#new() -> Self {
        Self::default()
    }

    /// Out of use.
    #[deprecated(note = "it is old")]
    pub const fn r#type(&mut self, r#match: u8) -> u8 {
        self.n += r#match;
        self.n
    }

    pub(crate) fn crate_wide(&self, text: &str) -> usize {
        self.text.len() + text.len() + usize::from(self.n)
    }

    pub(super) fn outside(&self) -> Private {
        Private(self.n)
    }

    fn private(&self) -> u8 {
        self.n
    }

    /// Not compiled at all.
    #[cfg(any())]
    pub fn compiled_out(&self, missing: NoSuchType) -> NoSuchType {
        missing
    }

    /// Not compiled at all.
    #[cfg_attr(all(), cfg(any()), doc = "more")]
    pub fn compiled_out_too(&self, missing: NoSuchType) -> NoSuchType {
        missing
    }
}

/// Less visible than the proxy.
#[derive(Debug, ::serde::Serialize, ::serde::Deserialize)]
pub(super) struct Private(u8);

macro_rules! object {
    ($name:ident, $($method:ident -> $ty:ty),*) => {
        struct $name;

        #[managed]
        impl $name {
            fn new() -> Self {
                Self
            }

            $(fn $method(&self) -> $ty {
                <$ty>::MAX
            })*
        }
    };
}

object!(Numbers, small -> u8, large -> Option<u64>);

trait Most {
    const MAX: Self;
}

impl Most for Option<u64> {
    const MAX: Self = Some(u64::MAX);
}

#[test]
fn all_of_them_work() -> Result<()> {
    let manager = Manager::start()?;
    let object = shadowed::ObjectProxy::new(&manager, 2)?;
    assert_eq!(object.types(3, 0, &0, &[0], 0)?, 5);
    let visible = VisibleProxy::new(&manager)?;
    #[allow(deprecated)]
    let changed = visible.r#type(3)?;
    assert_eq!((changed, visible.crate_wide("text")?, visible.outside()?.0), (3, 7, 3));
    assert_eq!(Visible::default().private(), 0);
    let numbers = NumbersProxy::new(&manager)?;
    assert_eq!((numbers.small()?, numbers.large()?), (u8::MAX, Some(u64::MAX)));
    Ok(())
}

#[test]
fn types_in_function_bodies_have_names_of_their_own() {
    struct Inside(u8);

    #[managed(name = "inside of a function")]
    impl Inside {
        fn new(n: u8) -> Inside {
            Inside(n)
        }

        fn get(&self) -> u8 {
            self.0
        }
    }

    let manager = Manager::start().unwrap();
    assert_eq!(InsideProxy::new(&manager, 4).unwrap().get().unwrap(), 4);
}
