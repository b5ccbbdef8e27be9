//! The results of calls that were submitted together, as the workers' records, until somebody asks for them.

use crate::{
    codec::{CodecError, Reader},
    error::{Error, Kind, Result},
    job::decoding,
    panic,
    protocol::Record,
};

/// Room for more is not made before there is something for it.
const MOST_RESERVED: usize = 1 << 17;

/// What has arrived of the results of a batch.
#[derive(Debug, Default)]
pub(crate) struct Results {
    length: u32,
    missing: u32,
    /// Records of values that came together: the index of the first, how many, their bytes.
    runs: Vec<(u32, u32, Vec<u8>)>,
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

    /// Adds the records of `count` values.
    pub(crate) fn values(&mut self, first: u32, count: u32, records: &[u8]) {
        self.missing -= count;
        // Most come in the order of the calls, in a few parts.
        match self.runs.last_mut() {
            Some((start, length, bytes)) if *start + *length == first => {
                *length += count;
                bytes.extend_from_slice(records);
            }
            _ => {
                // The others will be as long.
                let room = records.len() / count.max(1) as usize * (self.length - first) as usize;
                let mut bytes = Vec::with_capacity(room.min(MOST_RESERVED).max(records.len()));
                bytes.extend_from_slice(records);
                self.runs.push((first, count, bytes));
            }
        }
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
        self.runs.sort_unstable_by_key(|(first, ..)| *first);
        let mut index = 0;
        for (first, count, bytes) in self.runs {
            if failure.as_ref().is_some_and(|(failed, _)| *failed < first) || first != index {
                break;
            }
            decode_records(&decode, task, &bytes, count, values)?;
            index += count;
        }
        match failure {
            Some((_, error)) => Err(error),
            None if index < self.length => Err(Error::new(Kind::Cancelled).of_task(task)),
            None => Ok(()),
        }
    }
}

/// Decodes values out of their records; a panic in the user's `Deserialize` is the failure of its call.
fn decode_records<R>(
    decode: &impl Fn(&mut Reader<'_>) -> Result<R, CodecError>,
    task: &'static str,
    records: &[u8],
    count: u32,
    values: &mut Vec<R>,
) -> Result<()> {
    values.reserve(count as usize);
    let mut at = 0;
    // One net for all of them: to spread it costs as much as to decode a number.
    let decoded = panic::catch(|| {
        let mut left = count;
        while left > 0 {
            let rest = &records[at..];
            // They were read once before, by whoever found them.
            let Ok(Some(record)) = Record::first(rest) else {
                return Err(CodecError::new("a record is missing: this is a mistake in pool-runtime"));
            };
            // Most that follow are like it: their heads need not be read one by one.
            let alike = 1 + record.alike_behind(rest).min(left - 1);
            for payload in rest.chunks(record.size()).take(alike as usize) {
                let mut reader = Reader::new(&payload[record.payload(0)]);
                values.push(decode(&mut reader)?);
                reader.finish()?;
            }
            at += record.size() * alike as usize;
            left -= alike;
        }
        Ok(())
    });
    decoding(decoded, task)
}
