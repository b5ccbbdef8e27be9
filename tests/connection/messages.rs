//! Messages arrive whole and in order, whatever their length, and the end of a peer is the end.

use crate::peer::{bound, framed, pair, pairs, tcp};
use crate::support::{PATIENCE, returns};
use pool_runtime::{
    Process,
    connection::{Address, Client, Connection, Listener},
    task,
};
use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

/// A message whose bytes say where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn lengths_at_the_boundaries() {
    let (_directory, pairs) = pairs();
    for (one, other) in &pairs {
        for length in [0, 1, 3, 4, 255, 256, 257, 16384, 16385, 65535, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
            let message = pattern(length);
            thread::scope(|scope| {
                scope.spawn(|| one.send_bytes(&message).expect("it is sent"));
                assert!(other.recv_bytes().expect("it arrives").expect("no end") == message, "{length}");
            });
        }
        // Empty messages are messages.
        for _ in 0..3 {
            other.send_bytes(b"").unwrap();
        }
        other.send_bytes(b"end").unwrap();
        let received: Vec<_> = (0..4).map(|_| one.recv_bytes().unwrap().unwrap()).collect();
        assert_eq!(received, [&b""[..], b"", b"", b"end"]);
    }
}

#[test]
fn much_goes_both_ways_at_once() {
    returns("16 MiB both ways", || {
        let (_directory, pairs) = pairs();
        let message = pattern(16 << 20);
        for (one, other) in &pairs {
            thread::scope(|scope| {
                for side in [one, other] {
                    scope.spawn(|| side.send_bytes(&message).unwrap());
                    scope.spawn(|| {
                        assert!(side.poll(PATIENCE).unwrap());
                        assert!(side.recv_bytes().unwrap().unwrap() == message);
                    });
                }
            });
        }
    });
}

#[test]
fn messages_of_several_threads_do_not_mix() {
    let (_directory, pairs) = pairs();
    for (one, other) in &pairs {
        thread::scope(|scope| {
            for sender in 0..4_u8 {
                scope.spawn(move || (1..200).for_each(|n| one.send_bytes(&vec![sender; n * 37]).unwrap()));
            }
            let mut counts = [0; 4];
            for _ in 0..4 * 199 {
                let message = other.recv_bytes().unwrap().unwrap();
                assert!(message.iter().all(|byte| *byte == message[0]));
                counts[usize::from(message[0])] += 1;
                // Of each sender, in order.
                assert_eq!(message.len(), counts[usize::from(message[0])] * 37);
            }
        });
    }
}

#[test]
fn polling_looks_waits_and_sees_the_end() {
    let (_directory, pairs) = pairs();
    for (one, other) in pairs {
        assert!(!other.poll(Duration::ZERO).unwrap());
        assert!(!other.poll(Duration::from_millis(10)).unwrap());
        thread::scope(|scope| {
            let waits = scope.spawn(|| other.poll(Duration::MAX).unwrap());
            one.send_bytes(b"x").unwrap();
            assert!(waits.join().unwrap());
        });
        // It stays.
        assert!(other.poll(Duration::ZERO).unwrap() && other.poll(PATIENCE).unwrap());
        assert_eq!(other.recv_bytes().unwrap().unwrap(), b"x");
        assert!(!other.poll(Duration::ZERO).unwrap());
        drop(one);
        assert!(other.poll(PATIENCE).unwrap());
        assert_eq!((other.recv_bytes().unwrap(), other.recv_bytes().unwrap()), (None, None));
    }
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error() {
    let (_directory, pairs) = pairs();
    for (one, other) in pairs {
        drop(one);
        // The first message may still fit into a buffer.
        let error = (0..1000).find_map(|_| other.send_bytes(&[0; 1000]).err()).expect("nobody is there");
        let text = error.to_string();
        assert!(text.contains("cannot send 1000 bytes to the listener at") && text.contains("closed"), "{text}");
        assert!(other.send_bytes(b"").is_err());
    }
}

/// Sends a message, and stays.
#[task]
fn stay_connected(address: String, message: &str) {
    let connection = Client::connect(address).expect("a listener");
    connection.send_bytes(message.as_bytes()).expect("it listens");
    let _ = connection.recv_bytes();
}

#[test]
fn a_killed_peer_is_the_end() {
    let directory = crate::support::directory();
    for address in ["127.0.0.1:0".into(), Address::from(directory.path().join("socket"))] {
        let listener = Listener::bind(address).unwrap();
        let text = listener.address().to_string().replace('`', "");
        let process = Process::new(stay_connected::call(text, "here")).start().unwrap();
        let connection = listener.accept().unwrap();
        assert_eq!(connection.recv_bytes().unwrap().unwrap(), b"here");
        process.kill().unwrap();
        assert_eq!(connection.recv_bytes().unwrap(), None);
        assert!(process.join().is_err());
    }
}

#[test]
fn an_end_in_the_middle_of_a_message_is_an_error() {
    let listener = bound(Listener::builder().no_authkey());
    for cut in [1, 3, 4, 7] {
        let mut stream = TcpStream::connect(tcp(&listener)).unwrap();
        stream.write_all(&framed(b"message")[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let connection = listener.accept().unwrap();
        let text = connection.recv_bytes().unwrap_err().to_string();
        assert!(text.contains("cannot receive from the client at 127.0.0.1:") && text.contains("middle"), "{text}");
        let text = connection.recv_bytes().unwrap_err().to_string();
        assert!(text.contains("connect anew"), "{text}");
    }
}

#[test]
fn a_peer_that_has_not_read_everything_resets_the_connection() {
    let (_directory, pairs) = pairs();
    for (one, other) in pairs {
        one.send_bytes(b"never read").unwrap();
        // Else it may still be under way.
        assert!(other.poll(PATIENCE).unwrap());
        drop(other);
        let text = one.recv_bytes().unwrap_err().to_string();
        assert!(text.contains("as the connection was reset") && text.contains("may be lost"), "{text}");
        assert!(one.recv_bytes().unwrap_err().to_string().contains("connect anew"));
    }
}

#[test]
fn lengths_that_are_lies_cost_nothing() {
    let listener = bound(Listener::builder().no_authkey());
    for (head, expected) in [
        (&[0x40, 0, 0, 1][..], "it sends a message of 1073741825 bytes, and a message may have 1073741824"),
        (&[0x7f, 0xff, 0xff, 0xff], "2147483647 bytes"),
        (&[0xff; 12], "18446744073709551615 bytes"),
        (&[0xff, 0xff, 0xff, 0xfe], "it sent -2 as the length of a message"),
        // There are no bytes behind it.
        (&[0x40, 0, 0, 0], "middle of a message"),
        (&[0xff, 0xff, 0xff, 0xff, 0], "middle of a message"),
    ] {
        let mut stream = TcpStream::connect(tcp(&listener)).unwrap();
        stream.write_all(head).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let text = listener.accept().unwrap().recv_bytes().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    // The long form of a length, which CPython writes from 2 GiB on, is read for any.
    let mut stream = TcpStream::connect(tcp(&listener)).unwrap();
    stream.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, b'o', b'k']).unwrap();
    assert_eq!(listener.accept().unwrap().recv_bytes().unwrap().unwrap(), b"ok");
}

#[test]
fn a_buffer_that_is_too_short_loses_nothing() {
    let (served, client) = pair(&bound(Listener::builder()));
    for message in [&b"12345"[..], b"123", b""] {
        client.send_bytes(message).unwrap();
    }
    let mut buffer = *b"abcd";
    let error = served.recv_bytes_into(&mut buffer).unwrap_err();
    assert_eq!(buffer, *b"abcd");
    let text = error.to_string();
    assert!(text.contains("message of 5 bytes into a buffer of 4"), "{text}");
    assert_eq!(error.clone().into_message().unwrap(), b"12345");
    assert!(!error.is_authentication() && !error.is_decode());
    assert_eq!(served.recv_bytes_into(&mut buffer).unwrap(), Some(3));
    assert_eq!(buffer, *b"123d");
    assert_eq!(served.recv_bytes_into(&mut []).unwrap(), Some(0));
    drop(client);
    assert_eq!(served.recv_bytes_into(&mut buffer).unwrap(), None);
}

#[test]
fn values_of_rust_programs() {
    let (served, client) = pair(&bound(Listener::builder()));
    let value = (vec![Some("é".to_owned()), None], [1.5_f64, -0.0], 'x');
    client.send(&value).unwrap();
    assert_eq!(served.recv().unwrap(), Some(value));
    client.send("text").unwrap();
    let error = served.recv::<Vec<u64>>().unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("cannot receive a value from"), "{error}");
    client.send(&7_u8).unwrap();
    assert_eq!(served.recv::<u8>().unwrap(), Some(7));
    // What only calls carry is refused where it is sent.
    let shared = pool_runtime::Shared::new(&[1_u8, 2]).unwrap();
    let error = client.send(&shared).unwrap_err();
    assert!(error.is_encode(), "{error}");
    assert!(!served.poll(Duration::ZERO).unwrap());
}

#[test]
fn closing_ends_the_wait_of_another_thread() {
    let (_directory, pairs) = pairs();
    for (one, other) in pairs {
        returns("a closed connection", move || {
            thread::scope(|scope| {
                let receives = scope.spawn(|| one.recv_bytes().unwrap());
                // It fills the buffers, and waits.
                let sends = scope.spawn(|| (0..).find_map(|_| one.send_bytes(&[0; 1 << 16]).err()));
                one.close();
                assert_eq!(receives.join().unwrap(), None);
                assert!(sends.join().unwrap().is_some());
            });
            drop(other);
        });
    }
}

#[test]
fn a_connection_can_be_shared() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<(Connection, Listener)>();
}

/// A handler that does nothing, installed so that the system interrupts what waits.
fn install_handler(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the action is whole, and its handler does nothing. Without `SA_RESTART`, calls are interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_interrupt_nothing() {
    install_handler(libc::SIGUSR2);
    let listener = bound(Listener::builder());
    let address = tcp(&listener);
    let (sender, receiver) = std::sync::mpsc::channel();
    let waits = thread::spawn(move || {
        // SAFETY: it has no preconditions.
        sender.send(unsafe { libc::pthread_self() }).unwrap();
        let connection = listener.accept().unwrap();
        assert!(connection.poll(PATIENCE).unwrap());
        connection.recv_bytes().unwrap().unwrap().len()
    });
    let thread = receiver.recv().unwrap();
    let interrupt = || {
        (0..50).for_each(|_| {
            // SAFETY: the thread runs until it has received what is sent last.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
            thread::yield_now();
        })
    };
    interrupt();
    let client = Client::connect(address).unwrap();
    interrupt();
    client.send_bytes(&vec![1; 8 << 20]).unwrap();
    assert_eq!(waits.join().unwrap(), 8 << 20);
}
