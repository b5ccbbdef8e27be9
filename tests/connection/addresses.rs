//! Where listeners are, and what goes wrong there.

use crate::peer::{await_closed, bound, pair, tcp};
use crate::support::{PATIENCE, directory, returns};
use pool_runtime::{
    Process,
    connection::{Client, Listener},
    task,
};
use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
    os::unix::net::UnixListener,
    path::Path,
    time::Duration,
};

#[test]
fn an_address_is_free_again_at_once() {
    let directory = directory();
    let path = directory.path().join("socket");
    // Of this test alone: others take free ports of 127.0.0.1.
    let mut address = "127.18.3.1:0".into();
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
        ("127.0.0.1:65536", "neither `host:port`, with a port from 0 to 65535, nor a path"),
        ("example.org:http", "`example.org:http`: it is neither"),
        ("[::1]", "as in `./name`"),
    ] {
        for error in [Listener::bind(address).unwrap_err(), Client::connect(address).unwrap_err()] {
            assert!(error.to_string().contains(expected), "{address:?}: {error}");
        }
    }
    let text = Listener::bind("192.0.2.1:0").unwrap_err().to_string();
    assert!(text.contains("no address of this machine"), "{text}");
    let free = tcp(&Listener::bind("127.18.3.2:0").unwrap());
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
fn more_silent_clients_than_may_wait_lock_out_nobody() {
    let listener = bound(Listener::builder().auth_timeout(PATIENCE));
    let address = tcp(&listener);
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    returns("a client behind 300 silent ones", move || {
        let (served, client) = pair(&listener);
        served.send_bytes(b"x").unwrap();
        assert_eq!(client.recv_bytes().unwrap().unwrap(), b"x");
        // The first ones had to go, and no more than that.
        let mut silent = silent;
        silent[..300 - 256].iter_mut().for_each(await_closed);
        let is_open = |stream: &mut TcpStream| {
            let mut message = [0; 256];
            let challenge = stream.read(&mut message).unwrap();
            stream.set_nonblocking(true).unwrap();
            challenge > 0 && stream.read(&mut message).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        assert!(silent[300 - 255..].iter_mut().all(is_open));
    });
}

#[task]
fn accept_with_few_descriptors() -> Result<(), String> {
    let listener = bound(Listener::builder().auth_timeout(PATIENCE));
    let address = tcp(&listener);
    let fill = || (0..).map_while(|_| std::fs::File::open("/dev/null").ok()).collect::<Vec<_>>();
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the pointer is that of a limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);

    // A client that has not proved its key makes place for one that does.
    let mut silent = TcpStream::connect(address).expect("it listens");
    assert!(listener.accept_timeout(Duration::ZERO).expect("no error").is_none());
    let client = TcpStream::connect(address).expect("it listens");
    let all = fill();
    assert!(listener.accept_timeout(Duration::ZERO).expect("one makes place").is_none());
    await_closed(&mut silent);

    // Nobody is left who could.
    drop(client);
    let keyless = || Listener::builder().no_authkey();
    drop(all);
    let listener = bound(keyless());
    let waiting = TcpStream::connect(tcp(&listener)).expect("it listens");
    let all = fill();
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        let error = listener.accept().expect_err("there is no descriptor");
        let text = error.to_string();
        if !error.is_exhausted() || !text.contains("call `accept` again") || !text.contains("`ulimit -n`") {
            return Err(text);
        }
    }
    // A server that goes on at once is not kept busy.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    drop(all);
    let served = listener.accept().expect("there are descriptors again");
    assert_eq!(served.peer_address(), waiting.local_addr().ok());
    Ok(())
}

#[test]
fn a_listener_without_descriptors_goes_on() {
    let process = Process::new(accept_with_few_descriptors::call()).start().unwrap();
    assert_eq!(returns("an end", move || process.join().unwrap()), Ok(()));
}

#[task]
fn accept_in_a_fork() -> i32 {
    let listener = bound(Listener::builder());
    // SAFETY: this process has no other thread that has a lock, and the child ends by itself.
    match unsafe { libc::fork() } {
        0 => {
            // If it hangs, it ends, too.
            // SAFETY: they have no preconditions.
            unsafe { libc::alarm(20) };
            let error = listener.accept().map(drop).expect_err("it is the parent's");
            let zero = listener.accept_timeout(Duration::ZERO).map(drop).expect_err("it is the parent's");
            let is_said = |text: String| text.contains("this listener belongs to process");
            let code = if is_said(error.to_string()) && is_said(zero.to_string()) { 42 } else { 1 };
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the pointer is that of a number.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        }
    }
}

#[test]
fn a_forked_child_is_told_that_it_cannot_accept() {
    let process = Process::new(accept_in_a_fork::call()).start().unwrap();
    assert_eq!(returns("an end", move || process.join().unwrap()), 42 << 8);
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
