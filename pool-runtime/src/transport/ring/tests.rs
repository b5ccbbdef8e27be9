//! Both ends of the rings in one process, beside a plain queue.

use crate::transport::conformance::Random;
use crate::transport::ring::*;
use std::collections::VecDeque;

fn ends() -> (CallSender, ReportReceiver, CallReceiver, ReportSender, Arc<BellPage>) {
    let memory = RingMemory::new().unwrap();
    let bells = BellPage::new().unwrap();
    let (incoming, outgoing) = {
        let duplicate = |handle: &Option<Handle>| handle.as_ref().unwrap().try_clone().unwrap();
        worker_ends((duplicate(&memory.handle), duplicate(&bells.handle))).unwrap()
    };
    let memory = Arc::new(memory);
    (CallSender::new(memory.clone()), ReportReceiver::new(memory), incoming, outgoing, Arc::new(bells))
}

#[test]
fn whatever_order_writer_and_reader_take_turns_in() {
    for seed in 1..40 {
        let (mut calls, _, mut incoming, ..) = ends();
        let mut random = Random::new(seed);
        let mut queue = VecDeque::new();
        for _ in 0..2000 {
            if random.below(2) == 0 {
                let mut frame = random.bytes();
                frame.truncate(WHOLE);
                if calls.send(frame.len(), |space| space.put(&frame)).unwrap() {
                    queue.push_back(frame);
                } else {
                    assert!(queue.iter().map(Vec::len).sum::<usize>() + WHOLE + 4 * 16 * queue.len() > CAPACITY / 2);
                }
            } else if let Some(frame) = queue.pop_front() {
                assert_eq!(incoming.next(|arrived| arrived == frame), Ok(true));
            }
        }
    }
}

#[test]
fn reports_arrive_in_order_however_large() {
    let (_, mut reports, _, mut outgoing, bells) = ends();
    let mut random = Random::new(7);
    let records: Vec<_> = (0..500).map(|_| random.bytes()).collect();
    let expected: usize = records.iter().map(|record| (8 + record.len()).next_multiple_of(8)).sum();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for record in &records {
                outgoing.push(&(record.len() as u64).to_le_bytes(), record).unwrap();
            }
            outgoing.flush(true).unwrap();
        });
        let mut bytes = Vec::new();
        while bytes.len() < expected {
            if reports.read(&mut bytes).unwrap() > 0 {
                continue;
            }
            let seen = bells.seen(COLLECTOR);
            reports.memory.arm(COLLECTOR);
            if !reports.memory.has_reports() {
                bells.wait(COLLECTOR, seen, None);
            }
            reports.memory.arm(0);
        }
        let mut at = 0;
        for record in &records {
            assert_eq!(bytes[at..at + 8], (record.len() as u64).to_le_bytes());
            assert_eq!(bytes[at + 8..at + 8 + record.len()], record[..]);
            at += (8 + record.len()).next_multiple_of(8);
        }
        assert_eq!(at, bytes.len());
    });
}

#[test]
fn plain_data_lies_aligned_in_a_frame() {
    let (mut calls, _, mut incoming, ..) = ends();
    for length in 1..200 {
        let frame = vec![1; length];
        assert!(calls.send(length, |space| space.put(&frame)).unwrap());
        assert_eq!(incoming.next(|arrived| arrived.as_ptr().align_offset(ALIGN)), Ok(0));
    }
}

#[test]
fn a_ring_that_was_scribbled_over_is_an_error() {
    let (mut calls, mut reports, mut incoming, mut outgoing, _) = ends();
    outgoing.push(&[1; 8], &[]).unwrap();
    let control = calls.memory.control.start().as_ptr();
    // SAFETY: the control page is mapped and nobody else looks at it meanwhile.
    let scribble = || unsafe { ptr::write_bytes(control, 0xff, size_of::<Control>()) };
    scribble();
    assert_eq!(reports.read(&mut Vec::new()), Err(CORRUPT));
    assert!(calls.send(WHOLE, |_| {}).is_ok(), "there was room when it last looked");
    assert!((0..8).any(|_| calls.send(WHOLE, |space| space.put(&[0; WHOLE])).is_err()));
    scribble();
    assert_eq!(incoming.next(|_| {}), Err(CORRUPT));
}
