//! Passes on what processes print: one thread for all of them, which also keeps the end of it.
//!
//! ```text
//!   worker ─stderr─▶ pipe ─┐
//!   worker ─stdout─▶ pipe ─┼─▶ pool-relay ─▶ the same stream of this process, or what captures it in a test
//!   orders ────────▶ bell ─┘        └──▶ strand: the last 4 KiB, for a report of the worker's death
//! ```
//!
//! Only the thread reads the pipes and prints. The output of a process that has ended is [drained](Relay::drain),
//! though processes that it has started may hold its pipe open. What those write later is passed on too, except in a
//! test, which may be over by then. Other threads never wait long for this one, as its own output may be blocked.

use crate::foreign;
use crate::locks::{lock, try_lock};
use crate::os::{self, PolledPipe, Poller};
use std::borrow::Cow;
use std::io::{self, PipeReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much is kept of the end of a stream.
const KEPT: usize = 1 << 12;
/// Longer lines are passed on in parts.
const LONGEST_LINE: usize = 1 << 20;
/// How long the beginning of a line waits for its end.
const HELD: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    Stdout,
    Stderr,
    /// To the test on whose thread the relay was made, with `print!` or `eprint!`.
    Test(fn(&str)),
    /// This process has no such stream.
    Nowhere,
}

/// How a stream is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedOn {
    /// Byte by byte: colours are the program's own.
    AsItIs,
    /// Without what a terminal would obey, as the process is not trusted.
    Escaped,
}

/// The thread, which ends when there is nothing left to pass on.
pub(crate) struct Relay {
    state: Arc<RelayState>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct RelayState {
    poller: Poller,
    orders: Mutex<Orders>,
}

#[derive(Default)]
struct Orders {
    new: Vec<RelayedStream>,
    drain: Vec<Arc<Strand>>,
    open: usize,
    /// No more will be added.
    over: bool,
    /// The thread could not be started.
    unattended: bool,
}

/// One stream of one process, as other threads see it.
#[derive(Debug, Default)]
pub(crate) struct Strand {
    last: Mutex<Vec<u8>>,
    /// Everything that was there when the stream was last drained has been passed on.
    drained: Mutex<bool>,
    changed: Condvar,
}

impl Strand {
    fn keep(&self, bytes: &[u8]) {
        let mut last = lock(&self.last);
        last.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = last.len().saturating_sub(KEPT);
        last.drain(..surplus);
    }

    /// The last 4 KiB, from the beginning of a line if they contain one.
    pub(crate) fn last(&self) -> Vec<u8> {
        let mut last = lock(&self.last).clone();
        if last.len() == KEPT
            && let Some(end) = last.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < last.len())
        {
            last.drain(..=end);
        }
        last
    }

    fn set_drained(&self) {
        *lock(&self.drained) = true;
        self.changed.notify_all();
    }
}

impl Relay {
    /// What is added waits until the thread is [started](Self::start).
    pub(crate) fn new() -> io::Result<Self> {
        let state = Arc::new(RelayState { poller: Poller::new()?, orders: Mutex::default() });
        Ok(Self { state, thread: Mutex::new(None) })
    }

    /// Starts the thread. In a test, its output belongs to the test on whose thread this is called.
    pub(crate) fn start(&self) -> io::Result<()> {
        let its = self.state.clone();
        let thread = os::spawn_thread("pool-relay", Some(1 << 18), move || {
            os::block_all_signals();
            its.pass_on();
        });
        // Without it, nobody waits for what it was to do.
        lock(&self.state.orders).unattended = thread.is_err();
        *lock(&self.thread) = Some(thread?);
        Ok(())
    }

    /// Gives the thread an order. Returns how many streams there are.
    fn order(&self, change: impl FnOnce(&mut Orders)) -> usize {
        let mut orders = lock(&self.state.orders);
        change(&mut orders);
        let open = orders.open;
        drop(orders);
        self.state.poller.ring();
        open
    }

    pub(crate) fn add(&self, pipe: PipeReader, to: To, how: PassedOn) -> io::Result<Arc<Strand>> {
        let pipe = PolledPipe::new(pipe)?;
        let strand = Arc::new(Strand::default());
        let stream = RelayedStream { pipe, to, how, unprinted: Vec::new(), held: None, strand: strand.clone() };
        self.order(|orders| {
            orders.new.push(stream);
            orders.open += 1;
        });
        Ok(strand)
    }

    /// Until when the streams of a process that has ended are drained: a while, as the output may be blocked; in a test,
    /// where that cannot happen, longer.
    pub(crate) fn patience(in_test: bool) -> Instant {
        Instant::now() + Duration::from_secs(if in_test { 60 } else { 2 })
    }

    /// Waits until everything that a process has printed, which has ended, is passed on. Gives up at `until`.
    pub(crate) fn drain(&self, strand: &Arc<Strand>, until: Instant) {
        self.order(|orders| orders.drain.push(strand.clone()));
        if lock(&self.state.orders).unattended {
            return;
        }
        let left = until.saturating_duration_since(Instant::now());
        let waited = strand.changed.wait_timeout_while(lock(&strand.drained), left, |drained| !*drained);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds no more streams. Waits for the thread, at most until `deadline`, unless another process still holds a pipe
    /// open. Returns whether there is nothing more to wait for.
    pub(crate) fn finish(&self, deadline: Option<Instant>) -> bool {
        let open = self.order(|orders| orders.over = true);
        loop {
            // Another caller may be waiting for it, without a limit.
            let its = if deadline.is_none() { Some(lock(&self.thread)) } else { try_lock(&self.thread) };
            if let Some(mut its) = its {
                match its.take_if(|thread| open > 0 || deadline.is_none() || thread.is_finished()) {
                    Some(thread) if open == 0 => {
                        // Nothing in it panics.
                        let _ = thread.join();
                        return true;
                    }
                    Some(_) => return true,
                    None if its.is_none() => return true,
                    None => {}
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            // Its output may be blocked.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.finish(None);
    }
}

impl RelayState {
    fn pass_on(&self) {
        let mut streams: Vec<RelayedStream> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut orders = lock(&self.orders);
            streams.append(&mut orders.new);
            let drain = std::mem::take(&mut orders.drain);
            drop(orders);
            for strand in drain {
                if let Some(at) = streams.iter().position(|stream| Arc::ptr_eq(&stream.strand, &strand))
                    && !streams[at].drain(&mut buffer)
                {
                    self.remove(&mut streams, at);
                }
                strand.set_drained();
            }
            let orders = lock(&self.orders);
            if orders.over && orders.open == 0 {
                return;
            }
            drop(orders);
            self.look(&mut streams, &mut buffer);
        }
    }

    fn remove(&self, streams: &mut Vec<RelayedStream>, at: usize) {
        let mut stream = streams.swap_remove(at);
        stream.print(stream.unprinted.len());
        let strand = stream.strand.clone();
        // The pipe is closed before any waiting thread is told.
        drop(stream);
        lock(&self.orders).open -= 1;
        strand.set_drained();
    }

    fn look(&self, streams: &mut Vec<RelayedStream>, buffer: &mut [u8]) {
        let held = streams.iter().filter_map(|stream| stream.held).min();
        let left = held.map(|until| until.saturating_duration_since(Instant::now()));
        let Ok(ready) = self.poller.wait(streams.iter().map(|stream| stream.pipe.handle()), left) else {
            // The kernel is short of memory, which passes.
            return std::thread::sleep(Duration::from_millis(10));
        };
        let now = Instant::now();
        // Backwards, as the last stream takes the place of one that is removed.
        for at in (0..streams.len()).rev() {
            let stream = &mut streams[at];
            if ready[at] && stream.read(buffer) == Some(0) {
                self.remove(streams, at);
            } else if stream.held.is_some_and(|until| until <= now) {
                stream.print_all();
            }
        }
    }
}

struct RelayedStream {
    pipe: PolledPipe,
    to: To,
    how: PassedOn,
    /// The beginning of a line, held back so that no other output ends up inside of a line.
    unprinted: Vec<u8>,
    /// When that is printed as it is.
    held: Option<Instant>,
    strand: Arc<Strand>,
}

impl RelayedStream {
    /// Reads once, and prints the lines that are whole by now. Returns the number of bytes, 0 at the end; None if
    /// nothing is there yet.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let length = match self.pipe.read(buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return None;
            }
            Err(_) => 0,
        };
        let new = &buffer[..length];
        self.strand.keep(new);
        let before = self.unprinted.len();
        self.unprinted.extend_from_slice(new);
        if let Some(end) = new.iter().rposition(|byte| *byte == b'\n') {
            self.print(before + end + 1);
            self.held = None;
        } else if self.unprinted.len() > LONGEST_LINE {
            self.print_all();
        }
        // Counted from the line's beginning, so that dots printed one by one appear. A test sees its output at its end.
        let waits = !self.unprinted.is_empty() && matches!(self.to, To::Stdout | To::Stderr);
        self.held = waits.then(|| self.held.unwrap_or_else(|| Instant::now() + HELD));
        Some(length)
    }

    /// Passes on everything that is there now. Returns whether there may be more to come.
    fn drain(&mut self, buffer: &mut [u8]) -> bool {
        // What other processes write meanwhile is not waited for.
        let mut left = self.pipe.unread();
        let more = loop {
            match self.read(buffer) {
                Some(0) => break false,
                None => break true,
                // One more read, for the end.
                Some(_) if left == 0 => break true,
                Some(length) => left = left.saturating_sub(length as u64),
            }
        };
        self.print_all();
        more && !matches!(self.to, To::Test(_))
    }

    /// Prints what is there, but not a part of a character whose rest may follow.
    fn print_all(&mut self) {
        let kept = match self.how {
            PassedOn::AsItIs => 0,
            PassedOn::Escaped => foreign::beginning_of_character(&self.unprinted),
        };
        self.print(self.unprinted.len() - kept);
        self.held = None;
    }

    fn print(&mut self, end: usize) {
        if end == 0 {
            return;
        }
        let printed = match self.how {
            PassedOn::AsItIs => Cow::Borrowed(&self.unprinted[..end]),
            PassedOn::Escaped => Cow::Owned(foreign::escaped(&self.unprinted[..end])),
        };
        match self.to {
            To::Stdout => os::copy_to_stdout(&printed),
            To::Stderr => os::copy_to_stderr(&printed),
            To::Test(print) => {
                let text = String::from_utf8_lossy(&printed);
                // `print!` panics where standard output is closed.
                if std::panic::catch_unwind(|| print(&text)).is_err() {
                    self.to = To::Nowhere;
                }
            }
            To::Nowhere => {}
        }
        self.unprinted.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    static PRINTED: Mutex<String> = Mutex::new(String::new());

    #[test]
    fn all_is_passed_on_and_the_last_is_kept() {
        let relay = Relay::new().unwrap();
        relay.start().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let strand = relay.add(reader, To::Test(|text| lock(&PRINTED).push_str(text)), PassedOn::AsItIs).unwrap();
        let mut all = String::new();
        for n in 0..5_000 {
            let line = format!("line {n}\n");
            writer.write_all(line.as_bytes()).unwrap();
            all.push_str(&line);
        }
        write!(writer, "the beginning of a line").unwrap();
        all.push_str("the beginning of a line");
        // The writer is open: nobody waits for it.
        relay.drain(&strand, Relay::patience(true));
        assert_eq!(*lock(&PRINTED), all);
        let last = String::from_utf8(strand.last()).unwrap();
        assert!(all.ends_with(&last) && last.starts_with("line ") && last.len() > KEPT - 20, "{last}");
        assert!(relay.finish(None));
        assert!(writer.write_all(b"x").is_err(), "nobody reads it any more");
    }

    #[test]
    fn the_beginning_of_a_line_is_held_from_when_it_came() {
        let (reader, mut writer) = io::pipe().unwrap();
        let pipe = PolledPipe::new(reader).unwrap();
        let mut stream = RelayedStream {
            pipe,
            to: To::Stderr,
            how: PassedOn::AsItIs,
            unprinted: Vec::new(),
            held: None,
            strand: Arc::default(),
        };
        let mut read = |text: &str| {
            writer.write_all(text.as_bytes()).unwrap();
            stream.read(&mut [0; 64]);
            (stream.held, stream.unprinted.clone())
        };
        let (first, _) = read(".");
        assert!(first.is_some());
        assert_eq!(read("."), (first, b"..".to_vec()));
        // The next line has its own time.
        let (second, rest) = read("\n.");
        assert!(second > first && rest == b".");
        assert_eq!(read("\n"), (None, Vec::new()));
    }

    #[test]
    fn who_cannot_print_holds_nobody_up() {
        static AFTER: Mutex<String> = Mutex::new(String::new());
        let relay = Relay::new().unwrap();
        relay.start().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let strand = relay.add(reader, To::Test(|_| panic!("nobody takes it")), PassedOn::AsItIs).unwrap();
        let (other_reader, mut other_writer) = io::pipe().unwrap();
        let other = relay.add(other_reader, To::Test(|text| lock(&AFTER).push_str(text)), PassedOn::AsItIs).unwrap();
        for _ in 0..2 {
            writer.write_all(b"line\n").unwrap();
            relay.drain(&strand, Relay::patience(true));
            assert!(std::mem::take(&mut *lock(&strand.drained)));
        }
        assert_eq!(strand.last(), b"line\nline\n");
        other_writer.write_all(b"seen\n").unwrap();
        relay.drain(&other, Relay::patience(true));
        assert_eq!(*lock(&AFTER), "seen\n");
    }

    #[test]
    fn an_untrusted_stream_is_escaped_and_its_characters_are_whole() {
        static SHOWN: Mutex<String> = Mutex::new(String::new());
        let (reader, mut writer) = io::pipe().unwrap();
        let mut stream = RelayedStream {
            pipe: PolledPipe::new(reader).unwrap(),
            to: To::Test(|text| lock(&SHOWN).push_str(text)),
            how: PassedOn::Escaped,
            unprinted: Vec::new(),
            held: None,
            strand: Arc::default(),
        };
        for part in [&b"\x1b]52;c;aGk=\x07\n\tsm\xc3"[..], b"\xb8r \xf0\x9f\xa6\x80\x9b\n", b"\xf0\x9f"] {
            writer.write_all(part).unwrap();
            stream.drain(&mut [0; 64]);
        }
        assert_eq!(
            stream.strand.last(),
            b"\x1b]52;c;aGk=\x07\n\tsm\xc3\xb8r \xf0\x9f\xa6\x80\x9b\n\xf0\x9f",
            "as it came"
        );
        assert_eq!(stream.unprinted, b"\xf0\x9f");
        stream.print(2);
        assert_eq!(*lock(&SHOWN), "\\x1b]52;c;aGk=\\x07\n\tsmør 🦀\\x9b\n\\xf0\\x9f");
    }

    #[test]
    fn what_is_kept_is_the_end() {
        let strand = Strand::default();
        strand.keep(b"short");
        assert_eq!(strand.last(), b"short");
        strand.keep(&[b'x'; 3 * KEPT]);
        assert_eq!(strand.last(), [b'x'; KEPT]);
        strand.keep(b"\nlast");
        assert_eq!(strand.last(), b"last");
        strand.keep(b"\n");
        assert_eq!(strand.last(), b"last\n");
    }
}
