//! How a worker's reports leave: over a ring, or as frames, through ipc-channel or to another thread.

use crate::memory::{Block, ShortBytes};
use crate::os;
use crate::protocol::{REPORTS_HEAD, RecordHead, reports_frame};
use crate::transport::ring::ReportSender;
use crate::transport::{Append as _, Outlet};

/// The exit code of a forked child that returns from a task.
const FORKED: i32 = 70;

pub(crate) enum Reporter {
    Frames {
        outlet: Box<dyn Outlet>,
        /// The records that have not been sent.
        frame: Vec<u8>,
        /// The process that reports: not a child that a task forks, and that returns from the task too.
        pid: u32,
    },
    Ring(ReportSender),
}

impl Reporter {
    pub(crate) fn frames(outlet: Box<dyn Outlet>) -> Self {
        Self::Frames { outlet, frame: reports_frame(), pid: os::current_pid() }
    }

    /// The most calls between two reads of the clock. Sending a frame takes longer than reading it.
    pub(crate) fn most_untimed(&self) -> u32 {
        match self {
            Self::Frames { .. } => 1,
            Self::Ring(_) => 256,
        }
    }

    /// Adds a record. In a ring, the parent can see it from now on.
    pub(crate) fn push(&mut self, head: RecordHead, payload: &[u8]) -> Result<(), String> {
        match self {
            Self::Ring(reports) => reports.push(&head, payload)?,
            Self::Frames { frame, .. } => put(frame, &[&head, payload]),
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn push_short(&mut self, number: u32, value: &ShortBytes) -> Result<(), String> {
        if let (Self::Ring(reports), Some(word)) = (&mut *self, value.word())
            && reports.push_words(RecordHead::of_word(number), word)
        {
            return Ok(());
        }
        self.push_short_slowly(number, value)
    }

    #[inline(never)]
    fn push_short_slowly(&mut self, number: u32, value: &ShortBytes) -> Result<(), String> {
        self.push(RecordHead::value(number, value.length()), value)
    }

    #[cold]
    pub(crate) fn push_bulk(&mut self, number: u32, before: &[u8], data: &Block) -> Result<(), String> {
        let head = RecordHead::bulk(number, before.len(), data.bytes().len(), data.align());
        let parts = [&*head, before, data.bytes()];
        match self {
            Self::Ring(reports) => reports.push_slowly(&parts)?,
            Self::Frames { frame, .. } => put(frame, &parts),
        }
        Ok(())
    }

    /// A value in these parts, which refers to the regions with these ids.
    pub(crate) fn push_attached(&mut self, number: u32, ids: &[u64], value: [&[u8]; 2]) -> Result<(), String> {
        let words = std::iter::once(ids.len() as u64).chain(ids.iter().copied());
        let before: Vec<_> = words.flat_map(u64::to_le_bytes).collect();
        let head = RecordHead::attached(number, before.len() + value[0].len() + value[1].len());
        let parts = [&*head, &before, value[0], value[1]];
        match self {
            Self::Ring(reports) => reports.push_slowly(&parts)?,
            Self::Frames { frame, .. } => put(frame, &parts),
        }
        Ok(())
    }

    /// Shows the parent all records so far. `pause` says that no more will come for a while.
    pub(crate) fn flush(&mut self, pause: bool) -> Result<(), String> {
        match self {
            Self::Ring(reports) => reports.flush(pause)?,
            Self::Frames { outlet, frame, pid } if frame.len() > REPORTS_HEAD => {
                if *pid != os::current_pid() {
                    // Over rings, whose memory it does not have, it has ended by now.
                    os::exit_now(FORKED);
                }
                let sent = outlet.send(frame);
                frame.truncate(REPORTS_HEAD);
                // The memory of a large frame is not kept.
                frame.shrink_to(1 << 16);
                sent.map_err(|error| format!("cannot report to its parent: {error}"))?;
            }
            Self::Frames { .. } => {}
        }
        Ok(())
    }
}

fn put(frame: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| frame.put(part));
    frame.pad(8);
}
