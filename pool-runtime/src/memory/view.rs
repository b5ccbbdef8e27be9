//! A reference that keeps alive what it refers to.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A reference into what an `Arc` holds, together with that `Arc`.
///
/// It is as cheap as a reference: what it refers to need not be looked up again.
#[derive(Debug)]
pub(crate) struct View<T: ?Sized, H> {
    seen: NonNull<T>,
    holder: Arc<H>,
}

// SAFETY: it is an `Arc<H>` and a `&T`, and can go where both can.
unsafe impl<T: ?Sized + Sync, H: Send + Sync> Send for View<T, H> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync, H: Send + Sync> Sync for View<T, H> {}

impl<T: ?Sized + 'static, H> View<T, H> {
    /// A view of what `see` finds in the holder.
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
        // SAFETY: `seen` was borrowed from what `holder` holds. That stays where it is and is lent to nobody mutably,
        // as long as this `Arc` of it exists, which is never handed out but as a reference.
        unsafe { self.seen.as_ref() }
    }
}

impl<T: ?Sized, H> Clone for View<T, H> {
    fn clone(&self) -> Self {
        Self { seen: self.seen, holder: self.holder.clone() }
    }
}
