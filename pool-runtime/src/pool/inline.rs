//! Calls that run at once, where they are submitted: the pool's rules, without its queue.

use crate::error::{Error, Kind, Result};
use crate::memory::payload::Payload;
use crate::peer::Inline;
use crate::pool::inner::Inner;
use crate::pool::submission::Submission;
use crate::protocol::{CallHeader, Record, RecordReader};
use crate::sync::lock;
use std::ops::Range;
use std::sync::Arc;

impl Inner {
    /// Runs all of these calls, one after the other; returns when they have ended.
    ///
    /// # Errors
    ///
    /// The pool takes no more calls.
    pub(super) fn run_inline(&self, inline: &Inline, work: &Arc<dyn Submission>, calls: u32) -> Result<()> {
        self.tell_core(|core, _| core.dispatcher.begin_inline(calls).map_err(|refusal| core.refusal(refusal)))
            .map_err(|error| error.of_task(work.task()))?;
        for index in 0..calls {
            // A pool that was terminated meanwhile runs nothing more.
            let goes_on = lock(&self.core).dispatcher.goes_on_inline();
            let result = match goes_on {
                true => self.run_one(inline, &**work, index).and_then(value),
                false => Err(Error::new(Kind::Terminated)),
            };
            let is_value = result.is_ok();
            let counts = self.tell(|dispatcher, _| dispatcher.ended_inline(is_value));
            match result {
                Ok(_) if !counts => {
                    let error = Error::new(Kind::Terminated).with_ran(crate::dossier::Ran::Maybe);
                    work.fail(index, error.of_task(work.task()));
                }
                Ok((record, payload)) => work.large_value(index, Payload::part(record, payload)),
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
            work.with_arguments(index..index + 1, &mut |arguments| {
                writer.chunk(CallHeader { job, attempt: 1, number, timing }, 1, work.task(), arguments);
            });
        })
    }
}

/// The value of a call, out of all that was said of it: the records, and where its payload is in them.
fn value(records: Vec<u8>) -> Result<(Vec<u8>, Range<usize>)> {
    let payload = match RecordReader::new(&records).next() {
        Ok(Some(Record::Values(values))) => values.payload_range(),
        Ok(Some(Record::Failed { failed, .. })) => return Err(failed.into()),
        _ => return Err(Error::invalid("was not reported: this is a mistake in pool-runtime")),
    };
    Ok((records, payload))
}
