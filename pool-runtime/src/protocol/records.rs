//! What a worker says about its calls: a stream of records, over any transport.
//!
//! A record is 8 bytes, and its payload:
//!
//! | bytes | |
//! |---|---|
//! | 4 | number of the call |
//! | 4 | the kind, in the highest 4 bits, and the length of the payload; if that is not enough, 8 bytes more for the length |
//! | 4, 4 | of a value that ends in much plain data: how many bytes come before it; how its elements are aligned |
//! | … | value: the result's bytes; failure: how far, whether the worker leaves, what; time: nanoseconds for so many calls |
//!
//! Each begins at a multiple of 8 from the start of the stream.

use crate::{
    codec::Writer,
    dossier::Stage,
    panic::PanicInfo,
    protocol::{Garbled, content, number, text},
};
use std::ops::Range;

/// How a call failed in the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With a panic.
    Panicked(PanicInfo),
    /// The arguments cannot be read.
    Decode(String),
    /// The result cannot be written.
    Encode(String),
    /// The worker has no such state, or no such task.
    Unfit(String),
}

/// What a worker says of a call that has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// How far the call came.
    pub(crate) stage: Stage,
    /// The worker exits after this: a panic may have broken its state.
    pub(crate) leaving: bool,
    pub(crate) failure: Failure,
}

/// What a worker says, before it starts the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told<'f> {
    /// The call has ended, with these bytes.
    Value(&'f [u8]),
    /// The call has failed.
    Failed(Failed),
    /// So many calls, of which this is the last, took so many nanoseconds.
    Time { calls: u32, nanos: u64 },
}

const VALUE: u32 = 0;
const FAILED: u32 = 1;
const TIME: u32 = 2;
/// A value whose payload ends in plain data.
const BULK: u32 = 3;

/// Plain data has no elements that are aligned more than a page is.
const MOST_ALIGN: usize = 4096;
/// Before plain data, the payload of its value has no more bytes.
const MOST_BEFORE: usize = 64;

/// The payload's length follows in 8 bytes.
const LONG: u32 = (1 << 28) - 1;

/// The beginning of a record: 8 bytes, 16, or 24.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHead {
    bytes: [u8; 24],
    length: usize,
}

impl RecordHead {
    #[inline]
    fn new(number: u32, kind: u32, payload: usize) -> Self {
        let mut head = Self { bytes: [0; 24], length: 8 };
        let short = if payload < LONG as usize && kind != BULK { payload as u32 } else { LONG };
        head.bytes[..4].copy_from_slice(&number.to_le_bytes());
        head.bytes[4..8].copy_from_slice(&(kind << 28 | short).to_le_bytes());
        if short == LONG {
            head.bytes[8..16].copy_from_slice(&(payload as u64).to_le_bytes());
            head.length = 16;
        }
        head
    }

    /// Of a call that ended with a value of so many bytes and then plain data.
    pub(crate) fn bulk(number: u32, before: usize, data: usize, align: usize) -> Self {
        let mut head = Self::new(number, BULK, before + data);
        head.bytes[16..20].copy_from_slice(&(before as u32).to_le_bytes());
        head.bytes[20..].copy_from_slice(&(align as u32).to_le_bytes());
        head.length = 24;
        head
    }

    /// Of a call that ended with a value of so many bytes.
    #[inline]
    pub(crate) fn value(number: u32, payload: usize) -> Self {
        Self::new(number, VALUE, payload)
    }

    /// As [`value`](Self::value), of eight bytes.
    #[inline]
    pub(crate) fn of_word(number: u32) -> [u8; 8] {
        (u64::from(VALUE << 28 | 8) << 32 | u64::from(number)).to_le_bytes()
    }

    /// Of a call that failed.
    pub(crate) fn failed(number: u32, payload: usize) -> Self {
        Self::new(number, FAILED, payload)
    }

    /// Of the time that some calls took: see [`Told::Time`].
    pub(crate) fn time(calls: u32) -> Self {
        Self::new(calls, TIME, 8)
    }
}

impl std::ops::Deref for RecordHead {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Failed {
    /// The payload of its record.
    pub(crate) fn to_payload(&self) -> Vec<u8> {
        let (kind, body): (u8, Vec<u8>) = match &self.failure {
            Failure::Panicked(panic) => {
                let mut writer = Writer::new();
                let encoded = writer.value(panic);
                debug_assert_eq!(encoded, Ok(()));
                (1, writer.into_bytes())
            }
            Failure::Decode(why) => (2, why.as_bytes().to_vec()),
            Failure::Encode(why) => (3, why.as_bytes().to_vec()),
            Failure::Unfit(why) => (4, why.as_bytes().to_vec()),
        };
        let mut payload = vec![kind, self.stage as u8, self.leaving.into(), 0];
        payload.extend_from_slice(&body);
        payload
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Garbled> {
        let [kind, stage, leaving, _] = number(payload, 0)?;
        let body = &payload[4..];
        let failure = match kind {
            1 => Failure::Panicked(content(body)?),
            2 => Failure::Decode(text(body)?),
            3 => Failure::Encode(text(body)?),
            4 => Failure::Unfit(text(body)?),
            _ => return Err(Garbled("it reports an unknown failure")),
        };
        Ok(Self { stage: Stage::from_u32(stage.into()), leaving: leaving != 0, failure })
    }
}

/// A record in a stream of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) number: u32,
    kind: u32,
    /// Where its payload begins, from the beginning of the record.
    head: usize,
    length: usize,
    /// If it ends in plain data.
    bulk: Option<Bulk>,
}

/// The plain data in which a value ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bulk {
    /// Where it begins, from the beginning of the record.
    pub(crate) at: usize,
    /// How many bytes it has.
    pub(crate) length: usize,
    pub(crate) align: usize,
}

impl Record {
    /// The record at the beginning of `stream`. None if it has not arrived as far as its head.
    #[inline]
    pub(crate) fn first(stream: &[u8]) -> Result<Option<Self>, Garbled> {
        let Some(head) = stream.first_chunk::<8>() else { return Ok(None) };
        let [number, word] = bytemuck::cast::<_, [[u8; 4]; 2]>(*head).map(u32::from_le_bytes);
        let mut record = Self { number, kind: word >> 28, head: 8, length: (word & LONG) as usize, bulk: None };
        if record.length == LONG as usize {
            let Some(length) = stream[8..].first_chunk() else { return Ok(None) };
            let length = u64::from_le_bytes(*length);
            record.head = 16;
            record.length = usize::try_from(length)
                .ok()
                .filter(|length| *length < isize::MAX as usize / 2)
                .ok_or(Garbled("it is too long"))?;
        }
        match record.kind {
            VALUE | FAILED | TIME => {}
            BULK => {
                let nonsense = Garbled("it reports plain data that is none");
                if record.head != 16 {
                    return Err(nonsense);
                }
                let Some(words) = stream.get(16..).and_then(|rest| rest.first_chunk::<8>()) else { return Ok(None) };
                let [before, align] =
                    bytemuck::cast::<_, [[u8; 4]; 2]>(*words).map(|word| u32::from_le_bytes(word) as usize);
                if before > record.length.min(MOST_BEFORE) || !align.is_power_of_two() || align > MOST_ALIGN {
                    return Err(nonsense);
                }
                record.head = 24;
                record.bulk = Some(Bulk { at: 24 + before, length: record.length - before, align });
            }
            _ => return Err(Garbled("it reports something unknown")),
        }
        if record.is_time() && record.length != 8 {
            return Err(Garbled("it reports a time that is none"));
        }
        Ok(Some(record))
    }

    /// How many bytes it takes, all in all.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        (self.head + self.length).next_multiple_of(8)
    }

    /// How many values follow on this one, of the next calls and of the same length, whole in the stream that begins
    /// here.
    #[inline]
    pub(crate) fn alike_behind(&self, stream: &[u8]) -> u32 {
        let size = self.size();
        let word = |at: usize| {
            stream.get(at..at + 8).and_then(|word| word.first_chunk()).map(|word| u64::from_le_bytes(*word))
        };
        let (Some(first), true) = (word(0), self.head == 8 && self.is_value()) else { return 0 };
        let most = (stream.len() / size).saturating_sub(1).min((u32::MAX - self.number) as usize);
        // The number is the lower half of the word, which for these goes up by one at a time.
        (1..=most).take_while(|index| word(index * size) == Some(first + *index as u64)).count() as u32
    }

    /// Where its payload is in a stream in which it begins at `at`.
    #[inline]
    pub(crate) fn payload(&self, at: usize) -> Range<usize> {
        at + self.head..at + self.head + self.length
    }

    #[inline]
    pub(crate) fn is_value(&self) -> bool {
        matches!(self.kind, VALUE | BULK)
    }

    pub(crate) fn bulk(&self) -> Option<Bulk> {
        self.bulk
    }

    /// Is it about no call in particular?
    pub(crate) fn is_time(&self) -> bool {
        self.kind == TIME
    }

    /// What it says; `payload` is its own.
    pub(crate) fn told<'f>(&self, payload: &'f [u8]) -> Result<Told<'f>, Garbled> {
        Ok(match self.kind {
            VALUE | BULK => Told::Value(payload),
            FAILED => Told::Failed(Failed::from_payload(payload)?),
            _ => Told::Time { calls: self.number, nanos: u64::from_le_bytes(number(payload, 0)?) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Append;

    #[test]
    fn records_are_read_back_as_they_arrive() {
        let failed = Failed { stage: Stage::Running, leaving: true, failure: Failure::Encode("no".into()) };
        let payload = failed.to_payload();
        let mut stream = Vec::new();
        let mut put = |head: RecordHead, payload: &[u8]| {
            stream.extend_from_slice(&head);
            stream.extend_from_slice(payload);
            stream.pad(8);
        };
        put(RecordHead::value(1, 3), b"abc");
        put(RecordHead::failed(2, payload.len()), &payload);
        put(RecordHead::time(2), &77u64.to_le_bytes());
        assert_eq!(Record::first(&stream[..7]), Ok(None));
        let mut at = 0;
        let mut told = Vec::new();
        while let Some(record) = Record::first(&stream[at..]).unwrap() {
            told.push(record.told(&stream[record.payload(at)]).unwrap());
            at += record.size();
        }
        assert_eq!(at, stream.len());
        assert_eq!(told, [Told::Value(b"abc"), Told::Failed(failed), Told::Time { calls: 2, nanos: 77 }]);
        let long = RecordHead::value(5, 1 << 40);
        let record = Record::first(&long).unwrap().unwrap();
        assert_eq!((record.number, record.size()), (5, 16 + (1 << 40)));
    }
}
