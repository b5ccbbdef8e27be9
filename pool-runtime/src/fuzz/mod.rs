//! A small fuzzer: what the other process may send is thrown at the code that reads it, damaged in every way.
//!
//! ```text
//!   real encoders ──▶ corpus ──▶ mutate ──▶ target ──▶ its outcome is new? into the corpus
//!                                             │
//!                                             └──▶ panic, too much memory, no end: seed and input are printed
//! ```
//!
//! A target is a plain function of bytes that says what it made of them. It must not panic, hang, or allocate more than
//! the bytes justify. What is new is told by the kind of its outcome: no instrumentation, no other tool chain.
//!
//! | variable | |
//! |---|---|
//! | `POOL_FUZZ_SECONDS` | how long each target is tried; 1 if nobody says |
//! | `POOL_FUZZ_SEED` | where the mutations start from; the same each time if nobody says |
//! | `POOL_FUZZ_INPUT` | one input in hexadecimal digits, which is tried in place of all others |

pub(crate) mod frames;
mod memory;
mod mutate;
mod page;
mod planted;
pub(crate) mod rings;
mod values;
mod watch;

pub(crate) use mutate::Random;

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Inputs are not made longer than this.
const LONGEST: usize = 1 << 13;
/// More inputs are not kept.
const MOST_KEPT: usize = 1 << 11;
/// However slow the machine is, so many inputs are tried.
const LEAST: u64 = 500;

/// Of what kind an outcome is: two of one kind teach nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind(u64);

impl Kind {
    pub(crate) fn of(what: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// A text, whatever the numbers in it are.
    pub(crate) fn of_text(text: &str) -> Self {
        let words = text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        Self::of(words.collect::<Vec<_>>())
    }
}

/// How a target is tried.
pub(crate) struct Plan<'p> {
    pub(crate) name: &'p str,
    /// What the real encoders make.
    pub(crate) corpus: Vec<Vec<u8>>,
    /// How many bytes of memory an input of this length justifies.
    pub(crate) memory: fn(usize) -> usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) inputs: u64,
    pub(crate) kinds: usize,
}

/// What a target must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Panicked(String),
    Greedy(usize),
    Hung,
}

/// An input that makes a target do it.
#[derive(Clone, Debug)]
struct Found {
    fault: Fault,
    seed: u64,
    input: Vec<u8>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Panicked(text) => write!(f, "it panicked: {text}")?,
            Fault::Greedy(bytes) => write!(f, "it had {bytes} bytes of memory for {} of input", self.input.len())?,
            Fault::Hung => write!(f, "it has not come to an end within {:?}", watch::PATIENCE)?,
        }
        write!(f, "\nPOOL_FUZZ_SEED={} reaches it, POOL_FUZZ_INPUT=", self.seed)?;
        self.input.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(" is it")
    }
}

fn said(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How long each target is tried.
pub(crate) fn time() -> Duration {
    let seconds = said("POOL_FUZZ_SECONDS").map_or(1.0, |time| time.parse().expect("POOL_FUZZ_SECONDS is a number"));
    Duration::from_secs_f64(seconds)
}

/// Where the mutations start from.
pub(crate) fn seed() -> u64 {
    said("POOL_FUZZ_SEED").map_or(1, |seed| seed.parse().expect("POOL_FUZZ_SEED is a whole number"))
}

/// Tries a target for as long as the environment says; panics with the first input that it does not withstand.
#[track_caller]
pub(crate) fn run(plan: Plan<'_>, target: impl Fn(&[u8]) -> Kind) -> Tried {
    let (name, seed) = (plan.name, seed());
    let found = match said("POOL_FUZZ_INPUT") {
        Some(hex) => {
            let input = from_hex(&hex).expect("POOL_FUZZ_INPUT has two hexadecimal digits for each byte");
            attempt(&plan, &target, &input).map(|_| Tried { inputs: 1, kinds: 1 }).map_err(|fault| (fault, input))
        }
        None => search(&plan, &target, seed, time(), watch::give_up(name, seed)),
    };
    match found {
        Ok(tried) => {
            println!("{name}: {} inputs, {} kinds of outcomes, seed {seed}", tried.inputs, tried.kinds);
            tried
        }
        Err((fault, input)) => panic!("{name} does not withstand an input: {}", Found { fault, seed, input }),
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

/// One input.
fn attempt(plan: &Plan<'_>, target: &impl Fn(&[u8]) -> Kind, input: &[u8]) -> Result<Kind, Fault> {
    let (kind, most) = memory::most_of(|| crate::panic::catch(|| target(input)));
    let kind = kind.map_err(|panic| Fault::Panicked(panic.message().to_owned()))?;
    if most > (plan.memory)(input.len()) { Err(Fault::Greedy(most)) } else { Ok(kind) }
}

/// Inputs without end, until the time is over or one is found that the target does not withstand.
fn search(
    plan: &Plan<'_>,
    target: &impl Fn(&[u8]) -> Kind,
    seed: u64,
    time: Duration,
    hung: impl FnOnce(&[u8]) + Send,
) -> Result<Tried, (Fault, Vec<u8>)> {
    watch::over(hung, |watched| {
        let attempt = |input: &[u8]| {
            watched.begin(input);
            let outcome = attempt(plan, target, input);
            watched.end();
            outcome.map_err(|fault| (fault, input.to_vec()))
        };
        let mut kinds = HashSet::new();
        let mut corpus = plan.corpus.clone();
        assert!(!corpus.is_empty(), "nothing to begin with");
        for input in &corpus {
            kinds.insert(attempt(input)?);
        }
        let (mut random, mut inputs) = (Random::new(seed), corpus.len() as u64);
        let begun = Instant::now();
        while inputs < LEAST || begun.elapsed() < time {
            let input = random.mutated(&corpus, LONGEST);
            if kinds.insert(attempt(&input)?) {
                if corpus.len() < plan.corpus.len() + MOST_KEPT {
                    corpus.push(input);
                } else {
                    // What came from the encoders stays.
                    let at = plan.corpus.len() + random.below(MOST_KEPT);
                    corpus[at] = input;
                }
            }
            inputs += 1;
        }
        Ok(Tried { inputs, kinds: kinds.len() })
    })
}
