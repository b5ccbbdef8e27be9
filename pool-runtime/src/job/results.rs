//! The results of calls that were submitted together, as the workers' records, until somebody asks for them.

use crate::codec::{CodecError, Reader};
use crate::error::{Error, Kind, Result};
use crate::job::decode::decoding;
use crate::panic;
use crate::protocol::{StoredValues, Values};

/// Room for more is not made before there is something for it.
const MOST_RESERVED: usize = 1 << 17;

/// What has arrived of the results of a batch.
#[derive(Debug, Default)]
pub(crate) struct Results {
    length: u32,
    missing: u32,
    /// Values that came together: the index of the first, and all of them.
    runs: Vec<(u32, StoredValues)>,
    failures: Vec<(u32, Error)>,
}

impl Results {
    pub(crate) fn new(length: u32) -> Self {
        Self { length, missing: length, ..Self::default() }
    }

    /// A single failure of something that never was submitted.
    pub(crate) fn failed(error: Error) -> Self {
        Self { length: 1, missing: 0, runs: Vec::new(), failures: vec![(0, error)] }
    }

    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    /// Has everything arrived?
    pub(crate) fn are_whole(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn are_values(&self) -> bool {
        self.failures.is_empty()
    }

    /// Adds values; the first is that of the call of this index.
    pub(crate) fn values(&mut self, first: u32, values: Values<'_>) {
        self.missing -= values.count();
        // Most come in the order of the calls, in a few parts.
        match self.runs.last_mut() {
            Some((start, stored)) if *start + stored.count() == first => stored.push(values),
            _ => {
                // The others will be as long.
                let room = values.size() / values.count().max(1) as usize * (self.length - first) as usize;
                let mut stored = StoredValues::with_capacity(room.min(MOST_RESERVED).max(values.size()));
                stored.push(values);
                self.runs.push((first, stored));
            }
        }
    }

    /// Adds one value, whose payload these parts are.
    pub(crate) fn value(&mut self, index: u32, payload: &[&[u8]]) {
        self.missing -= 1;
        self.runs.push((index, StoredValues::of_parts(payload)));
    }

    pub(crate) fn fail(&mut self, index: u32, error: Error) {
        self.missing -= 1;
        self.failures.push((index, error));
    }

    /// Decodes them all, in the order of the calls.
    ///
    /// # Errors
    ///
    /// The first failure in that order.
    pub(crate) fn decode_into<R>(
        mut self,
        decode: impl Fn(&mut Reader<'_>) -> Result<R, CodecError>,
        task: &'static str,
        values: &mut Vec<R>,
    ) -> Result<()> {
        let failure = self.failures.into_iter().min_by_key(|(index, _)| *index);
        self.runs.sort_unstable_by_key(|(first, _)| *first);
        let mut index = 0;
        for (first, stored) in self.runs {
            if failure.as_ref().is_some_and(|(failed, _)| *failed < first) || first != index {
                break;
            }
            decode_stored(&decode, task, &stored, values)?;
            index += stored.count();
        }
        match failure {
            Some((_, error)) => Err(error),
            None if index < self.length => Err(Error::new(Kind::Cancelled).of_task(task)),
            None => Ok(()),
        }
    }
}

/// Decodes stored values; a panic in the user's `Deserialize` is the failure of its call.
fn decode_stored<R>(
    decode: &impl Fn(&mut Reader<'_>) -> Result<R, CodecError>,
    task: &'static str,
    stored: &StoredValues,
    values: &mut Vec<R>,
) -> Result<()> {
    values.reserve(stored.count() as usize);
    // One `catch_unwind` for all of them: setting it up costs as much as to decode a number.
    let decoded = panic::catch(|| {
        for payload in stored.values().payloads() {
            let mut reader = Reader::new(payload);
            values.push(decode(&mut reader)?);
            reader.finish()?;
        }
        Ok(())
    });
    decoding(decoded, task)
}
