//! Who does not have the key is not let in, whatever he tries, and that is known soon.

use crate::peer::{await_closed, bound, framed, read_message, tcp, write_message};
use crate::support::{PATIENCE, returns};
use pool_runtime::{
    Error,
    connection::{AuthKey, Client, Connection, Listener},
};
use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
/// The limit for peers that are to be late. All others have [`PATIENCE`].
const SOON: Duration = Duration::from_millis(200);

/// What a listener says of a client that does this.
fn client_that(act: impl FnOnce(&mut TcpStream) + Send + 'static) -> Error {
    client_within(PATIENCE, act)
}

fn client_within(limit: Duration, act: impl FnOnce(&mut TcpStream) + Send + 'static) -> Error {
    let listener = bound(Listener::builder().auth_timeout(limit));
    let address = tcp(&listener);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("a listener");
        act(&mut stream);
        stream
    });
    let error = returns("an answer to a client", move || listener.accept().expect_err("it was let in"));
    await_closed(&mut client.join().expect("no panic"));
    error
}

/// What a client says of a listener that does this.
fn listener_that(act: impl FnOnce(&mut TcpStream) + Send + 'static) -> Error {
    listener_within(PATIENCE, act)
}

fn listener_within(limit: Duration, act: impl FnOnce(&mut TcpStream) + Send + 'static) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        act(&mut stream);
        stream
    });
    let connect = move || Client::builder().timeout(limit).connect(address).map(|_| ());
    let error = returns("an answer to a listener", connect).expect_err("it was believed");
    await_closed(&mut server.join().expect("no panic"));
    error
}

#[track_caller]
fn assert_refused(error: &Error, who: &str, expected: &str) {
    let text = error.to_string();
    let begins = format!("cannot authenticate the connection with the {who} at 127.0.0.1:");
    assert!(error.is_authentication() && text.starts_with(&begins) && text.contains(expected), "{text}");
}

fn connect_with(key: &str, address: SocketAddr) -> Result<Connection, Error> {
    Client::builder().authkey(AuthKey::new(key)).connect(address)
}

#[test]
fn another_key_is_told_on_both_sides_and_the_listener_goes_on() {
    let listener = bound(Listener::builder().authkey(AuthKey::new("right")));
    let address = tcp(&listener);
    for wrong in ["wrong", "righ", "right "] {
        let client = thread::spawn(move || connect_with(wrong, address));
        assert_refused(&listener.accept().unwrap_err(), "client", "it has another key");
        assert_refused(&client.join().unwrap().unwrap_err(), "listener", "it refused the key of this side");
    }
    let client = thread::spawn(move || connect_with("right", address));
    listener.accept().unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn keys_that_are_none() {
    let before = AuthKey::current().unwrap();
    for (key, expected) in [
        (vec![], "empty key"),
        (vec![0], "zeros only: HMAC fills keys up with zeros"),
        (vec![0; 32], "zeros only"),
        (vec![0; 1 << 20], "zeros only"),
        (vec![1; (64 << 10) + 1], "a key of 65537 bytes"),
    ] {
        let key = AuthKey::from(key);
        for error in [
            Listener::builder().authkey(key.clone()).bind("127.0.0.1:0").unwrap_err(),
            Client::builder().authkey(key.clone()).connect("127.0.0.1:1").unwrap_err(),
            key.set_current().unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
    assert_eq!(AuthKey::current().unwrap().as_bytes(), before.as_bytes());
    // What is long, or has a zero, is a key nevertheless.
    for key in [vec![0, 1], vec![1; 64 << 10]] {
        Listener::builder().authkey(key.into()).bind("127.0.0.1:0").unwrap();
    }
}

#[test]
fn silence_has_an_end() {
    let begun = Instant::now();
    assert_refused(&client_within(SOON, |_| {}), "client", "it has not answered the challenge within 200ms");
    assert_refused(&listener_within(SOON, |_| {}), "listener", "it has not sent a challenge within 200ms");
    let half = client_within(SOON, |stream| stream.write_all(&framed(b"{sha256}half of it")[..9]).unwrap());
    assert_refused(&half, "client", "within 200ms");
    assert!(begun.elapsed() < PATIENCE);
}

/// One byte after the other, for as long as anybody reads them: each of them comes soon.
fn drip(stream: &mut TcpStream) {
    let message = framed(&[b'x'; 250]);
    for byte in message {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(SOON / 20);
    }
}

#[test]
fn a_byte_at_a_time_has_the_same_end() {
    assert_refused(&client_within(SOON, drip), "client", "within 200ms");
    assert_refused(&listener_within(SOON, drip), "listener", "within 200ms");
}

#[test]
fn long_messages_are_not_read() {
    for (length, told) in
        [(257_u32, "a message of 257 bytes"), (1 << 30, "1073741824 bytes"), (u32::MAX, "is no message")]
    {
        let act = move |stream: &mut TcpStream| drop(stream.write_all(&length.to_be_bytes()));
        assert_refused(&client_that(act), "client", told);
        assert_refused(&listener_that(act), "listener", told);
    }
}

#[test]
fn a_challenge_that_is_sent_back_is_refused() {
    // In place of an answer, and as a challenge of one's own.
    let error = client_that(|stream| {
        let challenge = read_message(stream).unwrap();
        write_message(stream, &challenge);
    });
    assert_refused(&error, "client", "it sent back a challenge of this side");
    let error = listener_that(|stream| {
        write_message(stream, &[CHALLENGE, b"{sha256}", &[7; 40]].concat());
        read_message(stream).unwrap();
        write_message(stream, WELCOME);
        let challenge = read_message(stream).unwrap();
        write_message(stream, &challenge);
    });
    assert_refused(&error, "listener", "it sent back a challenge of this side");
}

/// Two clients connect to somebody without a key, who has the second one answer what the first one asks.
#[test]
fn one_client_does_not_prove_the_key_for_another() {
    let rogue = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = rogue.local_addr().unwrap();
    let clients = [(); 2].map(|()| thread::spawn(move || Client::builder().timeout(PATIENCE).connect(address)));
    let (mut first, _) = rogue.accept().unwrap();
    write_message(&mut first, &[CHALLENGE, b"{sha256}", &[7; 40]].concat());
    read_message(&mut first).unwrap();
    write_message(&mut first, WELCOME);
    let asked = read_message(&mut first).unwrap();
    let (mut second, _) = rogue.accept().unwrap();
    write_message(&mut second, &asked);
    // There is no answer that could be passed on.
    assert!(read_message(&mut second).is_err());
    drop(first);
    for client in clients {
        assert!(client.join().unwrap().unwrap_err().is_authentication());
    }
}

#[test]
fn weaker_digests_are_refused() {
    let error = client_that(|stream| {
        read_message(stream).unwrap();
        write_message(stream, &[7; 16]);
    });
    assert_refused(&error, "client", "`.allow_md5(true)`");
    let error = client_that(|stream| {
        read_message(stream).unwrap();
        write_message(stream, b"{md5}0123456789abcdef");
    });
    assert_refused(&error, "client", "another digest than `sha256`");
    for challenge in [&[7; 20][..], b"{md5}0123456789012345678901234567890123456789"] {
        let challenge = [CHALLENGE, challenge].concat();
        let error = listener_that(move |stream| write_message(stream, &challenge));
        assert_refused(&error, "listener", "`.allow_md5(true)`");
    }
}

#[test]
fn a_listener_that_welcomes_everybody_has_to_prove_the_key_too() {
    let error = listener_that(|stream| {
        write_message(stream, &[CHALLENGE, b"{sha256}", &[7; 40]].concat());
        read_message(stream).unwrap();
        write_message(stream, WELCOME);
        read_message(stream).unwrap();
        write_message(stream, &[b"{sha256}", &[0; 32][..]].concat());
        assert_eq!(read_message(stream).unwrap(), b"#FAILURE#");
    });
    assert_refused(&error, "listener", "it has another key");
}

#[test]
fn what_is_no_answer_is_shown_without_what_a_terminal_obeys() {
    let error = client_that(|stream| write_message(stream, b"#\x1b[31mlet me in, please\n"));
    assert_refused(&error, "client", "`#\\x1b[31mlet me in, please\\n` in place of an answer");
    let error = listener_that(|stream| write_message(stream, b"#WELCOME#"));
    assert_refused(&error, "listener", "`#WELCOME#` in place of a challenge");
    // What is none of the protocol may be a password.
    let error = client_that(|stream| write_message(stream, b"hunter2"));
    assert_refused(&error, "client", "it sent a message of 7 bytes in place of an answer");
    let error = listener_that(|stream| write_message(stream, b"hunter2"));
    assert_refused(&error, "listener", "it sent a message of 7 bytes in place of a challenge");
    let error = listener_that(|stream| stream.shutdown(Shutdown::Both).unwrap());
    assert_refused(&error, "listener", "closed the connection before it sent a challenge");
}

/// Passes on what goes between a client and a listener, and returns what the client has sent.
fn eavesdrop(client: &mut TcpStream, listener: SocketAddr) -> Vec<Vec<u8>> {
    let mut server = TcpStream::connect(listener).unwrap();
    let pass = |from: &mut TcpStream, to: &mut TcpStream| {
        let message = read_message(from).unwrap();
        write_message(to, &message);
        message
    };
    pass(&mut server, client);
    let proof = pass(client, &mut server);
    pass(&mut server, client);
    let challenge = pass(client, &mut server);
    pass(&mut server, client);
    let welcome = pass(client, &mut server);
    vec![proof, challenge, welcome]
}

#[test]
fn what_was_overheard_is_of_no_use() {
    let listener = bound(Listener::builder());
    let address = tcp(&listener);
    let between = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = between.local_addr().unwrap();
    let client = thread::spawn(move || Client::connect(there));
    let overheard = thread::spawn(move || eavesdrop(&mut between.accept().unwrap().0, address));
    let _honest = listener.accept().unwrap();
    let overheard = overheard.join().unwrap();
    drop(client.join().unwrap());

    let mut again = TcpStream::connect(address).unwrap();
    overheard.iter().for_each(|message| write_message(&mut again, message));
    let error = returns("a recorded client", move || listener.accept().unwrap_err());
    assert_refused(&error, "client", "it has another key");
    await_closed(&mut again);
}

/// What follows the proof in the same packet belongs to the user.
#[test]
fn a_message_right_behind_the_proof_is_received() {
    let listener = bound(Listener::builder());
    let address = tcp(&listener);
    let client = thread::spawn(move || {
        let client = Client::connect(address).unwrap();
        (0..100_u32).for_each(|n| client.send(&n).unwrap());
    });
    let served = listener.accept().unwrap();
    client.join().unwrap();
    assert!((0..100).all(|n| served.recv::<u32>().unwrap() == Some(n)));
}

#[test]
fn one_side_without_a_key_is_told_what_to_do() {
    let listener = bound(Listener::builder());
    let keyless = Client::builder().no_authkey().connect(listener.address()).unwrap();
    keyless.send_bytes(b"hello").unwrap();
    assert_refused(&listener.accept().unwrap_err(), "client", "does it connect without a key?");
    assert!(keyless.recv_bytes().unwrap().unwrap().starts_with(CHALLENGE));
    drop(keyless);

    let listener = bound(Listener::builder().no_authkey());
    let address = tcp(&listener);
    let client = thread::spawn(move || Client::connect(address));
    listener.accept().unwrap().send_bytes(b"hello").unwrap();
    assert_refused(&client.join().unwrap().unwrap_err(), "listener", "connect with `.no_authkey()`");
}
