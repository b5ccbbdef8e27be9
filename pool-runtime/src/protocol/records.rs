//! What a worker reports: a stream of records, over any transport.
//!
//! A record is 8 bytes, and its payload:
//!
//! | bytes | |
//! |---|---|
//! | 4 | number of the call |
//! | 4 | the kind, in the highest 4 bits, and the length of the payload; if that is not enough, 8 bytes more for the length |
//! | 4, 4 | of a value that ends in much plain data: how many bytes come before it; how its elements are aligned |
//! | 8, 8 … | of a value that refers to regions: how many, and their numbers
//! | … | value: the result's bytes; failure: how far, whether the worker leaves, what; time: nanoseconds for so many calls |
//!
//! Each begins at a multiple of 8 from the start of the stream.

use crate::dossier::Stage;
use crate::memory::ALIGN;
use crate::memory::upward::MOST_ATTACHED;
use crate::panic::{self, PanicInfo};
use crate::protocol::{Garbled, decoded, encoded, frame, tag};
use crate::transport::Append;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub(crate) const REPORTS_HEAD: usize = ALIGN;

/// A frame of records for transports of frames, without any yet.
pub(crate) fn reports_frame() -> Vec<u8> {
    frame(tag::REPORTS, &[])
}

/// How a call failed in the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(PanicInfo),
    /// The arguments cannot be read.
    Decode(String),
    /// The result cannot be written.
    Encode(String),
    /// The result has more bytes than it may have.
    TooLarge {
        length: u64,
        most: u64,
    },
    /// The worker has no such state, or no such task.
    Unfit(String),
}

/// The end of a call without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// How far the call came.
    pub(crate) stage: Stage,
    /// The worker exits after this: a panic may have broken its state.
    pub(crate) leaving: bool,
    pub(crate) failure: Failure,
}

const VALUE: u32 = 0;
const FAILED: u32 = 1;
const TIME: u32 = 2;
/// A value that ends in plain data.
const BULK: u32 = 3;
/// A value that refers to regions.
const ATTACHED: u32 = 4;
/// Regions of a value that is reported later.
const GATHER: u32 = 5;

/// The largest alignment of plain data, and the most bytes of its value before it.
const MOST_ALIGN: usize = 4096;
const MOST_BEFORE: usize = 64;

/// Instead of a length that follows in 8 bytes.
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

    /// Of a call that ended with a value that refers to regions: their number and their ids are a part of the payload.
    pub(crate) fn attached(number: u32, payload: usize) -> Self {
        Self::new(number, ATTACHED, payload)
    }

    /// Of a call that will end with a value that refers to more regions than can be sent before they are received.
    pub(crate) fn gather(number: u32) -> Self {
        Self::new(number, GATHER, 0)
    }

    pub(crate) fn failed(number: u32, payload: usize) -> Self {
        Self::new(number, FAILED, payload)
    }

    /// Of the time that some calls took: see [`Record::Time`].
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

/// The longest payload of a failure, whatever its call may return, and the longest of one whose call may return less: a
/// parent takes no longer ones.
const MOST_FAILURE: u64 = 1 << 23;
const LEAST_FAILURE: u64 = 1 << 16;

/// The longest payload of a failure of a call whose result may have so many bytes.
fn most_failure(max_result: u64) -> u64 {
    max_result.clamp(LEAST_FAILURE, MOST_FAILURE)
}

impl Failed {
    /// For a call whose result may have so many bytes: the texts of a failure that would be too long are cut.
    pub(crate) fn to_payload(&self, max_result: u64) -> Vec<u8> {
        let payload = |failure: &Failure| encoded(&(self.stage as u32, self.leaving, failure));
        let (whole, most) = (payload(&self.failure), most_failure(max_result) as usize);
        // There are three at most.
        if whole.len() <= most { whole } else { payload(&self.failure.shortened(most / 4)) }
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Garbled> {
        let (stage, leaving, failure) = decoded(payload)?;
        Ok(Self { stage: Stage::from_u32(stage), leaving, failure })
    }
}

impl Failure {
    /// With texts of at most `most` bytes.
    fn shortened(&self, most: usize) -> Self {
        let cut = |text: &String| panic::cut(text, most);
        match self {
            Self::Panicked(panic) => Self::Panicked(panic.shortened(most)),
            Self::Decode(text) => Self::Decode(cut(text)),
            Self::Encode(text) => Self::Encode(cut(text)),
            Self::Unfit(text) => Self::Unfit(cut(text)),
            Self::TooLarge { length, most } => Self::TooLarge { length: *length, most: *most },
        }
    }
}

/// How many bytes a value's record has beside its payload, at most: the head, and the padding.
const MOST_AROUND: u64 = 32;
/// Shorter values are not weighed: they take as much as what is around them.
pub(crate) const LEAST_LIMIT: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParsedHead {
    pub(crate) number: u32,
    kind: u32,
    /// Where the payload begins, from the beginning of the record.
    pub(crate) payload: usize,
    length: usize,
    pub(crate) bulk: Option<Bulk>,
}

/// The plain data in which a value ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bulk {
    /// Where it begins, from the beginning of the record.
    pub(crate) at: usize,
    pub(crate) length: usize,
    pub(crate) align: usize,
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

impl ParsedHead {
    /// The head at the beginning of `stream`. None if it has not arrived.
    #[inline]
    fn first(stream: &[u8]) -> Result<Option<Self>, Garbled> {
        let Some(first) = word(stream, 0) else { return Ok(None) };
        let (number, length) = (first as u32, (first >> 32) as u32 & LONG);
        let mut head = Self { number, kind: (first >> 60) as u32, payload: 8, length: length as usize, bulk: None };
        if length == LONG {
            let Some(length) = word(stream, 8) else { return Ok(None) };
            let length = usize::try_from(length).ok().filter(|length| *length < isize::MAX as usize / 2);
            (head.payload, head.length) = (16, length.ok_or(Garbled("it is too long"))?);
        }
        match head.kind {
            VALUE | FAILED | ATTACHED => {}
            TIME if head.length == 8 => {}
            TIME => return Err(Garbled("it reports a time that is none")),
            GATHER if head.length == 0 => {}
            BULK => {
                let nonsense = Garbled("it reports plain data that is none");
                if head.payload != 16 {
                    return Err(nonsense);
                }
                let Some(words) = word(stream, 16) else { return Ok(None) };
                let (before, align) = (words as u32 as usize, (words >> 32) as usize);
                if before > head.length.min(MOST_BEFORE) || !align.is_power_of_two() || align > MOST_ALIGN {
                    return Err(nonsense);
                }
                head.payload = 24;
                head.bulk = Some(Bulk { at: 24 + before, length: head.length - before, align });
            }
            _ => return Err(Garbled("it reports something unknown")),
        }
        Ok(Some(head))
    }

    /// How many bytes the record takes, all in all.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        (self.payload + self.length).next_multiple_of(8)
    }

    /// Whether a record that has not arrived may come, if its value may have `most` bytes, of which `said` were said, not
    /// known from the type: a failure may have more than that. The error says what is wrong.
    pub(crate) fn admit(&self, most: u64, said: u64) -> Result<(), String> {
        let length = self.length as u64;
        if self.kind == FAILED {
            return admit_failure(length, said);
        }
        let most = most.max(LEAST_LIMIT);
        if length <= most { Ok(()) } else { Err(too_large(length, most)) }
    }

    #[inline]
    fn is_value(&self) -> bool {
        matches!(self.kind, VALUE | BULK)
    }

    #[inline]
    fn payload(&self) -> Range<usize> {
        self.payload..self.payload + self.length
    }

    /// How many values of the next calls and of the same length follow this one in its stream.
    #[inline]
    fn alike_behind(&self, stream: &[u8]) -> u32 {
        let size = self.size();
        let (Some(first), true) = (word(stream, 0), self.payload == 8 && self.is_value()) else { return 0 };
        let most = (stream.len() / size).saturating_sub(1).min((u32::MAX - self.number) as usize);
        // The number is the lower half of the word, which for these goes up by one at a time.
        (1..=most).take_while(|index| word(stream, index * size) == Some(first + *index as u64)).count() as u32
    }
}

/// The values of several calls, or another record. `Time`: so many calls, of which the latest was the last, took so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'s> {
    Values(Values<'s>),
    Attached(AttachedValue<'s>),
    /// Receive what the worker has sent: the value of this call will refer to it.
    Gather {
        number: u32,
    },
    Failed {
        number: u32,
        failed: Failed,
    },
    Time {
        calls: u32,
        nanos: u64,
    },
}

/// A value, and the ids of the regions to which it refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttachedValue<'s> {
    pub(crate) number: u32,
    /// Of all of the record's payload, in bytes.
    pub(crate) length: usize,
    ids: &'s [[u8; 8]],
    pub(crate) value: &'s [u8],
}

impl<'s> AttachedValue<'s> {
    fn parse(number: u32, payload: &'s [u8]) -> Option<Self> {
        let (words, _) = payload.as_chunks();
        let (count, words) = words.split_first()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok().filter(|count| *count <= MOST_ATTACHED)?;
        let (ids, value) = (words.get(..count)?, payload.get(8 + 8 * count..)?);
        Some(Self { number, length: payload.len(), ids, value })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.ids.iter().map(|id| u64::from_le_bytes(*id))
    }

    /// Checks that the value has at most so many bytes.
    pub(crate) fn admit(&self, most: u64) -> Result<(), String> {
        let (length, most) = (self.length as u64, most.max(LEAST_LIMIT));
        if length <= most { Ok(()) } else { Err(too_large(length, most)) }
    }
}

/// The records of the values of consecutive calls, whole and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values<'s> {
    first: u32,
    count: u32,
    bytes: &'s [u8],
}

/// Reads a stream of records, as far as it has arrived. The one place where records are parsed.
#[derive(Clone, Debug)]
pub(crate) struct RecordReader<'s> {
    stream: &'s [u8],
    at: usize,
}

impl<'s> RecordReader<'s> {
    #[inline]
    pub(crate) fn new(stream: &'s [u8]) -> Self {
        Self { stream, at: 0 }
    }

    /// How many bytes the records have that were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next record, if all of it has arrived; values of consecutive calls together. The error is a malformed one.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Record<'s>>, Garbled> {
        let rest = &self.stream[self.at..];
        let Some(head) = ParsedHead::first(rest)?.filter(|head| head.size() <= rest.len()) else { return Ok(None) };
        if head.is_value() {
            return Ok(Some(Record::Values(self.values(head.number))));
        }
        self.at += head.size();
        let payload = &rest[head.payload()];
        Ok(Some(match head.kind {
            FAILED => Record::Failed { number: head.number, failed: Failed::from_payload(payload)? },
            GATHER => Record::Gather { number: head.number },
            ATTACHED => {
                let value = AttachedValue::parse(head.number, payload);
                Record::Attached(value.ok_or(Garbled("it reports a value with more shared memory than it names"))?)
            }
            _ => Record::Time { calls: head.number, nanos: word(payload, 0).unwrap_or_default() },
        }))
    }

    /// As many values as follow on each other from here on.
    fn values(&mut self, first: u32) -> Values<'s> {
        let (begin, mut count) = (self.at, 0_u32);
        loop {
            let rest = &self.stream[self.at..];
            let next = first.wrapping_add(count);
            // A malformed record is an error when it is the next one.
            let head = ParsedHead::first(rest).ok().flatten();
            let fits = |head: &ParsedHead| head.is_value() && head.number == next && head.size() <= rest.len();
            let Some(head) = head.filter(fits).filter(|_| count < u32::MAX / 2) else { break };
            let alike = 1 + head.alike_behind(rest);
            self.at += alike as usize * head.size();
            count += alike;
        }
        Values { first, count, bytes: &self.stream[begin..self.at] }
    }

    /// The record whose end has not arrived, if its head has. The error is a malformed one.
    pub(crate) fn unfinished(&self) -> Result<Option<ParsedHead>, Garbled> {
        let rest = &self.stream[self.at..];
        Ok(ParsedHead::first(rest)?.filter(|head| head.size() > rest.len() && head.kind != TIME))
    }
}

/// What a worker did that sends more than it may: an honest one reports a failure instead.
fn too_large(length: u64, most: u64) -> String {
    format!("sent a result of {length} bytes for a call whose result has at most {most}")
}

/// Checks that a failure of so many bytes is one of a call whose result may have `max_result`.
pub(crate) fn admit_failure(length: u64, max_result: u64) -> Result<(), String> {
    let most = most_failure(max_result);
    match length <= most + MOST_AROUND {
        true => Ok(()),
        false => Err(format!("sent a failure of {length} bytes for a call whose failure has at most {most}")),
    }
}

impl<'s> Values<'s> {
    /// Whether these take no more bytes together than values too short for any limit.
    #[inline]
    pub(crate) fn are_short(&self) -> bool {
        self.bytes.len() as u64 <= (LEAST_LIMIT + MOST_AROUND) * u64::from(self.count)
    }

    /// Checks that none has more than `most` bytes.
    pub(crate) fn admit(&self, most: u64) -> Result<(), String> {
        let most = most.max(LEAST_LIMIT);
        match self.payloads().map(|payload| payload.len() as u64).find(|length| *length > most) {
            Some(length) => Err(too_large(length, most)),
            None => Ok(()),
        }
    }

    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the records take.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn payloads(&self) -> Payloads<'s> {
        Payloads { rest: self.bytes, left: self.count, alike: 0, size: 0, payload: 0..0 }
    }

    #[inline]
    pub(crate) fn payload(&self) -> &'s [u8] {
        self.payloads().next().unwrap_or_default()
    }

    /// Where the payload of the first lies in its record.
    pub(crate) fn payload_range(&self) -> Range<usize> {
        ParsedHead::first(self.bytes).ok().flatten().map_or(0..0, |head| head.payload())
    }

    /// Takes off the front those before the call of this number.
    pub(crate) fn skip_to(&mut self, number: u32) {
        let _ = self.take(number.wrapping_sub(self.first));
    }

    /// Takes so many off the front; all if there are no more.
    pub(crate) fn take(&mut self, count: u32) -> Self {
        if count >= self.count {
            let end = Self { first: self.first.wrapping_add(self.count), count: 0, bytes: &[] };
            return std::mem::replace(self, end);
        }
        let mut payloads = self.payloads();
        if let Some(last) = count.checked_sub(1) {
            payloads.nth(last as usize);
        }
        let (bytes, rest) = self.bytes.split_at(self.bytes.len() - payloads.rest.len());
        let front = Self { first: self.first, count, bytes };
        *self = Self { first: self.first.wrapping_add(count), count: self.count - count, bytes: rest };
        front
    }
}

/// The payloads of values, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Payloads<'s> {
    rest: &'s [u8],
    /// How many come after those that are alike.
    left: u32,
    /// How many there are whose records are like the present one, their size, and where the payload lies in each.
    alike: u32,
    size: usize,
    payload: Range<usize>,
}

impl<'s> Iterator for Payloads<'s> {
    type Item = &'s [u8];

    #[inline]
    fn next(&mut self) -> Option<&'s [u8]> {
        if self.alike == 0 {
            let head = ParsedHead::first(self.rest).ok().flatten().filter(|_| self.left > 0)?;
            self.alike = 1 + head.alike_behind(self.rest).min(self.left - 1);
            self.left -= self.alike;
            (self.size, self.payload) = (head.size(), head.payload());
        }
        let (record, rest) = self.rest.split_at_checked(self.size)?;
        self.alike -= 1;
        self.rest = rest;
        record.get(self.payload.clone())
    }
}

/// Values that are kept until somebody asks for them, as their records.
#[derive(Debug, Default)]
pub(crate) struct StoredValues {
    count: u32,
    bytes: Vec<u8>,
}

impl StoredValues {
    /// Without memory for so many bytes, each `push` tries for its own.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut values = Self::default();
        let _ = values.bytes.try_reserve_exact(bytes);
        values
    }

    /// The value whose payload these parts are. None: there is no memory for it.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Option<Self> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let head = RecordHead::value(0, payload);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact((head.len() + payload).next_multiple_of(8)).ok()?;
        bytes.put(&head);
        parts.iter().for_each(|part| bytes.put(part));
        bytes.pad(8);
        Some(Self { count: 1, bytes })
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// False: there is no memory for them.
    #[must_use]
    pub(crate) fn push(&mut self, values: Values<'_>) -> bool {
        if self.bytes.try_reserve(values.bytes.len()).is_err() {
            return false;
        }
        self.count += values.count;
        self.bytes.extend_from_slice(values.bytes);
        true
    }

    pub(crate) fn values(&self) -> Values<'_> {
        Values { first: 0, count: self.count, bytes: &self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_as_they_arrive() {
        let failed = Failed { stage: Stage::Running, leaving: true, failure: Failure::Encode("no".into()) };
        let payload = failed.to_payload(u64::MAX);
        let mut stream = Vec::new();
        let mut put = |head: RecordHead, payload: &[u8]| {
            stream.extend_from_slice(&head);
            stream.extend_from_slice(payload);
            stream.pad(8);
        };
        put(RecordHead::value(1, 3), b"abc");
        put(RecordHead::failed(2, payload.len()), &payload);
        put(RecordHead::time(2), &77u64.to_le_bytes());
        let attached = [2, 7, 9_u64].map(u64::to_le_bytes).as_flattened().to_vec();
        put(RecordHead::attached(3, attached.len() + 3), &[&attached[..], b"def"].concat());
        assert_eq!(RecordReader::new(&stream[..7]).next(), Ok(None));
        let mut reader = RecordReader::new(&stream);
        let Ok(Some(Record::Values(values))) = reader.next() else { panic!("no values") };
        assert_eq!((values.first(), values.count(), values.payload()), (1, 1, &b"abc"[..]));
        assert_eq!(reader.next(), Ok(Some(Record::Failed { number: 2, failed })));
        assert_eq!(reader.next(), Ok(Some(Record::Time { calls: 2, nanos: 77 })));
        let Ok(Some(Record::Attached(attached))) = reader.next() else { panic!("no value") };
        assert_eq!((attached.number, attached.value), (3, &b"def"[..]));
        assert!(attached.ids().eq([7, 9]) && attached.admit(27).is_ok() && attached.admit(26).is_err());
        assert_eq!((reader.next(), reader.position()), (Ok(None), stream.len()));
        for count in [4, u64::MAX] {
            let stream = [&*RecordHead::attached(3, 32), &count.to_le_bytes(), &[0; 24]].concat();
            assert!(RecordReader::new(&stream).next().is_err());
        }
        let long = RecordHead::value(5, 1 << 40);
        let reader = RecordReader::new(&long);
        let unfinished = reader.unfinished().unwrap().unwrap();
        assert_eq!((unfinished.number, unfinished.size()), (5, 16 + (1 << 40)));
    }

    #[test]
    fn one_value_of_many_is_weighed_alone() {
        let mut stream = Vec::new();
        for (number, length) in (1..=100).chain([101]).zip([8; 100].into_iter().chain([5000])) {
            stream.extend_from_slice(&RecordHead::value(number, length));
            stream.extend_from_slice(&vec![0; length]);
            stream.pad(8);
        }
        let Ok(Some(Record::Values(values))) = RecordReader::new(&stream).next() else { panic!("no values") };
        assert!(!values.are_short());
        assert_eq!(values.admit(5000), Ok(()));
        assert!(values.admit(4999).is_err_and(|why| why.contains("5000 bytes") && why.contains("at most 4999")));
    }

    #[test]
    fn a_failure_is_as_long_as_its_call_may_say() {
        let failed =
            |length| Failed { stage: Stage::Running, leaving: false, failure: Failure::Encode("x".repeat(length)) };
        for (max_result, most) in [(1024, LEAST_FAILURE), (1 << 20, 1 << 20), (u64::MAX, MOST_FAILURE)] {
            let whole = failed(most as usize - 100);
            let Ok(found) = Failed::from_payload(&whole.to_payload(max_result)) else { panic!("malformed") };
            assert_eq!(found, whole);
            let payload = failed(most as usize + 1).to_payload(max_result);
            assert!(payload.len() as u64 <= most && payload.len() as u64 > most / 5, "{}", payload.len());
            assert_eq!(admit_failure(most, max_result), Ok(()));
            assert!(admit_failure(most + 100, max_result).is_err());
        }
    }

    #[test]
    fn values_of_consecutive_calls_are_read_together_and_split_anywhere() {
        let lengths = [8, 8, 8, 3, 0, 8, 40, 40, 8];
        let mut stream = Vec::new();
        for (number, length) in (u32::MAX - 3..=u32::MAX).chain(0..).zip(lengths) {
            stream.extend_from_slice(&RecordHead::value(number, length));
            stream.extend_from_slice(&vec![length as u8; length]);
            stream.pad(8);
        }
        let mut reader = RecordReader::new(&stream);
        let Ok(Some(Record::Values(all))) = reader.next() else { panic!("no values") };
        assert_eq!((all.count(), reader.position()), (lengths.len() as u32, stream.len()));
        for cut in 0..=lengths.len() {
            let mut rest = all;
            let front = rest.take(cut as u32);
            let found: Vec<_> = front.payloads().chain(rest.payloads()).map(<[u8]>::len).collect();
            assert_eq!((found.as_slice(), front.count()), (&lengths[..], cut as u32));
            assert_eq!(rest.first(), all.first().wrapping_add(cut as u32));
        }
    }
}
