//! Raw peers, and what the tests of connections share.

use pool_runtime::connection::{Address, Client, Connection, Listener, ListenerBuilder};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// The address of a listener that speaks TCP.
pub fn tcp(listener: &Listener) -> SocketAddr {
    match listener.address() {
        Address::Socket(address) => *address,
        other => panic!("{other}"),
    }
}

/// Both ends of a connection, over TCP and over a Unix socket. The directory is that of the latter.
pub fn pairs() -> (tempfile::TempDir, Vec<(Connection, Connection)>) {
    let directory = crate::support::directory();
    let addresses: [Address; 2] = ["127.0.0.1:0".into(), directory.path().join("socket").into()];
    let pairs = addresses.map(|address| pair(&Listener::bind(address).expect("it listens")));
    (directory, pairs.into())
}

/// Both ends of a connection: the listener's, and the client's.
pub fn pair(listener: &Listener) -> (Connection, Connection) {
    let address = listener.address().clone();
    let client = std::thread::spawn(|| Client::connect(address));
    let served = listener.accept().expect("a client");
    (served, client.join().expect("no panic").expect("it connects"))
}

/// A listener at a free port.
pub fn bound(builder: ListenerBuilder) -> Listener {
    builder.bind("127.0.0.1:0").expect("it listens")
}

/// A message with its head.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as i32).to_be_bytes(), message].concat()
}

/// Reads a message; an error if the connection ends.
pub fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut message = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub fn write_message(stream: &mut TcpStream, message: &[u8]) {
    // The other side may have had enough.
    let _ = stream.write_all(&framed(message));
}

/// Waits until the other side has closed the connection.
pub fn await_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}
