//! Calls that run at once, on the thread that submits them: the pool's rules without its queue.

use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::locks::lock;
use crate::memory::{Arrivals, Payload};
use crate::peer::Inline;
use crate::pool::reports::attached;
use crate::pool::{Inner, Outcome, Submission};
use crate::protocol::{CallHeader, Record, RecordReader};
use std::sync::Arc;

impl Inner {
    /// Runs all these calls one after the other, and returns when they have ended.
    ///
    /// # Errors
    ///
    /// The pool takes no more calls.
    pub(super) fn run_inline(&self, inline: &Inline, work: &Arc<dyn Submission>, calls: u32) -> Result<()> {
        self.tell_core(|core, _| core.dispatcher.begin_inline(calls).map_err(|refusal| core.refusal(refusal)))
            .map_err(|error| error.of_task(work.task()))?;
        for index in 0..calls {
            // Terminating the pool meanwhile stops it.
            let goes_on = lock(&self.core).dispatcher.goes_on_inline();
            let result = match goes_on {
                true => self.run_one(inline, &**work, index).and_then(value),
                false => Err(Error::new(Kind::Terminated)),
            };
            let counts = self.tell(|dispatcher, _| dispatcher.ended_inline(result.is_ok()));
            let result = match result {
                Ok(_) if !counts => Err(Error::new(Kind::Terminated).with_ran(Ran::Maybe)),
                result => result,
            };
            let of_call = |error: Error| error.of_task(work.task()).of_job(work.first_job() + u64::from(index));
            work.end(index, Outcome::One(result.map_err(of_call)));
        }
        if self.tell(|dispatcher, _| dispatcher.is_over()) {
            self.changed.notify_all();
        }
        Ok(())
    }

    fn run_one(&self, inline: &Inline, work: &dyn Submission, index: u32) -> Result<(Vec<u8>, Arrivals)> {
        let (job, timing) = (work.first_job() + u64::from(index), work.policy().timing());
        inline.run(|mut writer, number| {
            // The slot is locked, so the arguments are copied here, and the task runs later.
            work.with_arguments(index..index + 1, &mut |arguments| {
                let task = (work.task(), work.policy().max_result);
                writer.chunk(CallHeader { job, attempt: 1, number, timing }, 1, task, arguments);
            });
        })
    }
}

/// The value in the records of a call.
fn value((records, mut arrivals): (Vec<u8>, Arrivals)) -> Result<Payload> {
    let range = match RecordReader::new(&records).next() {
        Ok(Some(Record::Values(values))) => values.payload_range(),
        Ok(Some(Record::Attached(value))) => return attached(&value, |ids| arrivals.take(ids, &[])),
        Ok(Some(Record::Failed { failed, .. })) => return Err(failed.into()),
        _ => return Err(Error::invalid("was not reported: this is a mistake in pool-runtime")),
    };
    Ok(Payload::part(records, range))
}
