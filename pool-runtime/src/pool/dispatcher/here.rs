//! Calls that run where they are submitted: they pass no queue and no seat, but are counted, and refused, as all
//! others.

use crate::{
    dossier::Ran,
    error::{Error, Kind},
    pool::dispatcher::{Dispatcher, Over, Work},
};

impl<W: ?Sized + Work> Dispatcher<W> {
    /// So many calls begin.
    ///
    /// # Errors
    ///
    /// No new work is taken: why not.
    pub(crate) fn begin_here(&mut self, calls: u32) -> Result<(), Error> {
        self.accepts()?;
        self.running_here += calls as usize;
        Ok(())
    }

    /// Is the next of them to run?
    ///
    /// # Errors
    ///
    /// The pool was terminated meanwhile.
    pub(crate) fn goes_on_here(&self) -> Result<(), Error> {
        match &self.over {
            Over::No | Over::Closed => Ok(()),
            Over::Terminated => Err(Error::new(Kind::Terminated)),
            Over::Failed(error) => Err(error.clone()),
        }
    }

    /// One of them has ended, with a value or not.
    ///
    /// # Errors
    ///
    /// The pool was terminated meanwhile: its value counts no more.
    pub(crate) fn ended_here(&mut self, is_value: bool) -> Result<(), Error> {
        self.running_here -= 1;
        let counts = self.goes_on_here().map_err(|error| error.with_ran(Ran::Maybe));
        match is_value && counts.is_ok() {
            true => self.done += 1,
            false => self.failed += 1,
        }
        counts
    }
}
