//! The parent's ends of the rings, over memory that a hostile worker writes over, between and during reads.

use crate::fuzz::{Kind, Plan, Random, run, seed, time};
use crate::memory::Block;
use crate::os::{GRANULE, Mapping};
use crate::transport::Append as _;
use crate::transport::ring::{self, COLLECTOR, CallSender, LAZY, ReportReceiver};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

/// What the memory consists of: a page of positions, the bytes of calls, those of reports.
pub(crate) const RING: usize = 1 << 18;
/// Each word that is in use has a place of its own on the page.
const PLACE: usize = 128;
const PLACES: usize = 10;
/// Where the worker says how far it has written its reports, and how far it has read its calls.
const REPORTS_WRITTEN: usize = 4 * PLACE;
const CALLS_READ: usize = PLACE;

/// A worker that writes whatever it likes into the memory of its rings.
pub(crate) struct Hostile {
    pub(crate) memory: Arc<ring::RingMemory>,
    mapping: Mapping,
}

impl Hostile {
    pub(crate) fn new() -> Self {
        let memory = ring::RingMemory::new().expect("memory");
        let mapping =
            Mapping::new(memory.handle.as_ref().expect("not passed on"), GRANULE + 2 * RING).expect("a mapping");
        Self { memory: memory.into(), mapping }
    }

    /// As new.
    pub(crate) fn reset(&self) {
        (0..PLACES).for_each(|place| self.word(place * PLACE).store(0, Ordering::Relaxed));
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < GRANULE);
        // SAFETY: the page is mapped as long as `self` lives, and the word is aligned; all access to it is atomic.
        unsafe { self.mapping.start().byte_add(at).cast().as_ref() }
    }

    /// Writes over the bytes of the reports, from a position of that ring on.
    fn write(&self, position: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            let at = GRANULE + RING + position.wrapping_add(n as u64) as usize % RING;
            // SAFETY: the place is mapped as long as `self` lives; others copy what is there, whatever it is.
            unsafe { self.mapping.start().byte_add(at).cast::<AtomicU8>().as_ref() }.store(*byte, Ordering::Relaxed);
        }
    }

    /// Writes these bytes where the next report goes, and says that they are there.
    fn publish(&self, bytes: &[u8], length: u64) {
        let written = self.word(REPORTS_WRITTEN);
        let before = written.load(Ordering::Relaxed);
        self.write(before, bytes);
        written.store(before.wrapping_add(length), Ordering::Release);
    }

    /// Does what the bytes say.
    pub(crate) fn act(&self, act: &Act<'_>) {
        match act.what % 8 {
            // What a worker in its right mind does.
            0..=3 => self.publish(act.bytes, act.bytes.len() as u64),
            4 => self.publish(act.bytes, act.number),
            5 => self.word(usize::from(act.place) % PLACES * PLACE).store(act.number, Ordering::Release),
            6 => drop(self.word(usize::from(act.place) % PLACES * PLACE).fetch_add(act.number, Ordering::AcqRel)),
            // Where there may be something unread.
            _ => self.write(self.word(REPORTS_WRITTEN).load(Ordering::Relaxed).wrapping_sub(act.number), act.bytes),
        }
    }
}

/// One thing that the worker does, and what the parent does next.
pub(crate) struct Act<'i> {
    what: u8,
    pub(crate) then: u8,
    place: u8,
    number: u64,
    bytes: &'i [u8],
}

const HEAD: usize = 16;

/// An act is sixteen bytes, and as many more as its fourth one says, eight at a time.
pub(crate) fn acts(mut input: &[u8]) -> impl Iterator<Item = Act<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = input.split_first_chunk::<HEAD>()?;
        let (bytes, rest) = rest.split_at(rest.len().min(8 * usize::from(head[3])));
        input = rest;
        let number = head[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        Some(Act { what: head[0], then: head[1], place: head[2], number, bytes })
    })
}

/// The bytes of an act.
pub(crate) fn act(what: u8, then: u8, place: u8, number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut act = vec![what, then, place, bytes.len().div_ceil(8) as u8, 0, 0, 0, 0];
    act.extend_from_slice(&number.to_le_bytes());
    act.extend_from_slice(bytes);
    act.resize(HEAD + bytes.len().next_multiple_of(8), 0);
    act
}

/// ReportReceiver as they come, acts between them that make no sense, and everything that the parent does at its end.
pub(crate) fn stories() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = super::frames::records()
        .iter()
        .flat_map(|records| records.chunks(2000))
        .map(|part| act(0, 0, 0, 0, part))
        .collect();
    all.push(all.concat());
    for then in 0..8 {
        all.push([act(0, then, 0, 0, &[7; 64]), act(6, then, 1, 64, &[]), act(0, then, 0, 0, &[8; 8])].concat());
    }
    for (what, place, number) in [(4, 0, RING as u64 + 8), (5, 4, u64::MAX), (5, 1, 1 << 40), (6, 4, 8), (7, 0, 40)] {
        all.push(
            [act(0, 0, 0, 0, &[9; 48]), act(what, 1, place, number, &[0xff; 16]), act(0, 2, 0, 0, &[1; 8])].concat(),
        );
    }
    all
}

#[test]
fn ends_over_memory_that_is_written_over() {
    let hostile = Hostile::new();
    let frame = vec![5; 3 * RING];
    let memory = |length| 2 * RING + 8 * length + (16 << 10);
    let plan = Plan { name: "the rings' ends", corpus: stories(), memory };
    let tried = run(plan, |input| {
        hostile.reset();
        let memory = &hostile.memory;
        let (mut calls, mut reports) = (CallSender::new(memory.clone()), ReportReceiver::new(memory.clone()));
        let (mut read, mut sent, mut mad) = (0, 0, None);
        let mut under_way = false;
        for act in acts(input) {
            hostile.act(&act);
            let outcome = match act.then % 8 {
                0..=2 => {
                    let mut stream = Vec::new();
                    let outcome = reports.read(&mut stream).map(|length| length > 0).map_err(|_| ring::Corrupt);
                    assert_eq!(outcome.is_ok_and(|any| any), !stream.is_empty());
                    assert!(stream.len() <= RING);
                    read += stream.len();
                    outcome
                }
                3 => {
                    let mut block = Block::with_room(1 + act.bytes.len(), 8).expect("memory");
                    let most = act.bytes.len() / 2;
                    let outcome = reports.read_bulk(most, &mut block);
                    assert_eq!(block.bytes().len(), outcome.unwrap_or(0));
                    read += block.bytes().len();
                    outcome.map(|length| length > 0)
                }
                // One that goes in pieces is sent to its end before others are.
                4 | 5 if !under_way => calls.send(ring::WHOLE, |space| space.put(&frame[..act.bytes.len()])),
                4..=6 => {
                    let outcome = calls.send_in_pieces(&frame);
                    under_way = outcome == Ok(false);
                    calls.await_room();
                    outcome
                }
                _ => {
                    memory.arm(COLLECTOR | LAZY);
                    let any = memory.has_reports() | memory.worker_is_on(u32::from(act.place));
                    memory.set_crowded(any);
                    memory.arm(0);
                    Ok(any)
                }
            };
            sent += u32::from(act.then % 8 > 3 && outcome == Ok(true));
            if outcome.is_err() {
                // The worker is killed, and nobody looks at its rings again.
                mad = Some(act.then % 8);
                break;
            }
        }
        Kind::of((read.min(300) / 8, sent.min(9), mad, under_way))
    });
    assert!(tried.kinds > 30, "{tried:?}");
}

#[test]
fn ends_while_the_memory_is_written_over() {
    let hostile = Hostile::new();
    let over = AtomicBool::new(false);
    let (mut read, mut mad) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(seed());
            while !over.load(Ordering::Relaxed) {
                let place = [REPORTS_WRITTEN, CALLS_READ, random.below(PLACES) * PLACE][random.below(3)];
                match random.below(8) {
                    0 => hostile.word(place).store(random.interesting(RING), Ordering::Release),
                    1..=5 => hostile.publish(&random.next().to_le_bytes(), 8),
                    6 => drop(hostile.word(CALLS_READ).fetch_add(8 * random.below(64) as u64, Ordering::AcqRel)),
                    _ => hostile.write(random.next(), &random.next().to_le_bytes()),
                }
            }
        });
        let (begun, frame) = (Instant::now(), vec![5; 2 * RING]);
        // Whatever the machine is busy with, both have to come to pass.
        while begun.elapsed() < time() || (read == 0 || mad == 0) && begun.elapsed() < super::watch::PATIENCE {
            hostile.reset();
            let (mut calls, mut reports) =
                (CallSender::new(hostile.memory.clone()), ReportReceiver::new(hostile.memory.clone()));
            let mut stream = Vec::new();
            for _ in 0..100 {
                stream.clear();
                let outcome = reports.read(&mut stream);
                assert!(stream.len() <= RING);
                read += stream.len() as u64;
                if outcome.is_err() || calls.send_in_pieces(&frame).is_err() {
                    mad += 1;
                    break;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(read > 0 && mad > 0, "{read} bytes were read, and it was {mad} times found out");
}
