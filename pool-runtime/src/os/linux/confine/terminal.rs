//! Terminals: which devices are terminals, and how a confined process gives up the one that controls it.

use super::super::step;
use rustix::fs::{Mode, OFlags, major, minor, open};
use rustix::io::Errno;
use rustix::process::{RawPid, getpid, setsid};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// From here on, no terminal controls this process, nor what it starts: `/dev/tty` leads nowhere, and reading from the
/// background stops nobody. It stays in the program's process group. Only who leads a session gets another one.
pub(super) fn leave() -> io::Result<()> {
    // A call that is run again by hand may lead its session: giving up the terminal would end all that it was started
    // from. A worker never does.
    if session() == getpid().as_raw_nonzero().get() {
        return Ok(());
    }
    match open("/dev/tty", OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NXIO) => return Ok(()),
        Ok(tty) if give_up(tty.as_raw_fd()) => return Ok(()),
        // A sandbox around this one denies it, for good; a stream may be open all the same.
        Err(Errno::ACCESS) => {
            [0, 1, 2].into_iter().any(give_up);
            return Ok(());
        }
        // Not every container has the file.
        _ => {}
    }
    if has_none() || [0, 1, 2].into_iter().any(give_up) {
        return Ok(());
    }
    // Nothing leads to it. A session of its own has none.
    setsid().map(drop).map_err(|error| step::SETSID.failed(error))
}

/// The session's leader; 0 if it is in another name space of processes, which rustix takes for impossible.
fn session() -> RawPid {
    // SAFETY: numbers alone. Of the calling process it does not fail.
    unsafe { libc::getsid(0) }
}

/// Gives up the terminal if this is the one that controls this process.
fn give_up(terminal: RawFd) -> bool {
    // SAFETY: the request takes nothing, and reads and writes no memory; what is not open is an error.
    unsafe { libc::ioctl(terminal, libc::TIOCNOTTY) == 0 }
}

/// Whether the kernel says that no terminal controls this process.
fn has_none() -> bool {
    // The name, in parentheses, may have any characters; then come the state, four numbers of processes, and the terminal.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(4)) == Some("0")
}

/// Whether a character device of this number is a terminal.
pub(super) fn is_terminal(device: u64) -> bool {
    is_listed(&std::fs::read_to_string("/proc/tty/drivers").unwrap_or_default(), (major(device), minor(device)))
}

/// The drivers' ends of lines are: the major number, the minor numbers as `a` or `a-b`, and the kind.
fn is_listed(drivers: &str, (major, minor): (u32, u32)) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    let lists = |line: &str| {
        let mut fields = line.split_whitespace().rev().skip(1);
        let (minors, of) = (fields.next()?, number(fields.next()?)?);
        let (first, last) = minors.split_once('-').unwrap_or((minors, minors));
        Some(of == major && (number(first)?..=number(last)?).contains(&minor))
    };
    // Consoles and serial ports, their other names, and pseudoterminals, in any case.
    matches!(major, 4 | 5 | 128..=143) || drivers.lines().any(|line| lists(line) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_say_which_devices_are_terminals() {
        let drivers = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
                       usbserial            /dev/ttyUSB   188 0-511 serial\n\
                       ttyprintk            /dev/ttyprintk  5       3 console\n\nodd";
        for (device, expected) in [
            ((188, 511), true),
            ((188, 512), false),
            ((5, 0), true),
            ((136, 7), true),
            ((1, 9), false),
            ((10, 1), false),
        ] {
            assert_eq!(is_listed(drivers, device), expected, "{device:?}");
        }
        assert!(is_listed("", (4, 64)) && !is_listed("", (1, 3)));
    }
}
