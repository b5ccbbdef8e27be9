//! The handshake, what a parent reads of a worker, and what a worker reads of its parent.

use crate::dossier::Stage;
use crate::fuzz::{Kind, Plan, run};
use crate::memory::packed::Packed;
use crate::options::WorkerOptions;
use crate::os::{Allowed, Confinement, Files, ResourceLimits};
use crate::panic::PanicInfo;
use crate::policy::Timing;
use crate::protocol::{
    CallHeader, CallsWriter, Failed, Failure, FromWorker, Hello, NamedCall, NotReady, Record, RecordHead, RecordReader,
    ToWorker, stop_frame,
};
use crate::transport::Append;

/// A text or a vector in it is copied once, and may double while it grows; what is said of a mistake is short.
fn some_copies(length: usize) -> usize {
    (16 << 10) + 8 * length
}

pub(super) fn panic_info() -> PanicInfo {
    // As a hook makes it, with a place and without a backtrace.
    crate::panic::catch(|| panic!("a panic by design, é")).unwrap_err()
}

fn hello() -> Hello {
    Hello {
        file: (64, 1 << 40),
        build: Some(u64::MAX),
        table: 7,
        epoch: 3,
        place: WorkerOptions::default().nice(3).cpus([0, 2]).place,
        name: "resize-3".into(),
        identity: "2:1".into(),
        parent_name: "main".into(),
        daemon: false,
        depth: 1,
        single: true,
        has_initializer: false,
        confinement: Some(Confinement {
            files: Some(Files {
                reads: vec![Allowed::new("/usr".into(), (1, 2)), Allowed::new("/tmp".into(), (3, 4))],
                ..Files::default()
            }),
            network: true,
            processes: false,
            limits: ResourceLimits { memory: Some(1 << 30), ..ResourceLimits::default() },
            best_effort: true,
            inherits_env: true,
        }),
        authkey: Some(vec![7; 32].into()),
    }
}

#[test]
fn the_handshake() {
    let call = NamedCall { task: "demo::open".into(), arguments: (0..200).collect() };
    let corpus = vec![
        hello().to_frame().to_vec(),
        Hello { build: None, confinement: None, place: WorkerOptions::default().place, authkey: None, ..hello() }
            .to_frame()
            .to_vec(),
        call.to_frame(),
        NamedCall { task: "é".repeat(40), arguments: Vec::new() }.to_frame(),
    ];
    for frame in &corpus {
        assert!(Hello::from_frame(frame).is_ok() || NamedCall::from_frame(frame).is_ok());
    }
    let tried = run(Plan { name: "the handshake", corpus, memory: some_copies }, |frame| {
        let hello = Hello::from_frame(frame);
        if let Ok(hello) = &hello {
            assert_eq!(Hello::from_frame(&hello.to_frame()).as_ref(), Ok(hello));
        }
        let call = NamedCall::from_frame(frame);
        if let Ok(call) = &call {
            assert_eq!(NamedCall::from_frame(&call.to_frame()).as_ref(), Ok(call));
        }
        let hello = hello.map(|hello| (hello.build.is_some(), hello.daemon, hello.single));
        Kind::of((hello.map_err(|why| Kind::of_text(&why)), call.map(drop).map_err(|why| why.to_string())))
    });
    assert!(tried.kinds > 6, "{tried:?}");
}

/// Records as a worker writes them, of all kinds.
pub(super) fn records() -> Vec<Vec<u8>> {
    let failures = [
        Failure::Panicked(panic_info()),
        Failure::Decode("the bytes end before the value does".into()),
        Failure::TooLarge { length: 9, most: 8 },
        Failure::Encode(String::new()),
        Failure::Unfit("this worker knows no task `a::b`".into()),
    ];
    let mut streams = Vec::new();
    let mut stream = Vec::new();
    let mut put = |head: &[u8], payload: &[u8]| {
        let begun = stream.len();
        stream.put(head);
        stream.put(payload);
        stream.pad(8);
        streams.push(stream[begun..].to_vec());
    };
    for number in 1..6 {
        put(&RecordHead::of_word(number), &u64::from(number).to_le_bytes());
    }
    for (failure, number) in failures.into_iter().zip(6..) {
        let failed = Failed { stage: Stage::Running, leaving: number % 2 == 0, failure };
        let payload = failed.to_payload(u64::MAX);
        put(&RecordHead::failed(number, payload.len()), &payload);
    }
    put(&RecordHead::time(9), &77_000_u64.to_le_bytes());
    put(&RecordHead::value(10, 0), &[]);
    put(&RecordHead::value(11, 100), &[3; 100]);
    put(&RecordHead::bulk(12, 16, 300, 8), &[[0; 16].as_slice(), &[5; 300]].concat());
    let two = [2, 7, u64::MAX].map(u64::to_le_bytes);
    put(&RecordHead::gather(13), &[]);
    put(&RecordHead::attached(13, 30), &[two.as_flattened(), &[4; 6]].concat());
    // One that is not all there.
    let long = RecordHead::value(13, 1 << 30);
    streams.push([&long[..], &[1; 50]].concat());
    streams.push(stream);
    streams
}

/// Reads records as the parent does. Returns what it has seen.
fn read_records(stream: &[u8]) -> Vec<u32> {
    let (mut reader, mut seen) = (RecordReader::new(stream), Vec::new());
    while seen.len() < 1 << 12 {
        let before = reader.position();
        seen.push(match reader.next() {
            Ok(Some(Record::Values(values))) => {
                assert_eq!(values.size(), reader.position() - before);
                let payloads: Vec<_> = values.payloads().collect();
                assert_eq!(payloads.len() as u32, values.count());
                assert!(payloads.iter().map(|payload| payload.len()).sum::<usize>() <= values.size());
                assert_eq!(values.payload_range().len(), payloads[0].len());
                // Wherever they are cut, they are the same.
                let (mut rest, cut) = (values, values.count() / 2);
                let front = rest.take(cut);
                assert!(front.payloads().chain(rest.payloads()).eq(payloads.iter().copied()));
                assert_eq!(rest.first(), values.first().wrapping_add(cut));
                10 + u32::from(!payloads[0].is_empty()) + 2 * values.count().min(3)
            }
            Ok(Some(Record::Failed { failed, .. })) => match failed.failure {
                Failure::Panicked(panic) => 20 + u32::from(panic.line().is_some()),
                Failure::Decode(_) => 22,
                Failure::Encode(_) => 23,
                Failure::Unfit(_) => 24,
                Failure::TooLarge { .. } => 25,
            },
            Ok(Some(Record::Time { .. })) => 30,
            Ok(Some(Record::Gather { .. })) => 31,
            Ok(Some(Record::Attached(value))) => {
                assert_eq!(value.length, 8 + 8 * value.ids().count() + value.value.len());
                40 + value.ids().count().min(3) as u32
            }
            Err(_) => {
                seen.push(102);
                break;
            }
            Ok(None) => match reader.unfinished() {
                Ok(Some(record)) => {
                    let rest = stream.len() - reader.position();
                    assert!(record.size() > rest);
                    if let Some(bulk) = record.bulk {
                        assert!(bulk.align.is_power_of_two() && bulk.at + bulk.length <= record.size());
                    }
                    seen.push(if record.bulk.is_some_and(|bulk| bulk.at <= rest) { 100 } else { 101 });
                    break;
                }
                _ => break,
            },
        });
    }
    seen
}

#[test]
fn what_a_parent_reads() {
    let mut corpus = vec![
        FromWorker::Welcome.to_frame(),
        FromWorker::Ready.to_frame(),
        FromWorker::Refused("it is another build".into()).to_frame(),
        FromWorker::NotReady(NotReady::Failed("no server".into())).to_frame(),
        FromWorker::NotReady(NotReady::Panicked(panic_info())).to_frame(),
    ];
    corpus.extend(records().iter().map(|records| FromWorker::Reports(records).to_frame()));
    corpus.iter().for_each(|frame| assert!(FromWorker::from_frame(frame).is_ok()));
    let tried = run(Plan { name: "what a parent reads", corpus, memory: some_copies }, |frame| {
        let read = FromWorker::from_frame(frame);
        if let Ok(read) = &read {
            assert_eq!(FromWorker::from_frame(&read.to_frame()).as_ref(), Ok(read));
        }
        match read {
            Ok(FromWorker::Reports(records)) => {
                let seen = read_records(records);
                // How the first ones are, and how the last one ends.
                Kind::of((&seen[..seen.len().min(3)], seen.last()))
            }
            Ok(FromWorker::Refused(_)) => Kind::of("refused"),
            Ok(FromWorker::NotReady(why)) => Kind::of(matches!(why, NotReady::Failed(_))),
            Ok(FromWorker::Welcome) => Kind::of("welcome"),
            Ok(FromWorker::Ready) => Kind::of("ready"),
            Err(why) => Kind::of(why.to_string()),
        }
    });
    assert!(tried.kinds > 30, "{tried:?}");
}

/// Frames of calls as a parent writes them.
fn calls() -> Vec<Vec<u8>> {
    let [mut differ, mut alike, mut nothing] = [(); 3].map(|()| Packed::default());
    for n in 0..20_u8 {
        differ.push(&vec![n; usize::from(n % 7) * 11]);
        alike.push(&[n; 8]);
        nothing.push(&[]);
    }
    let timing = Timing { timeout: std::num::NonZero::new(7), soft_timeout: None };
    let first = CallHeader { job: 100, attempt: 2, number: 9, timing };
    let chunks = [
        ("demo::task", differ.part(3..15)),
        ("demo::task", alike.part(0..20)),
        ("demo::other", alike.part(4..5)),
        ("demo::nothing", nothing.part(0..20)),
    ];
    let mut frames = vec![stop_frame()];
    for end in 1..=chunks.len() {
        let mut frame = Vec::new();
        let mut writer = CallsWriter::new(&mut frame, 7);
        for (task, part) in &chunks[end.saturating_sub(2)..end] {
            let part = crate::memory::packed::PackedSlice {
                every: part.every,
                ends: part.ends,
                base: part.base,
                skipped: part.skipped,
                bytes: part.bytes,
            };
            let count = if part.every.is_some() && part.bytes.len() == 8 { 1 } else { 20 };
            let limit = part.every.is_none().then_some(1 << 20);
            writer.chunk(first, if part.ends.is_empty() { count } else { 12 }, (*task, limit), part);
        }
        frames.push(frame);
    }
    frames
}

/// Calls without arguments take no bytes: how many there are of them, the parent alone says.
const MOST_CALLS: usize = 1 << 12;

#[test]
fn what_a_worker_reads() {
    let corpus = calls();
    for frame in &corpus {
        let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(frame) else { continue };
        while chunks.next().unwrap().is_some() {}
    }
    // Nothing is copied.
    let tried = run(Plan { name: "what a worker reads", corpus, memory: |_| 4 << 10 }, |frame| {
        let mut chunks = match ToWorker::from_frame(frame) {
            Ok(ToWorker::Calls(chunks)) => chunks,
            Ok(ToWorker::Stop) => return Kind::of("stop"),
            Err(why) => return Kind::of(why.to_string()),
        };
        let (mut seen, mut count) = ([0_u32; 8], 0);
        let why = loop {
            let chunk = match chunks.next() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break None,
                Err(why) => break Some(why.to_string()),
            };
            let place = frame.as_ptr_range();
            let inside = |bytes: &[u8]| {
                bytes.is_empty() || place.start <= bytes.as_ptr() && bytes.as_ptr_range().end <= place.end
            };
            assert!(inside(chunk.task.as_bytes()));
            for argument in chunk.arguments.take(MOST_CALLS) {
                assert!(inside(argument));
                seen[argument.len().div_ceil(16).min(7)] += 1;
            }
            count += 1;
        };
        Kind::of((seen.map(|seen| seen.min(3)), count.min(4), why))
    });
    assert!(tried.kinds > 30, "{tried:?}");
}
