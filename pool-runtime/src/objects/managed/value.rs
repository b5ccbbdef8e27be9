//! Values as a server has them that does not know their types.

use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::memory::Regions;
use crate::memory::referred::{came_with, collect, find, found};
use crate::objects::reference::out_of_place;
use crate::panic;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A value, and what it refers to: it holds that, and takes it along.
#[derive(Clone)]
pub(super) struct Enclosed {
    bytes: Vec<u8>,
    handles: Regions,
}

/// `what` is what the value is for: a key, an item. A key has no handles.
pub(super) fn encoded<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let encode = || {
        let mut writer = Writer::new();
        writer.value(value).map(|()| writer.into_bytes())
    };
    told(what, panic::catch(encode))
}

pub(super) fn enclosed<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Enclosed> {
    let encode = || {
        let mut writer = Writer::new();
        let (encoded, handles) = collect(|| writer.value(value));
        encoded.map(|()| Enclosed { bytes: writer.into_bytes(), handles })
    };
    told(what, panic::catch(encode))
}

fn told<R>(what: &str, encoded: Result<Result<R, CodecError>, panic::PanicInfo>) -> Result<R> {
    match encoded {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(why)) => Err(Error::new(Kind::EncodeArgument(format!("`{what}` cannot be encoded: {why}")))),
        Err(panic) => Err(Error::new(Kind::PanickedEncoding { panic })),
    }
}

impl Enclosed {
    pub(super) fn is_encoded_as(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }

    /// The value. What it refers to is held as long as this is.
    pub(super) fn open<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        came_with(&self.handles, || of_bytes(what, &self.bytes))
    }
}

/// Bytes, all at once.
struct AllBytes<B>(B);

impl<B: AsRef<[u8]>> Serialize for AllBytes<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_ref())
    }
}

impl<'de> Deserialize<'de> for AllBytes<Vec<u8>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copied;

        impl de::Visitor<'_> for Copied {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }

        deserializer.deserialize_bytes(Copied).map(Self)
    }
}

impl Serialize for Enclosed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.handles.iter().all(found) {
            return Err(out_of_place("value with handles"));
        }
        let ids: Vec<_> = self.handles.iter().map(|region| region.id()).collect();
        (AllBytes(&self.bytes), ids).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Enclosed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (AllBytes(bytes), ids) = <(AllBytes<Vec<u8>>, Vec<u64>)>::deserialize(deserializer)?;
        let handles = ids.into_iter().map(find).collect::<Result<Vec<_>, _>>();
        Ok(Self { bytes, handles: handles.map_err(de::Error::custom)?.into() })
    }
}

pub(super) fn of_bytes<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let decoded = panic::catch(|| {
        let mut reader = Reader::new(bytes);
        reader.value().and_then(|value| reader.finish().map(|()| value))
    });
    let failed = |kind| Error::new(kind).with_ran(Ran::Yes);
    match decoded {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why @ CodecError { .. })) => Err(failed(Kind::DecodeResult(format!("the {what}: {why}")))),
        Err(panic) => Err(failed(Kind::PanickedDecoding { panic })),
    }
}
