//! What a worker is started with: descriptors with numbers in a row, in the order of the fields. The first number is in
//! the manifest. No code in the worker takes them for something else, as 3 and the next few are closed there from the
//! beginning.

use super::{file, handle, spawn};
use crate::os::{Given, Handle, Io};
use rustix::process::{getegid, geteuid, getgroups};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::{fmt, io};

/// What a worker was given, as text, for its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The number of the first one.
    first: RawFd,
    /// Its inode, as it is a socket: proves that nobody has closed it and opened something else.
    socket: u64,
    /// Whether it got those that not every worker has.
    stdout: bool,
    rings: bool,
}

impl<H> Given<H> {
    pub(super) fn in_order(&self) -> impl Iterator<Item = &H> {
        let always = [&self.reads, &self.writes, &self.status, &self.passed];
        let rings = self.rings.iter().flat_map(|(memory, bells)| [memory, bells]);
        always.into_iter().chain(&self.stdout).chain(rings)
    }
}

impl Given<Handle> {
    /// Refuses sockets that a process of another user or other groups has made. Whoever is at their other end chooses what
    /// runs here, so it must have the rights that this process has, neither fewer nor others.
    pub(crate) fn check_giver(&self) -> Result<(), String> {
        let (user, group) = (geteuid(), getegid());
        let ours = getgroups().map_err(|error| format!("cannot see its own groups: {error}"))?;
        for socket in [&self.reads, &self.writes, &self.passed] {
            let giver = giver_of(socket.as_fd()).map_err(|error| format!("cannot see whose worker it is: {error}"))?;
            if giver != (user.as_raw(), group.as_raw()) {
                return Err(format!(
                    "it was started to work for a process of user {} and group {}, and runs as user {user} and group \
                     {group}: it works only for a process with exactly its own rights",
                    giver.0, giver.1
                ));
            }
            let groups = groups_of_peer(socket.as_fd());
            let Some(groups) = groups.map_err(|error| format!("cannot see whose worker it is: {error}"))? else {
                continue;
            };
            if let Some(more) = ours.iter().find(|ours| **ours != group && !groups.contains(&ours.as_raw())) {
                return Err(format!(
                    "it belongs to group {more}, and the process for which it was started to work does not: it works \
                     only for a process with exactly its own rights"
                ));
            }
        }
        Ok(())
    }
}

/// The user and the group of the process that has made a socket, when it did. rustix would also read its number, and take
/// for impossible that it is 0, as it is for one of another name space of processes.
fn giver_of(socket: BorrowedFd<'_>) -> io::Result<(libc::uid_t, libc::gid_t)> {
    let mut giver = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut size = size_of_val(&giver) as libc::socklen_t;
    // SAFETY: there is room for such a value.
    let asked = unsafe {
        let place = (&raw mut giver).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut size)
    };
    if asked == 0 { Ok((giver.uid, giver.gid)) } else { Err(io::Error::last_os_error()) }
}

/// The supplementary groups of the process that has made a socket, when it did. None where the kernel does not tell.
fn groups_of_peer(socket: BorrowedFd<'_>) -> io::Result<Option<Vec<libc::gid_t>>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut size = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: there is room for so many bytes.
        let asked = unsafe {
            let place = groups.as_mut_ptr().cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, place, &raw mut size)
        };
        let length = size as usize / size_of::<libc::gid_t>();
        if asked == 0 {
            groups.truncate(length);
            return Ok(Some(groups));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // It says how much room it needs.
            Some(libc::ERANGE) if length > groups.len() => groups.resize(length, 0),
            Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => return Ok(None),
            _ => return Err(error),
        }
    }
}

impl Given<Io<'_>> {
    pub(crate) fn manifest(&self) -> io::Result<Manifest> {
        let socket = match self.reads {
            Io::Handle(socket) => file::identity(socket)?,
            Io::Null => 0,
        };
        let first = handle::lowest_number();
        Ok(Manifest { first, socket, stdout: self.stdout.is_some(), rings: self.rings.is_some() })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.first, self.socket, u8::from(self.stdout), u8::from(self.rings))
    }
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let [first, socket, stdout, rings] = parts[..] else { return None };
        // The standard streams are not among them.
        let first = first.parse().ok().filter(|first| (3..1 << 16).contains(first))?;
        Some(Self { first, socket: socket.parse().ok()?, stdout: stdout == "1", rings: rings == "1" })
    }

    pub(super) fn first(self) -> RawFd {
        self.first
    }

    /// Closes what else this process was started with, before it opens anything, where the C library could not do that
    /// when it was started.
    ///
    /// # Errors
    ///
    /// The system does not say what is open.
    pub(crate) fn close_strays(self) -> io::Result<()> {
        let count = 4 + RawFd::from(self.stdout) + 2 * RawFd::from(self.rings);
        if spawn::close_from().is_some() { Ok(()) } else { handle::close_from(self.first + count) }
    }

    /// Takes them, once, before this process opens anything. An error names what is missing.
    pub(crate) fn take(self) -> Result<Given<Handle>, String> {
        let mut numbers = self.first..;
        let mut next = |what: &str| {
            let number = numbers.next().unwrap_or(-1);
            handle::adopt(number).map_err(|error| format!("{what} passed on: {error}"))
        };
        let reads = next("its channel was not")?;
        if file::identity(&reads).unwrap_or(0) != self.socket {
            return Err(format!(
                "descriptor {} is not the channel that its parent passed on: has the program closed or opened \
                 descriptors before `pool_main!` or `enter()`?",
                self.first
            ));
        }
        Ok(Given {
            reads,
            writes: next("its channel was not")?,
            status: next("its status page was not")?,
            passed: next("its socket for shared memory was not")?,
            stdout: self.stdout.then(|| next("its standard output was not")).transpose()?,
            rings: match self.rings {
                true => Some((next("its rings were not")?, next("its rings were not")?)),
                false => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_back() {
        let manifest = Manifest { first: 100, socket: u64::MAX, stdout: true, rings: false };
        assert_eq!(Manifest::parse(&manifest.to_string()), Some(manifest));
        for damaged in ["", "2:1", "100:2:1", "100:2:1:0:4", "b:c:d:e", "100:-2:1:0", "2:2:1:0", "2147483647:2:1:0"] {
            assert_eq!(Manifest::parse(damaged), None, "{damaged}");
        }
    }
}
