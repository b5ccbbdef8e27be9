use super::ends::{MESSAGES, ROOM, SENT};
use super::*;
use crate::objects::Value;
use crate::objects::messages::layout::{BACKED, FREED, GET, PUT};
use crate::os::{Outgoing, passing};
use std::panic;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// As one sends them that means harm: they wake nobody again and again, and are not taken for the end.
#[test]
fn empty_packets_are_dropped() {
    let (sender, receiver) = channel::<Value<u64>>().unwrap();
    let socket = sender.end.socket_region().memory().open_file();
    for message in 0..5 {
        (0..3).for_each(|_| passing::send_nothing(socket));
        assert!(receiver.recv_timeout(Duration::from_millis(10)).unwrap_err().is_timeout());
        assert!(passing::peek(receiver.end.socket_region().memory().open_file()).unwrap().is_none());
        passing::send_nothing(socket);
        assert!(receiver.try_recv().unwrap_err().is_would_block());
        sender.send(&Value::new(message).unwrap()).unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().get(), message);
    }
    passing::send_nothing(socket);
    sender.send(&Value::new(5).unwrap()).unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap().unwrap().get(), 5);
    assert!(receiver.recv().unwrap().is_none());
}

/// Whatever others write into the memory: an error, or some message, and never a crash, a hang or much memory.
#[test]
fn nonsense_in_the_memory_is_an_error() {
    let odd = [0, 1, 7, 8, 1 << 18, 1 << 40, 1 << 61, 1 << 62, (1 << 62) + (1 << 14), u64::MAX - 7, u64::MAX];
    let words = [PUT + 8, PUT + 16, PUT + 24, GET + 8, GET + 16, GET + 24, BACKED, FREED, MESSAGES, SENT, ROOM];
    for first in words {
        for second in words {
            for value in odd {
                let (sender, receiver) = channel::<Vec<u8>>().unwrap();
                (0..3).for_each(|message| sender.send(&vec![message; 5]).unwrap());
                for at in [first, second] {
                    sender.end.log().long(at).store(value, Ordering::Relaxed);
                }
                let use_it = || {
                    for _ in 0..4 {
                        let _ = (receiver.try_recv(), sender.try_send(&vec![1, 2, 3]), receiver.poll(Duration::ZERO));
                    }
                };
                panic::catch_unwind(panic::AssertUnwindSafe(use_it))
                    .unwrap_or_else(|_| panic!("{value:#x} at {first} and {second}"));
                assert!(sender.end.region().memory().resident() < 64 << 20);
            }
        }
    }
}

#[test]
fn a_made_up_position_makes_no_room() {
    for taken in [1 << 40, 1 << 60] {
        let (sender, _receiver) = channel::<Vec<u8>>().unwrap();
        while sender.try_send(&vec![7; 1 << 18]).is_ok() {}
        for copy in [GET + 16, GET + 24] {
            sender.end.log().long(copy).store(taken, Ordering::Relaxed);
        }
        assert!(sender.try_send(&vec![7; 1 << 18]).unwrap_err().to_string().contains("is corrupt"));
    }
}

#[test]
fn strays_and_nudges_are_no_messages() {
    let (sender, receiver) = channel::<Value<u64>>().unwrap();
    let socket = sender.end.socket_region().memory();
    let send = |packet| passing::send(socket.open_file(), &packet).unwrap();
    for round in 0..10 {
        send(Outgoing::Nudge);
        send(Outgoing::File { id: round, handle: socket.handle() });
        send(Outgoing::Nudge);
        if round % 2 == 0 {
            sender.send(&Value::new(round).unwrap()).unwrap();
            assert_eq!(receiver.recv().unwrap().unwrap().get(), round);
        } else {
            // It looks once, and not again and again.
            let pause = Duration::from_millis(30);
            let began = Instant::now();
            assert!(receiver.recv_timeout(pause).unwrap_err().is_timeout() && began.elapsed() >= pause);
        }
    }
    // There is room for nothing else, until who receives has looked.
    while passing::send(socket.open_file(), &Outgoing::Nudge).is_ok() {}
    thread::scope(|scope| {
        scope.spawn(|| sender.send(&Value::new(5).unwrap()).unwrap());
        assert_eq!(receiver.recv().unwrap().unwrap().get(), 5);
    });
    drop(sender);
    assert!(receiver.recv().unwrap().is_none());
}

#[test]
fn what_comes_back_of_bytes_is_the_same_by_every_way() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    for length in [0, 1, 127, 128, 4095, 4096, 16_383, 16_384, 300_000, 2_097_151, 2_097_152] {
        let message: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
        sender.send(&message).unwrap();
        assert!(receiver.recv().unwrap() == Some(message), "{length}");
    }
    // Something else in the same memory.
    let other = Sender::<(u64, Vec<u8>)> { end: sender.end.clone(), messages: PhantomData };
    other.send(&(1, vec![7; 5000])).unwrap();
    assert!(receiver.recv().unwrap_err().is_decode());
}

#[test]
fn memory_is_given_back_as_messages_are_received() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    for _ in 0..60 {
        sender.send(&vec![7; 700_000]).unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().len(), 700_000);
        assert!(sender.end.region().memory().resident() < 4 << 20);
    }
}
