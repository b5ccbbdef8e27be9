//! Calls that run where they are submitted: they pass no queue and no seat, but are counted, and refused, as all
//! others.

use crate::pool::dispatcher::events::{Refusal, Work};
use crate::pool::dispatcher::machine::{Dispatcher, Over};

impl<W: ?Sized + Work> Dispatcher<W> {
    /// So many calls begin.
    ///
    /// # Errors
    ///
    /// No new work is taken: why not.
    pub(crate) fn begin_inline(&mut self, calls: u32) -> Result<(), Refusal> {
        self.accepts()?;
        self.inline_calls += calls as usize;
        Ok(())
    }

    /// Is the next of them to run? Not once the pool was terminated.
    pub(crate) fn goes_on_inline(&self) -> bool {
        self.over != Over::Terminated
    }

    /// One of them has ended, with a value or not. Says whether that counts: not once the pool was terminated.
    pub(crate) fn ended_inline(&mut self, is_value: bool) -> bool {
        self.inline_calls -= 1;
        let counts = self.goes_on_inline();
        match is_value && counts {
            true => self.done += 1,
            false => self.failed += 1,
        }
        counts
    }
}
