//! What is put into a message: a value, and the handles in it.

use crate::codec::{CodecError, Reader, Writer};
use crate::memory::Regions;
use crate::memory::referred::collect;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};

/// A value as bytes, and what they refer to.
#[inline]
pub(in crate::objects) fn encode<T, B: SameEncoding<T> + ?Sized>(item: &B) -> Result<(Vec<u8>, Regions), CodecError> {
    let mut writer = Writer::recycled();
    let (encoded, handles) = collect(|| item.encode_item(&mut writer));
    encoded.map(|()| (writer.into_bytes(), handles))
}

/// The value that these bytes are, which are returned if they are not a part of it.
///
/// One by one, bytes take several times as long to read as all at once.
#[inline]
pub(in crate::objects) fn decode<T: DeserializeOwned + 'static>(
    mut bytes: Vec<u8>,
) -> Result<(T, Vec<u8>), CodecError> {
    if TypeId::of::<T>() == TypeId::of::<Vec<u8>>()
        && bytes.len() > FEW
        && let Some(start) = start_of_all_bytes(&bytes)
    {
        bytes.drain(..start);
        let mut value = Some(bytes);
        if let Some(value) = (&mut value as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take) {
            return Ok((value, Vec::new()));
        }
        return Err(CodecError::new("a type is another one"));
    }
    let mut reader = Reader::new(&bytes);
    let value = reader.value()?;
    reader.finish()?;
    Ok((value, bytes))
}

/// So many bytes are better copied, so that the buffer can be used again.
const FEW: usize = 1 << 12;

/// Where the bytes of a `Vec<u8>` begin, if that is what all of it is: a length in LEB128, and as many bytes.
fn start_of_all_bytes(encoded: &[u8]) -> Option<usize> {
    let mut length = 0_u64;
    for (index, byte) in encoded.iter().take(9).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = index + 1;
            return (length == (encoded.len() - start) as u64).then_some(start);
        }
    }
    None
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
