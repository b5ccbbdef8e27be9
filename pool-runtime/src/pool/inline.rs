//! Calls that run at once, where they are submitted: the pool's rules, without its queue.

use crate::{
    error::{Error, Result},
    peer::Inline,
    pool::shared::{Shared, Submission},
    protocol::{CallHeader, Record, Told},
};
use std::sync::Arc;

impl Shared {
    /// Runs all of these calls, one after the other; returns when they have ended.
    ///
    /// # Errors
    ///
    /// The pool takes no more calls.
    pub(super) fn run_here(&self, inline: &Inline, work: &Arc<dyn Submission>, calls: u32) -> Result<()> {
        self.tell(|dispatcher, _| dispatcher.begin_here(calls)).map_err(|error| error.of_task(work.task()))?;
        for index in 0..calls {
            // A pool that was terminated meanwhile runs nothing more.
            let records = match self.tell(|dispatcher, _| dispatcher.goes_on_here()) {
                Ok(()) => self.run_one(inline, &**work, index),
                Err(error) => Err(error),
            };
            let result = records.and_then(told);
            let is_value = result.is_ok();
            let counted = self.tell(|dispatcher, _| dispatcher.ended_here(is_value));
            match result.and_then(|record| counted.map(|()| record)) {
                Ok(record) => work.large_value(index, record),
                Err(error) => work.fail(index, error.of_task(work.task())),
            }
        }
        if self.tell(|dispatcher, _| dispatcher.is_over()) {
            self.changed.notify_all();
        }
        Ok(())
    }

    fn run_one(&self, inline: &Inline, work: &dyn Submission, index: u32) -> Result<Vec<u8>> {
        let (job, timing) = (work.first_job() + u64::from(index), work.policy().timing());
        inline.run(|mut writer, number| {
            // Copied where they lie, as the slot is locked: the task runs later.
            work.with_arguments(index..index + 1, &mut |part| {
                writer.chunk(CallHeader { job, attempt: 1, number, timing }, 1, work.task(), part);
            });
        })
    }
}

/// The record of a call's value, out of all that was said of it.
fn told(mut records: Vec<u8>) -> Result<Vec<u8>> {
    let nonsense = || Error::invalid("was not reported: this is a mistake in pool-runtime");
    let record = Record::first(&records).ok().flatten().ok_or_else(nonsense)?;
    let payload = records.get(record.payload(0)).ok_or_else(nonsense)?;
    match record.told(payload) {
        Ok(Told::Value(_)) => {
            records.truncate(record.size());
            Ok(records)
        }
        Ok(Told::Failed(failed)) => Err(failed.into()),
        _ => Err(nonsense()),
    }
}
