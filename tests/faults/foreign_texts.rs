//! What a worker says is shown without anything that a terminal would obey, wherever it becomes a part of a message; as
//! it was written, it is there for those who ask.

use crate::support::{Running, VARIABLE, builder, over_every_transport, pool, transport_name};
use pool_runtime::{Process, task};
use std::process::Command;

over_every_transport! {
    panics_are_shown_without_controls,
    errors_of_values_are_shown_without_controls,
    refusals_are_shown_without_controls,
    a_long_text_is_cut_where_it_is_shown,
    the_end_of_stderr_is_shown_without_controls,
    output_of_sandboxed_workers_is_escaped,
}

/// Clears the screen, writes to the clipboard, and turns the direction of writing around.
const EVIL: &str = "\x1b[2J\x1b]52;c;aGk=\x07\u{9b}31m\r\u{202e}";
const SHOWN: &str = r"\x1b[2J\x1b]52;c;aGk=\x07\u{9b}31m\r\u{202e}";

#[track_caller]
fn is_harmless(shown: &str) {
    assert!(shown.contains(SHOWN), "{shown:?}");
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
    assert!(!shown.contains(obeyed), "{shown:?}");
}

#[task]
fn panics(text: &str) {
    panic!("{text}");
}

fn panics_are_shown_without_controls() {
    let text = format!("{EVIL}\n\tthe second line");
    let process = Process::new(panics::call(&text)).start().unwrap();
    for error in [pool(1).apply(panics::call(&text)).unwrap_err(), process.join().unwrap_err()] {
        is_harmless(&error.to_string());
        is_harmless(&format!("{error:?}"));
        is_harmless(&error.panic().unwrap().to_string());
        assert!(error.to_string().ends_with("\n\tthe second line"), "{error}");
        assert_eq!((error.panic().unwrap().message(), error.raw_text()), (&*text, Some(&*text)));
    }
}

/// Cannot be encoded in a worker, or decoded there.
enum Refuses {
    Encoding,
    Decoding,
}

impl serde::Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Encoding => Err(serde::ser::Error::custom(EVIL)),
            Self::Decoding => serializer.serialize_u8(1),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Refuses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?;
        Err(serde::de::Error::custom(EVIL))
    }
}

#[task]
fn take(_refuses: Refuses) {}

#[task]
fn give(encoded: bool) -> Refuses {
    if encoded { Refuses::Decoding } else { Refuses::Encoding }
}

fn errors_of_values_are_shown_without_controls() {
    let pool = pool(1);
    for (error, encode) in [
        (pool.apply(take::call(Refuses::Encoding)).unwrap_err(), true),
        (pool.apply(take::call(Refuses::Decoding)).unwrap_err(), false),
        (pool.apply(give::call(false)).map(drop).unwrap_err(), true),
        (pool.apply(give::call(true)).map(drop).unwrap_err(), false),
    ] {
        assert_eq!((error.is_encode(), error.is_decode()), (encode, !encode), "{error}");
        is_harmless(&error.to_string());
        assert!(error.raw_text().unwrap().contains(EVIL), "{error}");
    }
}

#[task(initializer)]
fn fail_to_begin(text: &str, panics: bool) -> Result<(), String> {
    if panics { panic!("{text}") } else { Err(text.to_owned()) }
}

fn refusals_are_shown_without_controls() {
    for panics in [false, true] {
        let error = builder().processes(1).initializer(fail_to_begin::call(EVIL, panics)).build().unwrap_err();
        is_harmless(&error.to_string());
        is_harmless(&format!("{error:?}"));
        assert_eq!(error.raw_text(), Some(EVIL), "{error}");
    }
}

fn a_long_text_is_cut_where_it_is_shown() {
    let text = "x".repeat(1 << 20);
    let error = pool(1).apply(panics::call(&text)).unwrap_err();
    assert!(
        error.to_string().len() < 1 << 15 && error.to_string().ends_with(" more bytes)"),
        "{}",
        error.to_string().len()
    );
    assert_eq!(error.raw_text(), Some(&*text));
}

#[task]
fn write_and_die(text: &str) {
    eprintln!("{text}");
    std::process::abort();
}

fn the_end_of_stderr_is_shown_without_controls() {
    let error = pool(1).apply(write_and_die::call(EVIL)).unwrap_err();
    let dossier = error.dossier().unwrap();
    is_harmless(&dossier.to_string());
    assert_eq!(dossier.stderr(), Some(&*format!("{EVIL}\n")));
}

/// A program whose workers, one in a sandbox and one not, write the same.
fn output_of_sandboxed_workers_is_escaped() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    let ended = Running::start(command.args(["colours"]).env(VARIABLE, transport_name())).finish();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("free \x1b[31mred\x1b[0m\n"), "{ended:?}");
    assert!(ended.stderr.contains("confined \\x1b[31mred\\x1b[0m\n"), "{ended:?}");
}
