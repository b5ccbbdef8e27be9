//! Decodes results, on the thread that asked for them. A panic in the user's `Deserialize` is the error of its job.

use crate::codec::{CodecError, Reader};
use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::memory::{Payload, referred::came_with};
use crate::panic::{self, PanicInfo};

pub(crate) type Decode<R> = fn(&mut Reader<'_>) -> Result<R, CodecError>;

pub(crate) fn decode_value<R>(decode: Decode<R>, task: &'static str, bytes: &[u8]) -> Result<R> {
    decode_all(decode, task, Reader::new(bytes))
}

/// As [`decode_value`], of what may refer to regions: they have come with it.
pub(crate) fn decode_payload<R>(decode: Decode<R>, task: &'static str, payload: &Payload) -> Result<R> {
    came_with(payload.regions(), || decode_value(decode, task, payload))
}

pub(super) fn decode_all<'b, R>(
    decode: impl FnOnce(&mut Reader<'b>) -> Result<R, CodecError>,
    task: &'static str,
    mut reader: Reader<'b>,
) -> Result<R> {
    let decoded = panic::catch(|| {
        let value = decode(&mut reader)?;
        reader.finish().map(|()| value)
    });
    decoding(decoded, task)
}

pub(super) fn decoding<R>(decoded: Result<Result<R, CodecError>, PanicInfo>, task: &'static str) -> Result<R> {
    let kind = match decoded {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(reason)) => Kind::DecodeResult(reason.to_string()),
        Err(panic) => Kind::PanickedDecoding { panic },
    };
    Err(Error::new(kind).with_ran(Ran::Yes).of_task(task))
}
