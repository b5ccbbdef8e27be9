//! The results of a batch, kept as the workers' records until they are asked for.

use crate::codec::{CodecError, Reader};
use crate::error::{Error, Kind, Result};
use crate::job::decode::{Decode, decode_value, decoding};
use crate::memory::{Payload, Region, referred::came_with};
use crate::panic;
use crate::protocol::{StoredValues, Values};
use std::sync::Arc;

/// No more bytes are reserved before they arrive.
const MOST_RESERVED: usize = 1 << 17;

/// The results of a batch that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The position of the first call's input among all inputs; none if the failure is not that of one input.
    first_input: Option<usize>,
    length: u32,
    missing: u32,
    /// Values that arrived together, with the index of the first.
    runs: Vec<(u32, StoredValues)>,
    failures: Vec<(u32, Error)>,
    /// What values refer to, held until they are decoded.
    regions: Vec<Arc<Region>>,
}

impl Results {
    pub(crate) fn new(first_input: usize, length: u32) -> Self {
        Self { first_input: Some(first_input), length, missing: length, ..Self::default() }
    }

    /// The failure of the call of this input, which was never submitted.
    pub(crate) fn failed(input: usize, error: Error) -> Self {
        Self { first_input: Some(input), ..Self::refused(error) }
    }

    /// The pool takes no more calls.
    pub(crate) fn refused(error: Error) -> Self {
        Self { length: 1, failures: vec![(0, error)], ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    pub(crate) fn are_whole(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn are_values(&self) -> bool {
        self.failures.is_empty()
    }

    /// The first failure that nobody has asked for, in the order of the calls, with the position of its input.
    pub(crate) fn failure(&self) -> Option<Error> {
        let failures = self.failures.iter().filter(|(_, error)| !error.is_cancelled());
        let (index, error) = failures.min_by_key(|(index, _)| *index)?;
        Some(match self.first_input {
            Some(first) => error.clone().at_input(first + *index as usize),
            None => error.clone(),
        })
    }

    /// Adds the values of the calls from index `first` on.
    pub(crate) fn values(&mut self, first: u32, values: Values<'_>) {
        self.missing -= values.count();
        if !self.store(first, values) {
            let error = Error::no_memory(values.size());
            self.failures.extend((first..first + values.count()).map(|index| (index, error.clone())));
        }
    }

    /// False: there is no memory for them.
    fn store(&mut self, first: u32, values: Values<'_>) -> bool {
        // Most arrive in order, in a few parts.
        match self.runs.last_mut() {
            Some((start, stored)) if *start + stored.count() == first => stored.push(values),
            _ => {
                // Expects the other values to be as long.
                let each = values.size() / values.count().max(1) as usize;
                let room = each.saturating_mul((self.length - first) as usize);
                let mut stored = StoredValues::with_capacity(room.min(MOST_RESERVED).max(values.size()));
                let pushed = stored.push(values);
                self.runs.push((first, stored));
                pushed
            }
        }
    }

    /// Adds one value, whose payload is in these parts.
    pub(crate) fn value(&mut self, index: u32, payload: &[&[u8]]) {
        self.missing -= 1;
        match StoredValues::of_parts(payload) {
            Some(stored) => self.runs.push((index, stored)),
            None => self.failures.push((index, Error::no_memory(payload.iter().map(|part| part.len()).sum()))),
        }
    }

    /// Adds one value, with what it refers to.
    pub(crate) fn payload(&mut self, index: u32, payload: &Payload) {
        self.regions.extend_from_slice(payload.regions());
        self.value(index, &[payload]);
    }

    pub(crate) fn fail(&mut self, index: u32, error: Error) {
        self.missing -= 1;
        self.failures.push((index, error));
    }

    /// Decodes all values, in the order of the calls.
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
        let first_input = self.first_input;
        let at_input = |error: Error, index: u32| match first_input {
            Some(first) => error.at_input(first + index as usize),
            None => error,
        };
        let failure = self.failures.into_iter().min_by_key(|(index, _)| *index);
        self.runs.sort_unstable_by_key(|(first, _)| *first);
        let mut index = 0;
        for (first, stored) in self.runs {
            if failure.as_ref().is_some_and(|(failed, _)| *failed < first) || first != index {
                break;
            }
            values.reserve(stored.count() as usize);
            let decoded_before = values.len();
            let mut has_more = 0;
            // One `catch_unwind` for all: setting it up costs as much as decoding a number.
            let mut decode_all = || {
                for payload in stored.values().payloads() {
                    let mut reader = Reader::new(payload);
                    values.push(decode(&mut reader)?);
                    // The value that was pushed is not a whole result.
                    reader.finish().inspect_err(|_| has_more = 1)?;
                }
                Ok(())
            };
            let decoded = panic::catch(|| came_with(&self.regions, &mut decode_all));
            if let Err(error) = decoding(decoded, task) {
                let whole = values.len() - decoded_before - has_more;
                return Err(at_input(error, first + whole as u32));
            }
            index += stored.count();
        }
        match failure {
            Some((index, error)) => Err(at_input(error, index)),
            None if index < self.length => Err(at_input(Error::new(Kind::Cancelled).of_task(task), index)),
            None => Ok(()),
        }
    }

    /// Decodes each value by itself, in the order of the calls: a failure is the result of its own call.
    ///
    /// # Errors
    ///
    /// The pool takes no more calls.
    pub(crate) fn decode_each<R>(
        self,
        decode: Decode<R>,
        task: &'static str,
        results: &mut Vec<Result<R>>,
    ) -> Result<()> {
        let Some(first_input) = self.first_input else {
            return self.failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error));
        };
        let mut all: Vec<Option<Result<R>>> = std::iter::repeat_with(|| None).take(self.length as usize).collect();
        let mut put = |index: u32, result| {
            if let Some(place) = all.get_mut(index as usize) {
                *place = Some(result);
            }
        };
        for (first, stored) in &self.runs {
            for (index, payload) in (*first..).zip(stored.values().payloads()) {
                put(index, came_with(&self.regions, || decode_value(decode, task, payload)));
            }
        }
        for (index, error) in self.failures {
            put(index, Err(error.of_task(task)));
        }
        results.extend((first_input..).zip(all).map(|(input, result)| {
            let result = result.unwrap_or_else(|| Err(Error::new(Kind::Cancelled).of_task(task)));
            result.map_err(|error| error.at_input(input))
        }));
        Ok(())
    }
}
