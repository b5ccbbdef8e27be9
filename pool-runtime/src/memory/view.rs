//! A reference that keeps alive what it refers to.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A reference into what an `Arc` holds, together with that `Arc`. To use it costs no more than a reference.
#[derive(Debug)]
pub(crate) struct View<T: ?Sized, H> {
    seen: NonNull<T>,
    holder: Arc<H>,
}

// SAFETY: it is an `Arc<H>` and a `&T`, and is `Send` and `Sync` if both are.
unsafe impl<T: ?Sized + Sync, H: Send + Sync> Send for View<T, H> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync, H: Send + Sync> Sync for View<T, H> {}

impl<T: ?Sized + 'static, H> View<T, H> {
    /// A view of what `see` returns.
    pub(crate) fn new<E>(holder: Arc<H>, see: impl FnOnce(&H) -> Result<&T, E>) -> Result<Self, E> {
        Ok(Self { seen: NonNull::from_ref(see(&holder)?), holder })
    }

    pub(crate) fn holder(&self) -> &Arc<H> {
        &self.holder
    }
}

impl<T: ?Sized, H> Deref for View<T, H> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `seen` was borrowed from what `holder` holds, which is neither moved nor mutably borrowed while this
        // `Arc` of it exists. The `Arc` is never moved out.
        unsafe { self.seen.as_ref() }
    }
}

impl<T: ?Sized, H> Clone for View<T, H> {
    fn clone(&self) -> Self {
        Self { seen: self.seen, holder: self.holder.clone() }
    }
}
