//! In a sandbox without a network, a task has no sockets but pairs, and those lead nowhere else.

use crate::support::{builder, directory, over_every_transport, returns};
use pool_runtime::{Pool, Sandbox, task};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::Path,
};

over_every_transport! {
    no_socket_is_made,
    a_pair_of_sockets_works_and_leads_nowhere,
    a_network_can_be_allowed,
    it_can_be_all_that_is_denied,
}

type Outcome<T = ()> = Result<T, Option<i32>>;

const NOT_PERMITTED: Outcome = Err(Some(libc::EPERM));

fn outcome<T>(done: io::Result<T>) -> Outcome {
    done.map(drop).map_err(|error| error.raw_os_error())
}

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

#[task]
fn greet(address: &SocketAddr) -> Outcome {
    outcome(TcpStream::connect(address).and_then(|mut stream| stream.write_all(b"hello")))
}

#[task]
fn others(dir: &Path) -> Vec<Outcome> {
    vec![
        outcome(TcpListener::bind("127.0.0.1:0")),
        outcome(UdpSocket::bind("127.0.0.1:0")),
        outcome(UnixListener::bind(dir.join("listener"))),
        outcome(UnixStream::connect(dir.join("server"))),
        outcome(UnixDatagram::unbound()),
    ]
}

/// Returns what came through a stream, and what came of a pair that can send to any address.
#[task]
fn pairs(server: &Path) -> (String, Outcome) {
    let (mut here, mut there) = UnixStream::pair().expect("a pair");
    here.write_all(b"through").and_then(|()| here.shutdown(std::net::Shutdown::Both)).expect("a pair");
    let mut text = String::new();
    there.read_to_string(&mut text).expect("a pair");
    let reached = UnixDatagram::pair().and_then(|(here, _there)| here.send_to(b"told", server));
    (text, outcome(reached))
}

#[task]
fn other_pairs() -> Vec<Outcome> {
    let pair = |family, kind| {
        let mut fds = [0; 2];
        // SAFETY: there is room for both descriptors, which nobody else knows of; they stay open.
        let done = unsafe { libc::socketpair(family, kind, 0, fds.as_mut_ptr()) };
        outcome(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
    };
    vec![
        pair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC),
        pair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC),
        pair(libc::AF_UNIX, libc::SOCK_RAW),
    ]
}

fn no_socket_is_made() {
    let dir = directory();
    let _server = UnixListener::bind(dir.path().join("server")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = inside(Sandbox::strict().write(dir.path()));
    assert_eq!(pool.apply(greet::call(&listener.local_addr().unwrap())).unwrap(), NOT_PERMITTED);
    assert_eq!(pool.apply(others::call(dir.path())).unwrap(), [NOT_PERMITTED; 5]);
}

fn a_pair_of_sockets_works_and_leads_nowhere() {
    let dir = directory();
    let server = UnixDatagram::bind(dir.path().join("server")).unwrap();
    server.set_nonblocking(true).unwrap();
    let pool = inside(Sandbox::strict().write(dir.path()));
    assert_eq!(pool.apply(pairs::call(&dir.path().join("server"))).unwrap(), ("through".into(), NOT_PERMITTED));
    assert_eq!(pool.apply(other_pairs::call()).unwrap(), [Ok(()), NOT_PERMITTED, NOT_PERMITTED]);
    assert_eq!(server.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

fn a_network_can_be_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    let pool = inside(Sandbox::strict().network(true));
    assert_eq!(pool.apply(greet::call(&address)).unwrap(), Ok(()));
    assert_eq!(returns("the greeting", move || heard.join().unwrap()), "hello");
}

fn it_can_be_all_that_is_denied() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = inside(Sandbox::none().network(false));
    assert_eq!(pool.apply(greet::call(&listener.local_addr().unwrap())).unwrap(), NOT_PERMITTED);
    assert!(pool.apply(reads::call(Path::new("/etc/passwd"))).unwrap());
}

#[task]
fn reads(file: &Path) -> bool {
    std::fs::read(file).is_ok()
}
