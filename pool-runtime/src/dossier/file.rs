//! A call that was lost with its worker, as a file: what is known of the death, for people, and then all that it takes
//! to run the call again.
//!
//! ```text
//!   pool-runtime dossier 2
//!   812 bytes of text, 1048901 bytes of the call, checksum 0123456789abcdef
//!   … the text …
//!   … the call: length of the head, head, arguments, arguments of the initializer, regions of shared memory …
//! ```
//!
//! A reader trusts nothing in it: what is cut off, damaged or of another version is an error that says so.

use crate::codec::{Reader, Writer};
use crate::hash::Fnv;
use crate::os::Confinement;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// Raised with every change of the format.
const VERSION: u32 = 2;
const MAGIC: &str = "pool-runtime dossier ";
/// The first two lines are shorter.
const LONGEST_LINE: usize = 128;

/// A task, its signature, and its arguments as they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded<'r> {
    pub(crate) task: &'r str,
    pub(crate) signature: u64,
    pub(crate) arguments: &'r [u8],
}

/// What it takes to run a call again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostCall<'r> {
    /// A hash of the program.
    pub(crate) build: Option<u64>,
    pub(crate) pid: u32,
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    pub(crate) call: Recorded<'r>,
    /// What the worker had run before its first call.
    pub(crate) initializer: Option<Recorded<'r>>,
    /// The shared memory of which the arguments speak, by number.
    pub(crate) regions: Vec<(u64, &'r [u8])>,
    /// What the worker was not allowed to do.
    pub(crate) confinement: Option<Confinement>,
    /// Neither arguments nor regions are in it, as that would have been too much.
    pub(crate) left_out: bool,
}

/// How the rest is cut.
#[derive(Debug, Serialize, Deserialize)]
struct FileHead<'r> {
    build: Option<u64>,
    pid: u32,
    job: u64,
    attempt: u32,
    #[serde(borrow)]
    call: HeadOfCall<'r>,
    initializer: Option<HeadOfCall<'r>>,
    regions: Vec<(u64, u64)>,
    confinement: Option<Confinement>,
    left_out: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeadOfCall<'r> {
    task: &'r str,
    signature: u64,
    length: u64,
}

impl<'r> HeadOfCall<'r> {
    fn of(call: &Recorded<'r>) -> Self {
        Self { task: call.task, signature: call.signature, length: call.arguments.len() as u64 }
    }
}

fn checksum<'p>(parts: impl Iterator<Item = &'p [u8]>) -> u64 {
    let mut hash = Fnv::new();
    parts.for_each(|part| hash.write_words(part));
    hash.finish()
}

impl<'r> LostCall<'r> {
    /// Leaves out all that takes much room: the call can be told of, and not be run again.
    pub(crate) fn leave_out(&mut self) {
        (self.call.arguments, self.initializer, self.left_out) = (&[], None, true);
        self.regions.clear();
    }

    /// Writes the text and the call.
    pub(crate) fn write(&self, text: &str, to: &mut impl Write) -> io::Result<()> {
        let head = FileHead {
            build: self.build,
            pid: self.pid,
            job: self.job,
            attempt: self.attempt,
            call: HeadOfCall::of(&self.call),
            initializer: self.initializer.as_ref().map(HeadOfCall::of),
            regions: self.regions.iter().map(|(id, bytes)| (*id, bytes.len() as u64)).collect(),
            confinement: self.confinement.clone(),
            left_out: self.left_out,
        };
        let mut writer = Writer::new();
        writer.value(&head).map_err(io::Error::other)?;
        let head = writer.into_bytes();
        let head_length = (head.len() as u64).to_le_bytes();
        let initializer = self.initializer.map_or(&[][..], |initializer| initializer.arguments);
        let first: [&[u8]; 4] = [&head_length, &head, self.call.arguments, initializer];
        let parts = || first.into_iter().chain(self.regions.iter().map(|(_, bytes)| *bytes));
        let length: usize = parts().map(<[u8]>::len).sum();
        writeln!(to, "{MAGIC}{VERSION}")?;
        writeln!(
            to,
            "{} bytes of text, {length} bytes of the call, checksum {:016x}",
            text.len(),
            checksum(parts().chain([text.as_bytes()]))
        )?;
        to.write_all(text.as_bytes())?;
        parts().try_for_each(|part| to.write_all(part))
    }

    /// Reads what was written, and gives the text with it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
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
        if text.checked_add(length) != Some(rest.len()) {
            return Err(match text.checked_add(length) {
                Some(whole) if whole < rest.len() => "there is more behind it".into(),
                _ => CUT_OFF.into(),
            });
        }
        let (text, call) = rest.split_at(text);
        let (head_length, behind) = call.split_first_chunk::<8>().ok_or(CUT_OFF)?;
        let mut rest = behind;
        let mut take = |length: u64| {
            let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = left;
            Some(taken)
        };
        let damaged = "what is in it does not fit together";
        let head_bytes = take(u64::from_le_bytes(*head_length)).ok_or(damaged)?;
        let head: FileHead<'r> = Reader::new(head_bytes).value().map_err(|error| format!("{damaged}: {error}"))?;
        let mut recorded = |head: &HeadOfCall<'r>| {
            Some(Recorded { task: head.task, signature: head.signature, arguments: take(head.length)? })
        };
        let call = recorded(&head.call).ok_or(damaged)?;
        let initializer = head.initializer.as_ref().map(|head| recorded(head).ok_or(damaged)).transpose()?;
        let regions = head.regions.iter().map(|(id, length)| take(*length).map(|bytes| (*id, bytes)).ok_or(damaged));
        let regions = regions.collect::<Result<Vec<_>, _>>()?;
        if !rest.is_empty() {
            return Err(damaged.into());
        }
        let before = [&head_length[..], head_bytes, call.arguments, initializer.map_or(&[][..], |call| call.arguments)];
        let parts = before.into_iter().chain(regions.iter().map(|(_, bytes)| *bytes)).chain([text]);
        if checksum(parts) != sum {
            return Err("it is damaged: its checksum is another".into());
        }
        let text = std::str::from_utf8(text).map_err(|_| "its text is damaged")?;
        let FileHead { build, pid, job, attempt, confinement, left_out, .. } = head;
        Ok((text, Self { build, pid, job, attempt, call, initializer, regions, confinement, left_out }))
    }
}

/// The first line, and what is behind it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sandbox;

    fn lost_call() -> LostCall<'static> {
        LostCall {
            build: Some(1),
            pid: 2,
            job: 3,
            attempt: 4,
            call: Recorded { task: "a::b", signature: 5, arguments: b"arguments" },
            initializer: Some(Recorded { task: "a::init", signature: 6, arguments: b"more of them" }),
            regions: vec![(7, &[8; 100]), (9, b"")],
            confinement: Some(Sandbox::strict().read("/").resolve().unwrap()),
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
        assert_eq!(of(&format!("pool-runtime dossier 2\n{second}")), "it is cut off");
        let nothing = "0 bytes of text, 8 bytes of the call, checksum 0123456789abcdef\n";
        assert!(LostCall::read(&[b"pool-runtime dossier 2\n", nothing.as_bytes(), &[0xff; 8]].concat()).is_err());
    }
}
