//! Where listeners are, and what goes wrong there.

use crate::peer::{await_closed, bound, pair, tcp};
use crate::support::{PATIENCE, directory, returns};
use pool_runtime::{
    Process,
    connection::{Client, Listener},
    task,
};
use std::{net::TcpStream, os::unix::net::UnixListener, path::Path, time::Duration};

#[test]
fn an_address_is_free_again_at_once() {
    let directory = directory();
    let path = directory.path().join("socket");
    let mut address = "127.0.0.1:0".into();
    for _ in 0..5 {
        let listener = Listener::bind(&address).unwrap();
        address = listener.address().clone();
        // Also while connections of the one before are open, or in their last state.
        let (served, client) = pair(&listener);
        served.send_bytes(b"x").unwrap();
        drop((listener, served));
        assert_eq!(client.recv_bytes().unwrap().unwrap(), b"x");
        let listener = Listener::bind(&path).unwrap();
        pair(&listener);
        drop(listener);
        assert!(!path.exists());
    }
}

#[test]
fn two_listeners_at_one_address() {
    let directory = directory();
    let path = directory.path().join("socket");
    let (one, other) = (Listener::bind(&path).unwrap(), bound(Listener::builder()));
    let error = |address| Listener::bind(address).unwrap_err().to_string();
    let text = error(path.clone().into());
    assert!(
        text.contains("cannot listen on") && text.contains("another listener") && text.contains("socket"),
        "{text}"
    );
    let text = error(other.address().clone());
    assert!(text.contains("another listener has this address") && text.contains("free"), "{text}");
    // They are none the worse for it.
    pair(&one);
    pair(&other);
}

#[task]
fn listen_and_say_so(path: &Path) {
    let listener = Listener::builder().no_authkey().bind(path).expect("it is free");
    // Until it is killed.
    let _ = listener.accept().map(|connection| connection.recv_bytes());
    let _ = listener.accept();
}

#[test]
fn the_socket_of_a_killed_listener_is_replaced() {
    let directory = directory();
    let path = directory.path().join("socket");
    let process = Process::new(listen_and_say_so::call(&path)).start().unwrap();
    let mut connected = None;
    crate::support::until("it listens", || {
        connected = Client::builder().no_authkey().connect(&path).ok();
        connected.is_some()
    });
    assert!(Listener::bind(&path).is_err());
    process.kill().unwrap();
    process.join().unwrap_err();
    assert!(path.exists());
    pair(&Listener::bind(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("file");
    std::fs::write(&path, "mine").unwrap();
    let text = Listener::bind(&path).unwrap_err().to_string();
    assert!(text.contains("a file that is no socket"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    // Another program's listener that replaced ours is left alone, too.
    let path = directory.path().join("socket");
    let listener = Listener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[test]
fn addresses_that_are_none() {
    let directory = directory();
    let long = directory.path().join("x".repeat(120));
    let missing = directory.path().join("no/such/socket");
    for (address, expected) in [
        (long.to_str().unwrap(), "that of a socket may have 107: choose a shorter one"),
        ("\0abstract", "abstract name space"),
        ("a\0b", "NUL byte"),
        ("", "the path is empty"),
        (missing.to_str().unwrap(), "there is no such"),
        ("no-such-host.invalid:80", "host is not found"),
    ] {
        for error in [Listener::bind(address).unwrap_err(), Client::connect(address).unwrap_err()] {
            assert!(error.to_string().contains(expected), "{address:?}: {error}");
        }
    }
    let text = Listener::bind("192.0.2.1:0").unwrap_err().to_string();
    assert!(text.contains("no address of this machine"), "{text}");
    let free = tcp(&bound(Listener::builder()));
    let text = Client::connect(free).unwrap_err().to_string();
    assert!(text.contains(&format!("cannot connect to {free}, as nobody listens there")), "{text}");
}

#[test]
fn clients_that_leave_early_disturb_nobody() {
    returns("a listener whose clients leave", || {
        for (builder, has_key) in [(Listener::builder(), true), (Listener::builder().no_authkey(), false)] {
            let listener = bound(builder);
            let address = tcp(&listener);
            for _ in 0..20 {
                drop(TcpStream::connect(address).unwrap());
            }
            let client = std::thread::spawn(move || {
                if has_key { Client::connect(address) } else { Client::builder().no_authkey().connect(address) }
            });
            if has_key {
                listener.accept().unwrap().send_bytes(b"at last").unwrap();
            } else {
                // Without a key, nobody knows that they have left but by receiving from them.
                for _ in 0..20 {
                    assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), None);
                }
                listener.accept().unwrap().send_bytes(b"at last").unwrap();
            }
            assert_eq!(client.join().unwrap().unwrap().recv_bytes().unwrap().unwrap(), b"at last");
        }
    });
}

#[test]
fn silent_clients_hold_up_nobody() {
    let listener = bound(Listener::builder().auth_timeout(PATIENCE));
    let address = tcp(&listener);
    let mut silent: Vec<_> = (0..30).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Long before any of them is late.
    let (served, client) = returns("a client among silent ones", move || {
        let pairs: Vec<_> = (0..3).map(|_| pair(&listener)).collect();
        drop(listener);
        pairs
    })
    .pop()
    .unwrap();
    served.send_bytes(b"x").unwrap();
    assert_eq!(client.recv_bytes().unwrap().unwrap(), b"x");
    silent.iter_mut().for_each(await_closed);
}

#[test]
fn several_threads_accept() {
    returns("threads that accept", || {
        let listener = bound(Listener::builder());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| listener.accept().unwrap().send_bytes(b"x").unwrap()));
            }
            for _ in 0..20 {
                let client = Client::connect(listener.address()).unwrap();
                assert_eq!(client.recv_bytes().unwrap().unwrap(), b"x");
            }
        });
        assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
    });
}
