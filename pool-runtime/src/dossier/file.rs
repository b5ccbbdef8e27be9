//! The file format of a lost call: a report for people, then what it takes to run the call again.
//!
//! ```text
//!   pool-runtime dossier 3
//!   812 bytes of text, 1048901 bytes of the call, checksum 0123456789abcdef
//!   … the text …
//!   … the call: length of the head, head, arguments, arguments of the initializer, regions of shared memory …
//! ```
//!
//! A reader trusts nothing in it: a truncated or damaged file, or one of another version, is an error.

use crate::codec::{Reader, Writer};
use crate::hash::Fnv;
use crate::os::Confinement;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

const VERSION: u32 = 4;
const MAGIC: &str = "pool-runtime dossier ";
const LONGEST_LINE: usize = 128;

/// A task, its signature, and its encoded arguments: bytes, or their length in the head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded<'r, B = &'r [u8]> {
    pub(crate) task: &'r str,
    pub(crate) signature: u64,
    pub(crate) arguments: B,
}

/// What it takes to run a call again. With lengths in place of bytes, it is the head of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostCall<'r, B = &'r [u8]> {
    /// A hash of the program.
    pub(crate) build: Option<u64>,
    pub(crate) pid: u32,
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    #[serde(borrow)]
    pub(crate) call: Recorded<'r, B>,
    /// What the worker had run before its first call.
    pub(crate) initializer: Option<Recorded<'r, B>>,
    /// The regions that the arguments refer to, by number.
    pub(crate) regions: Vec<(u64, B)>,
    /// Which of them may be written.
    pub(crate) writable: Vec<u64>,
    pub(crate) confinement: Option<Confinement>,
    /// Arguments and regions were too large to be kept.
    pub(crate) left_out: bool,
}

impl<'r, B> LostCall<'r, B> {
    /// Maps all bytes, in the order in which they lie in a file.
    fn map<C>(self, mut f: impl FnMut(B) -> C) -> LostCall<'r, C> {
        let mut recorded = |Recorded { task, signature, arguments }: Recorded<'r, B>| Recorded {
            task,
            signature,
            arguments: f(arguments),
        };
        let (call, initializer) = (recorded(self.call), self.initializer.map(&mut recorded));
        let regions = self.regions.into_iter().map(|(id, bytes)| (id, f(bytes))).collect();
        let Self { build, pid, job, attempt, writable, confinement, left_out, .. } = self;
        LostCall { build, pid, job, attempt, call, initializer, regions, writable, confinement, left_out }
    }
}

fn checksum<'p>(parts: impl Iterator<Item = &'p [u8]>) -> u64 {
    let mut hash = Fnv::new();
    parts.for_each(|part| hash.write_words(part));
    hash.finish()
}

impl<'r> LostCall<'r> {
    /// Leaves out arguments and regions: the call can then be reported, but not run again.
    pub(crate) fn leave_out(&mut self) {
        (self.call.arguments, self.initializer, self.left_out) = (&[], None, true);
        self.regions.clear();
    }

    /// The bytes of arguments in the file.
    pub(crate) fn size(&self) -> u64 {
        let initializer = self.initializer.map_or(0, |call| call.arguments.len());
        let regions: usize = self.regions.iter().map(|(_, bytes)| bytes.len()).sum();
        (self.call.arguments.len() + initializer + regions) as u64
    }

    pub(crate) fn write(&self, text: &str, to: &mut impl Write) -> io::Result<()> {
        let mut writer = Writer::new();
        writer.value(&self.clone().map(|bytes| bytes.len() as u64)).map_err(io::Error::other)?;
        let head = writer.into_bytes();
        let head_length = (head.len() as u64).to_le_bytes();
        let initializer = self.initializer.map_or(&[][..], |initializer| initializer.arguments);
        let first: [&[u8]; 4] = [&head_length, &head, self.call.arguments, initializer];
        let parts = || first.into_iter().chain(self.regions.iter().map(|(_, bytes)| *bytes));
        let length: usize = parts().map(<[u8]>::len).sum();
        let sum = checksum(parts().chain([text.as_bytes()]));
        writeln!(to, "{MAGIC}{VERSION}")?;
        writeln!(to, "{} bytes of text, {length} bytes of the call, checksum {sum:016x}", text.len())?;
        to.write_all(text.as_bytes())?;
        parts().try_for_each(|part| to.write_all(part))
    }

    /// Reads a file: its text and the call.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn read(file: &'r [u8]) -> Result<(&'r str, Self), String> {
        const CUT_OFF: &str = "it is cut off";
        let (first, rest) = line(file).ok_or("it is not a dossier of pool-runtime")?;
        let version = first.strip_prefix(MAGIC).ok_or("it is not a dossier of pool-runtime")?;
        if version != VERSION.to_string() {
            return Err(format!("it is of version {version}, and this program reads version {VERSION}"));
        }
        let (second, rest) = line(rest).ok_or(CUT_OFF)?;
        let numbers = || {
            let (text, second) = second.split_once(" bytes of text, ")?;
            let (call, sum) = second.split_once(" bytes of the call, checksum ")?;
            let sum = (sum.len() == 16).then(|| u64::from_str_radix(sum, 16).ok())??;
            Some((text.parse::<usize>().ok()?, call.parse::<usize>().ok()?, sum))
        };
        let (text, length, sum) = numbers().ok_or("its second line is damaged")?;
        match text.checked_add(length) {
            Some(whole) if whole == rest.len() => {}
            Some(whole) if whole < rest.len() => return Err("there is more behind it".into()),
            _ => return Err(CUT_OFF.into()),
        }
        let (text, call) = rest.split_at(text);
        let (head_length, mut rest) = call.split_first_chunk::<8>().ok_or(CUT_OFF)?;
        let mut take = |length: u64| {
            let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = left;
            Some(taken)
        };
        let damaged = "what is in it does not fit together";
        let head_bytes = take(u64::from_le_bytes(*head_length)).ok_or(damaged)?;
        let head: LostCall<'r, u64> = Reader::new(head_bytes).value().map_err(|error| format!("{damaged}: {error}"))?;
        let mut parts = vec![&head_length[..], head_bytes];
        let mut whole = true;
        let call = head.map(|length| {
            let part = take(length);
            whole &= part.is_some();
            parts.extend(part);
            part.unwrap_or_default()
        });
        if !whole || !rest.is_empty() {
            return Err(damaged.into());
        }
        if checksum(parts.into_iter().chain([text])) != sum {
            return Err("it is damaged: its checksum is another".into());
        }
        Ok((std::str::from_utf8(text).map_err(|_| "its text is damaged")?, call))
    }
}

/// The first line, and the rest.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "sandbox")]
    fn confinement() -> Option<Confinement> {
        Some(crate::Sandbox::strict().read("/").resolve().unwrap())
    }

    #[cfg(not(feature = "sandbox"))]
    fn confinement() -> Option<Confinement> {
        None
    }

    fn lost_call() -> LostCall<'static> {
        LostCall {
            build: Some(1),
            pid: 2,
            job: 3,
            attempt: 4,
            call: Recorded { task: "a::b", signature: 5, arguments: b"arguments" },
            initializer: Some(Recorded { task: "a::init", signature: 6, arguments: b"more of them" }),
            regions: vec![(7, &[8; 100]), (9, b"")],
            writable: vec![9],
            confinement: confinement(),
            left_out: false,
        }
    }

    fn written(record: &LostCall<'_>) -> Vec<u8> {
        let mut file = Vec::new();
        record.write("the text\nof it\n", &mut file).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let bare = LostCall {
            build: None,
            initializer: None,
            regions: Vec::new(),
            confinement: None,
            left_out: true,
            ..lost_call()
        };
        for record in [lost_call(), bare] {
            let file = written(&record);
            assert_eq!(LostCall::read(&file), Ok(("the text\nof it\n", record)));
        }
    }

    #[test]
    fn damage_is_refused_wherever_it_is() {
        let file = written(&lost_call());
        for length in 0..file.len() {
            assert!(LostCall::read(&file[..length]).is_err(), "of {length} bytes");
        }
        assert!(LostCall::read(&[&file[..], b"x"].concat()).is_err());
        for at in 0..file.len() {
            for flip in [1, 0x80, 0xff] {
                let mut file = file.clone();
                file[at] ^= flip;
                assert!(LostCall::read(&file).is_err(), "byte {at}, {flip}");
            }
        }
    }

    #[test]
    fn lengths_without_sense_are_refused() {
        let of = |text: &str| LostCall::read(text.as_bytes()).unwrap_err();
        assert_eq!(of("#!/bin/sh\n"), "it is not a dossier of pool-runtime");
        assert!(of("pool-runtime dossier 1\n").contains("version 1"));
        let most = usize::MAX;
        let second = format!("{most} bytes of text, {most} bytes of the call, checksum 0123456789abcdef\n");
        let head = format!("{MAGIC}{VERSION}\n");
        assert_eq!(of(&format!("{head}{second}")), "it is cut off");
        let nothing = "0 bytes of text, 8 bytes of the call, checksum 0123456789abcdef\n";
        assert!(LostCall::read(&[head.as_bytes(), nothing.as_bytes(), &[0xff; 8]].concat()).is_err());
    }
}
