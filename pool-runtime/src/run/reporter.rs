//! How a worker's reports leave: over a ring, or as frames, through ipc-channel or to another thread.

use crate::memory::{Block, Few};
use crate::protocol::{RecordHead, reports_frame};
use crate::transport::{Append as _, Outlet, ring};

pub(crate) enum Reporter {
    Channel {
        outlet: Box<dyn Outlet>,
        /// The records of the call that has just ended.
        frame: Vec<u8>,
    },
    Ring(ring::ReportSender),
}

impl Reporter {
    /// How many calls may end between two looks at the clock, at the most. A message takes longer than such a look.
    pub(crate) fn most_untimed(&self) -> u32 {
        match self {
            Self::Channel { .. } => 1,
            Self::Ring(_) => 256,
        }
    }

    /// Adds a record. In a ring, the parent can see it from now on.
    pub(crate) fn push(&mut self, head: RecordHead, payload: &[u8]) -> Result<(), String> {
        match self {
            Self::Ring(outgoing) => outgoing.push(&head, payload).map_err(str::to_owned),
            Self::Channel { frame, .. } => {
                if frame.is_empty() {
                    reports_frame(frame);
                }
                frame.put(&head);
                frame.put(payload);
                frame.pad(8);
                Ok(())
            }
        }
    }

    /// Adds the record of a value of a few bytes.
    #[inline(always)]
    pub(crate) fn push_few(&mut self, number: u32, value: &Few) -> Result<(), String> {
        if let (Self::Ring(outgoing), Some(word)) = (&mut *self, value.word())
            && outgoing.push_words(RecordHead::of_word(number), word)
        {
            return Ok(());
        }
        self.push_few_slowly(number, value)
    }

    #[inline(never)]
    fn push_few_slowly(&mut self, number: u32, value: &Few) -> Result<(), String> {
        self.push(RecordHead::value(number, value.length()), value)
    }

    /// Adds the record of a value that ends in plain data.
    #[cold]
    pub(crate) fn push_bulk(&mut self, number: u32, before: &[u8], data: &Block) -> Result<(), String> {
        let head = RecordHead::bulk(number, before.len(), data.bytes().len(), data.align());
        let parts = [&*head, before, data.bytes()];
        match self {
            Self::Ring(outgoing) => outgoing.push_slowly(&parts).map_err(str::to_owned),
            Self::Channel { frame, .. } => {
                if frame.is_empty() {
                    reports_frame(frame);
                }
                parts.iter().for_each(|part| frame.put(part));
                frame.pad(8);
                Ok(())
            }
        }
    }

    /// All that there is to say until now has been added; `pause` says that nothing more will come for a while.
    pub(crate) fn flush(&mut self, pause: bool) -> Result<(), String> {
        match self {
            Self::Ring(outgoing) => outgoing.flush(pause).map_err(str::to_owned),
            Self::Channel { frame, .. } if frame.is_empty() => Ok(()),
            Self::Channel { outlet, frame } => {
                let sent = outlet.send(frame);
                // A large one's memory is not kept.
                if frame.capacity() > 1 << 16 {
                    *frame = Vec::new();
                }
                frame.clear();
                sent.map_err(|error| format!("cannot report to its parent: {error}"))
            }
        }
    }
}
