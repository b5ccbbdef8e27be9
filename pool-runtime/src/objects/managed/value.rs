//! Values as a server has them that does not know their types.

use crate::codec::{CodecError, Reader, Writer};
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::panic;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `what` is what the value is for: a key, an item.
pub(super) fn encoded<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let encoded = panic::catch(|| {
        let mut writer = Writer::new();
        writer.value(value).map(|()| writer.into_bytes())
    });
    match encoded {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(why)) => Err(Error::new(Kind::EncodeArgument(format!("`{what}` cannot be encoded: {why}")))),
        Err(panic) => Err(Error::new(Kind::PanickedEncoding { panic })),
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
        Ok(Err(why @ CodecError { .. })) => Err(failed(Kind::DecodeResult(format!("a {what}: {why}")))),
        Err(panic) => Err(failed(Kind::PanickedDecoding { panic })),
    }
}
