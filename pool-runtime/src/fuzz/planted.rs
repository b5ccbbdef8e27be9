//! The fuzzer finds what is planted: a test that passes because nothing is looked for would show nothing.

use crate::fuzz::*;

fn plan(memory: fn(usize) -> usize) -> Plan<'static> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    Plan { name: "a planted mistake", corpus: vec![words(&[1, 8, 2, 0, 0]), words(&[2, 0])], memory }
}

/// Enough for all that is planted here, whatever the machine; the time is not waited for.
const TIME: Duration = Duration::from_secs(60);

fn word(input: &[u8], at: usize) -> Option<u32> {
    input.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_le_bytes(*word))
}

fn nobody(_: &[u8]) {
    panic!("nothing hangs here");
}

#[test]
fn a_panic_behind_two_conditions_is_found() {
    // A length that is not checked, behind a tag and a number that the encoder never writes.
    let target = |input: &[u8]| match (word(input, 0), word(input, 8)) {
        (Some(1), Some(3)) => {
            let length = word(input, 4).unwrap() as usize;
            Kind::of(("three", input[12..].get(..length.min(9)).is_some(), input[12..][..length.min(1 << 20)].len()))
        }
        (Some(tag), number) => Kind::of((tag.min(4), number.map(|number| number.min(8)))),
        (None, _) => Kind::of("short"),
    };
    let (fault, input) = search(&plan(|_| 1 << 20), &target, 1, TIME, nobody).unwrap_err();
    assert!(matches!(fault, Fault::Panicked(_)), "{fault:?}");
    // What is printed is enough to see it again.
    let shown = Found { fault: fault.clone(), seed: 1, input }.to_string();
    let hex = shown.split("POOL_FUZZ_INPUT=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let again = attempt(&plan(|_| 1 << 20), &target, &from_hex(hex).unwrap());
    assert!(matches!(again, Err(Fault::Panicked(_))), "{again:?}");
}

#[test]
fn the_same_seed_finds_the_same() {
    let target = |input: &[u8]| {
        assert_ne!(word(input, 4), Some(u32::MAX));
        Kind::of(input.len())
    };
    let found = || search(&plan(|_| 1 << 20), &target, 7, TIME, nobody).unwrap_err().1;
    assert_eq!(found(), found());
}

#[test]
fn memory_taken_on_the_say_of_an_input_is_found() {
    let target = |input: &[u8]| {
        let announced = word(input, 4).unwrap_or(0) as usize;
        let bytes = Vec::<u8>::with_capacity(announced.min(1 << 30));
        Kind::of(std::hint::black_box(bytes).is_empty())
    };
    let (fault, _) = search(&plan(|length| 1000 + 16 * length), &target, 1, TIME, nobody).unwrap_err();
    assert!(matches!(fault, Fault::Greedy(bytes) if bytes > 1000), "{fault:?}");
}

#[test]
fn what_has_no_end_is_noticed() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let hung = move |input: &[u8]| sender.send(input.to_vec()).unwrap();
    watch::over_within(Duration::from_millis(20), hung, |watched| {
        watched.begin(b"endless");
        // It would hang for good.
        assert_eq!(receiver.recv().unwrap(), b"endless");
        watched.end();
    });
}
