//! Sockets that programs find by an address: TCP, and Unix sockets with a path.
//!
//! ```text
//!   Socket::listen(where)  ──accept──▶  Socket  ◀══ bytes ══▶  Socket  ◀──  Socket::connect(where)
//! ```
//!
//! Signals interrupt nothing: what they end is begun again, until the same deadline. A peer that is gone is an error,
//! never a `SIGPIPE`.

use super::handle::beyond_standard;
use super::poll::{timespec, wait_any};
use super::step;
use crate::os::{HandleRef, SocketFile, SocketPlace};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, lstat, open, stat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout, set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom_with, bind, connect, getsockname, listen, recv, sendmsg, shutdown, socket_with,
};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many connections the kernel keeps that are not accepted yet. It lowers this to its own limit (`somaxconn`).
const BACKLOG: i32 = 4096;

/// The longest path of a Unix socket, in bytes: `sun_path`, without its end.
const LONGEST_PATH: usize = 107;

/// How long the directory of a socket is waited for, where somebody else holds its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

fn new(family: AddressFamily, flags: SocketFlags) -> io::Result<OwnedFd> {
    let made = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None);
    beyond_standard(made.map_err(|error| step::SOCKET.failed(error))?)
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn unix_address(path: &Path) -> io::Result<SocketAddrUnix> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    let refusal = if bytes.is_empty() {
        "the path is empty".to_owned()
    } else if bytes.contains(&0) {
        "the path has a NUL byte, and sockets without a file (in the abstract name space) are not supported, as any user \
         can take their names: give the path of a file"
            .to_owned()
    } else if bytes.len() > LONGEST_PATH {
        format!(
            "the path has {} bytes, and that of a socket may have {LONGEST_PATH}: choose a shorter one, or one relative to \
             the current directory",
            bytes.len()
        )
    } else {
        return Ok(SocketAddrUnix::new(path)?);
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, refusal))
}

/// The time left; None without a deadline.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

impl Socket {
    /// Listens at a place. The file of a Unix socket is there afterwards. If one is there already at which nobody
    /// listens, as its process was killed, it is replaced.
    pub(crate) fn listen(place: SocketPlace<'_>) -> io::Result<(Self, Option<SocketFile>)> {
        let family = match place {
            SocketPlace::Internet(address) => family(&address),
            SocketPlace::File(_) => AddressFamily::UNIX,
        };
        // Not to wait for a client that has left between `poll` and `accept4`.
        let socket = new(family, SocketFlags::NONBLOCK)?;
        let file = match place {
            SocketPlace::Internet(address) => {
                set_socket_reuseaddr(&socket, true)?;
                bind(&socket, &address)?;
                listen(&socket, BACKLOG)?;
                None
            }
            SocketPlace::File(path) => {
                let address = unix_address(path)?;
                // Held until it listens: between the two calls, it looks like one that nobody listens at.
                let lock = lock_directory(path);
                match (bind(&socket, &address), &lock) {
                    (Err(Errno::ADDRINUSE), Ok(_)) if is_left_over(path, &address) => {
                        unlinkat(CWD, path, AtFlags::empty())?;
                        bind(&socket, &address)?;
                    }
                    (Err(Errno::ADDRINUSE), Err(why)) if is_left_over(path, &address) => {
                        return Err(io::Error::other(format!(
                            "nobody listens at the socket that is there, and it is not replaced, as this process could \
                             not lock the directory against others that would: {why}. Remove it, if it is of no use"
                        )));
                    }
                    (bound, _) => bound?,
                }
                listen(&socket, BACKLOG)?;
                let made = lstat(path)?;
                Some(SocketFile { device: made.st_dev, inode: made.st_ino })
            }
        };
        Ok((Self(socket), file))
    }

    /// Connects, at most until the deadline.
    pub(crate) fn connect(place: SocketPlace<'_>, deadline: Option<Instant>) -> io::Result<Self> {
        match place {
            SocketPlace::Internet(address) => {
                let socket = new(family(&address), SocketFlags::NONBLOCK)?;
                match connect(&socket, &address) {
                    Ok(()) => {}
                    Err(Errno::INPROGRESS | Errno::INTR) => await_connected(&socket, deadline)?,
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::fcntl_setfl(&socket, OFlags::RDWR)?;
                Ok(Self(socket).prompt())
            }
            SocketPlace::File(path) => {
                let address = unix_address(path)?;
                let socket = new(AddressFamily::UNIX, SocketFlags::empty())?;
                loop {
                    // Nothing else bounds the wait for room among those that are not accepted yet.
                    if let Some(left) = left(deadline) {
                        // Zero would be no limit.
                        set_socket_timeout(&socket, Timeout::Send, Some(left.max(Duration::from_millis(1))))?;
                    }
                    match connect(&socket, &address) {
                        Ok(()) => break,
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                        Err(error) => return Err(error.into()),
                    }
                }
                set_socket_timeout(&socket, Timeout::Send, None)?;
                Ok(Self(socket))
            }
        }
    }

    /// Takes a connection that is there, without waiting: it, and where it comes from, if that has an address.
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory): there is no memory, or no descriptor, for it.
    pub(crate) fn accept(&self) -> io::Result<Option<(Self, Option<SocketAddr>)>> {
        loop {
            match acceptfrom_with(&self.0, SocketFlags::CLOEXEC) {
                Ok((socket, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let socket = Self(beyond_standard(socket)?);
                    return Ok(Some((if from.is_some() { socket.prompt() } else { socket }, from)));
                }
                Err(Errno::AGAIN) => return Ok(None),
                // It was interrupted; or the client has left, which `accept(2)` tells in any of these ways.
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP
                    | Errno::NETUNREACH,
                ) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, step::ACCEPT.failed(error)));
                }
                Err(error) => return Err(step::ACCEPT.failed(error)),
            }
        }
    }

    /// Sends each message at once: TCP would otherwise wait for more.
    fn prompt(self) -> Self {
        // If it fails, messages are slower.
        let _ = set_tcp_nodelay(&self.0, true);
        self
    }

    /// Its own address, if it has one of the internet.
    pub(crate) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(SocketAddr::try_from(getsockname(&self.0)?).ok())
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.0.as_fd()
    }

    /// Sends all of these bytes; waits for room as long as that takes.
    pub(crate) fn send_all(&self, mut parts: [&[u8]; 2]) -> io::Result<()> {
        while parts.iter().any(|part| !part.is_empty()) {
            let mut sent = self.send(parts, SendFlags::empty())?;
            for part in &mut parts {
                let of_it = sent.min(part.len());
                (*part, sent) = (&part[of_it..], sent - of_it);
            }
        }
        Ok(())
    }

    /// Sends what there is room for. [`WouldBlock`](io::ErrorKind::WouldBlock): there is none.
    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send([bytes, &[]], SendFlags::DONTWAIT)
    }

    fn send(&self, parts: [&[u8]; 2], flags: SendFlags) -> io::Result<usize> {
        let parts = parts.map(IoSlice::new);
        let flags = flags | SendFlags::NOSIGNAL;
        Ok(retry_on_intr(|| sendmsg(&self.0, &parts, &mut SendAncillaryBuffer::default(), flags))?)
    }

    /// Waits for bytes; 0: the peer sends no more.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| recv(&self.0, &mut *buffer, RecvFlags::empty()))?.0)
    }

    /// As [`receive`](Self::receive), without waiting: [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT))?.0)
    }

    /// Waits until there is something to read, or the peer is gone. Returns whether that was before the deadline.
    pub(crate) fn await_readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = left(deadline);
            if wait_any([self.handle()].into_iter(), left)?[0] {
                return Ok(true);
            }
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
        }
    }

    /// Ends the connection in both directions, for all that use it.
    pub(crate) fn shut_down(&self) {
        // It fails only if the peer has done so.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

/// Waits until a connection that was begun is there.
fn await_connected(socket: &OwnedFd, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = left(deadline);
        let mut polled = [PollFd::new(socket, PollFlags::OUT)];
        match poll(&mut polled, timespec(left).as_ref()) {
            Ok(0) | Err(Errno::INTR) if left != Some(Duration::ZERO) => {}
            Ok(0) | Err(Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(socket_error(socket)??),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Locks the directory in which a socket is to be, against others of this library that listen there. Without the lock,
/// nothing in it is removed.
fn lock_directory(path: &Path) -> io::Result<OwnedFd> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = open(above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    await_lock(|| flock(&directory, FlockOperation::NonBlockingLockExclusive))?;
    Ok(directory)
}

/// Tries to lock something that others hold for a moment. Only that is waited for.
fn await_lock(mut lock: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock() {
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::WOULDBLOCK) => {
                let why = format!("another program has had it locked for {LOCK_PATIENCE:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            done => return Ok(done?),
        }
    }
}

/// Whether it is a socket at which nobody listens.
fn is_left_over(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = lstat(path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket);
    is_socket
        && new(AddressFamily::UNIX, SocketFlags::NONBLOCK)
            .is_ok_and(|probe| retry_on_intr(|| connect(&probe, address)) == Err(Errno::CONNREFUSED))
}

/// Takes the name of a socket's file away: afterwards, the only way to it is the one that is returned, which leads through
/// this process. So nothing is left when that ends, and only who may look into it can connect: this user.
pub(crate) fn hide_socket_file(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let _removed = unlinkat(CWD, path, AtFlags::empty());
    let file = beyond_standard(file?)?;
    let way = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let (own, found) = (fstat(&file)?, stat(&way)?);
    if (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino) {
        let why = "the `/proc` that is mounted here is that of other processes";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok((file, way))
}

/// Removes the file of a socket that is open, if it is still that one: no other file has its number as long as it is
/// open.
pub(crate) fn remove_socket_file(path: &Path, file: &SocketFile) {
    if lstat(path).is_ok_and(|found| (found.st_dev, found.st_ino) == (file.device, file.inode)) {
        // If it fails, whoever listens there next finds that nobody does.
        let _ = unlinkat(CWD, path, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(listener: &Socket) -> Socket {
        assert!(listener.await_readable(None).unwrap());
        listener.accept().unwrap().unwrap().0
    }

    #[test]
    fn what_is_sent_arrives_and_the_end_is_seen() {
        let (listener, _) = Socket::listen(SocketPlace::Internet("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.local_address().unwrap().unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = Socket::connect(SocketPlace::Internet(address), None).unwrap();
        let served = accepted(&listener);
        assert!([&client, &served].into_iter().all(|socket| socket.0.as_raw_fd() > 2));
        assert!(!served.await_readable(Some(Instant::now())).unwrap());
        client.send_all([b"one", b" two"]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(served.receive(&mut buffer).unwrap(), 7);
        assert_eq!(served.try_receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(client);
        assert!(served.await_readable(None).unwrap());
        assert_eq!(served.receive(&mut buffer).unwrap(), 0);
        // The first message tells this side that the peer is gone, the second one finds it so.
        let errors = (0..100).find_map(|_| served.send_all([b"x", b""]).err()).expect("it is gone");
        assert!(matches!(errors.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{errors}");
    }

    #[test]
    fn a_file_that_was_left_over_is_replaced_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, file) = Socket::listen(SocketPlace::File(&path)).unwrap();
        let in_use =
            |path: &Path| Socket::listen(SocketPlace::File(path)).unwrap_err().kind() == io::ErrorKind::AddrInUse;
        assert!(in_use(&path));
        drop(listener);
        assert!(file.is_some());
        let (_first, file) = Socket::listen(SocketPlace::File(&path)).unwrap();
        // Somebody has removed it, and listens there himself.
        std::fs::remove_file(&path).unwrap();
        let (_again, its_file) = Socket::listen(SocketPlace::File(&path)).unwrap();
        remove_socket_file(&path, &file.unwrap());
        assert!(path.exists());
        remove_socket_file(&path, &its_file.unwrap());
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(in_use(&path) && std::fs::read(&path).unwrap() == b"a file");
    }

    #[test]
    fn a_directory_that_cannot_be_locked_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(Socket::listen(SocketPlace::File(&path)).unwrap());
        let lock = lock_directory(&path).unwrap();
        let text = Socket::listen(SocketPlace::File(&path)).unwrap_err().to_string();
        assert!(text.contains("could not lock the directory") && text.contains("locked for 1s"), "{text}");
        drop(lock);
        Socket::listen(SocketPlace::File(&path)).unwrap();
    }

    #[test]
    fn only_a_lock_of_others_is_waited_for() {
        let mut outcomes = vec![Ok(()), Err(Errno::WOULDBLOCK), Err(Errno::INTR)];
        await_lock(|| outcomes.pop().unwrap()).unwrap();
        let mut outcomes = vec![Err(Errno::NOLCK)];
        let error = await_lock(|| outcomes.pop().expect("it is tried once")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOLCK.raw_os_error()));
    }

    #[test]
    fn connecting_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = new(AddressFamily::UNIX, SocketFlags::empty()).unwrap();
        bind(&socket, &unix_address(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        let mut waiting = Vec::new();
        let error = loop {
            match Socket::connect(SocketPlace::File(&path), soon()) {
                Ok(socket) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!waiting.is_empty());
    }
}
