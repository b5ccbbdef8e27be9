//! What the parent makes of the stream that it reads out of a ring, while the worker writes what it likes.

use crate::{
    fuzz::{
        Kind, Plan,
        rings::{Hostile, acts, stories},
        run,
    },
    pool::ringline::*,
};

/// Calls with these numbers are waited for; the dispatcher would say so.
const WAITED_FOR: std::ops::Range<u32> = 0..64;

/// As whoever tells the dispatcher does it: whole records are taken, one that nobody waits for is a fault.
fn told(stream: &[u8]) -> Result<usize, String> {
    let mut at = 0;
    loop {
        match Record::first(&stream[at..]) {
            Ok(Some(record)) if !record.is_time() && !WAITED_FOR.contains(&record.number) => {
                return Err("reports a call that it was not sent".into());
            }
            Ok(Some(record)) if record.size() <= stream.len() - at => {
                let payload = &stream[record.payload(at)];
                record.told(payload).map_err(|_| "reports a failure that makes no sense")?;
                at += record.size();
            }
            Ok(_) => return Ok(at),
            Err(_) => return Err("sent a report that makes no sense".into()),
        }
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
        let mut receiving = Receiving { reports, stream: Vec::new(), split: None, filling: 0, fault: None };
        let (mut taken, mut splits) = (0, 0);
        for act in acts(input) {
            hostile.act(&act);
            receiving.take_in(
                |stream| told(stream).inspect(|whole| taken += whole),
                |whole| {
                    splits += 1;
                    most_split.set(most_split.get().max(whole.split.data.bytes().len()));
                    assert_eq!(whole.missing, 0);
                    Ok(())
                },
            );
            if receiving.fault.is_some() {
                break;
            }
        }
        let waits = receiving.split.as_ref().map(|split| split.missing.ilog2());
        Kind::of((receiving.fault, taken.min(400) / 16, splits, waits, receiving.stream.len().min(64)))
    });
    assert!(tried.kinds > 30, "{tried:?}");
    assert!(most_split.get() >= length as usize, "no value was split");
}
