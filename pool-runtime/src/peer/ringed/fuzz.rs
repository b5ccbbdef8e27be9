//! What the parent makes of the stream that it reads out of a ring, while the worker writes what it likes.

use crate::fuzz::rings::{Hostile, acts, stories};
use crate::fuzz::{Kind, Plan, run};
use crate::memory::Split;
use crate::peer::ringed::*;
use crate::protocol::Record;

/// Calls with these numbers are waited for; the dispatcher would say so.
const WAITED_FOR: std::ops::Range<u32> = 0..64;

/// As a pool does it: whole records are taken, one that nobody waits for is a fault.
#[derive(Default)]
struct Heard {
    taken: usize,
    splits: usize,
    most_split: usize,
}

impl Sink for Heard {
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String> {
        let known = |number: u32| match WAITED_FOR.contains(&number) {
            true => Ok(()),
            false => Err("reports a call that it was not sent".to_owned()),
        };
        let mut reader = RecordReader::new(stream);
        let nonsense = |_| "sent a report that makes no sense".to_owned();
        while let Some(record) = reader.next().map_err(nonsense)? {
            match record {
                Record::Values(values) => {
                    known(values.first()).and_then(|()| known(values.first() + values.count() - 1))?
                }
                Record::Attached(value) => known(value.number)?,
                Record::Failed { number, .. } | Record::Gather { number } => known(number)?,
                Record::Time { .. } => {}
            }
        }
        if let Some(unfinished) = reader.unfinished().map_err(nonsense)? {
            known(unfinished.number)?;
        }
        self.taken += reader.position();
        Ok(reader.position())
    }

    fn announced(&mut self, _: &[u8], _: u64) -> Result<(), String> {
        unreachable!("a ring has no frames")
    }

    fn split(&mut self, _: u32, split: Split) -> Result<(), String> {
        self.splits += 1;
        self.most_split = self.most_split.max(split.data.bytes().len());
        Ok(())
    }
}

#[test]
fn a_stream_out_of_memory_that_is_written_over() {
    let hostile = Hostile::new();
    let mut corpus = stories();
    // Plain data that gets memory of its own, more of it than there is in the ring at once.
    let length = KEPT as u64 + 40;
    let head = crate::protocol::RecordHead::bulk(3, 16, length as usize, 8);
    let beginning = crate::fuzz::rings::act(0, 0, 0, 0, &[&head[..], &[0; 16], &[6; 80]].concat());
    let more = crate::fuzz::rings::act(4, 0, 0, 120_000, &[]);
    corpus.push([&beginning[..], &more, &more, &more, &more, &more].concat());
    let most_split = std::cell::Cell::new(0);
    // As much as it says that it believes.
    let memory = |_| MOST_SPLIT + MOST_BELIEVED + 4 * KEPT;
    let tried = run(Plan { name: "a stream out of a ring", corpus, memory }, |input| {
        hostile.reset();
        let reports = ring::ReportReceiver::new(hostile.memory.clone());
        let mut receiving = Receiving { reports, stream: Vec::new(), split: None, padding: 0, fault: None };
        let mut heard = Heard::default();
        for act in acts(input) {
            hostile.act(&act);
            receiving.take_in(&mut heard);
            if receiving.fault.is_some() {
                break;
            }
        }
        most_split.set(most_split.get().max(heard.most_split));
        let Heard { taken, splits, .. } = heard;
        let waits = receiving.split.as_ref().map(|split| split.missing.ilog2());
        Kind::of((receiving.fault, taken.min(400) / 16, splits, waits, receiving.stream.len().min(64)))
    });
    assert!(tried.kinds > 30, "{tried:?}");
    assert!(most_split.get() >= length as usize, "no value was split");
}
