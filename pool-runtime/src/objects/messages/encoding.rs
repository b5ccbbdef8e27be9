//! What is put into a message: a value, and the handles in it.

use crate::codec::{CodecError, Writer};
use crate::memory::Regions;
use crate::memory::region::collect;
use serde::Serialize;

/// A value as bytes, and what they refer to.
#[inline]
pub(in crate::objects) fn encode<T, B: SameEncoding<T> + ?Sized>(item: &B) -> Result<(Vec<u8>, Regions), CodecError> {
    let mut writer = Writer::recycled();
    let (encoded, handles) = collect(|| item.encode_item(&mut writer));
    encoded.map(|()| (writer.into_bytes(), handles))
}

/// What can be put on a queue of items of type `T`, or sent through a channel: values whose encoding is that of a `T`.
pub trait SameEncoding<T>: private::Item {}

pub(in crate::objects) mod private {
    use crate::codec::{CodecError, Writer};
    use serde::Serialize;

    pub trait Item {
        fn encode_item(&self, writer: &mut Writer) -> Result<(), CodecError>;
    }

    impl<B: Serialize + ?Sized> Item for B {
        fn encode_item(&self, writer: &mut Writer) -> Result<(), CodecError> {
            writer.value(self)
        }
    }
}

impl<T: Serialize> SameEncoding<T> for T {}
impl SameEncoding<String> for str {}
impl<T: Serialize> SameEncoding<Vec<T>> for [T] {}
