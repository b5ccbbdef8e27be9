use super::ends::{CAPACITY, DONE, HANDS, MOST_HANDS, ORPHANS};
use super::*;
use crate::objects::Value;
use crate::objects::messages::layout::{BACKED, FREED, GET, PUT};
use crate::objects::messages::{HEAD, WINDOW};
use crate::os::{Outgoing, passing};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

fn filled() -> Queue<Vec<u8>> {
    let queue = Queue::unbounded().unwrap();
    (0..3).for_each(|item| queue.put(&vec![item; 5]).unwrap());
    queue
}

/// Whatever others write into the memory: an error, or some item, and never a crash, a hang or much memory.
#[test]
fn nonsense_in_the_memory_is_an_error() {
    let odd = [0, 1, 7, 8, 1 << 18, 1 << 40, 1 << 61, 1 << 62, (1 << 62) + (1 << 14), u64::MAX - 7, u64::MAX];
    // The number and both positions of each end, and what is backed, freed, done and in hand.
    let words =
        [CAPACITY, PUT + 8, PUT + 16, PUT + 24, GET + 8, GET + 16, GET + 24, BACKED, FREED, DONE, ORPHANS, HANDS];
    for first in words {
        for second in words {
            for value in odd {
                let queue = filled();
                queue.ends.long(first).store(value, Ordering::Relaxed);
                queue.ends.long(second).store(value, Ordering::Relaxed);
                let use_it = || {
                    for _ in 0..4 {
                        let _ = (queue.try_get(), queue.try_put(&vec![1, 2, 3]), queue.task_done(), queue.len());
                    }
                    queue.join_timeout(Duration::ZERO).err();
                    queue.close();
                    queue.clear().unwrap();
                };
                panic::catch_unwind(panic::AssertUnwindSafe(use_it))
                    .unwrap_or_else(|_| panic!("{value:#x} at {first} and {second}"));
                assert!(queue.ends.region().memory().resident() < 64 << 20);
            }
        }
    }
}

#[test]
fn a_made_up_number_of_items_makes_no_room() {
    let queue = Queue::bounded(3).unwrap();
    (0..3).for_each(|item| queue.put(&item).unwrap());
    for taken in [4, 1 << 40, u64::MAX] {
        queue.ends.long(GET + 8).store(taken, Ordering::Relaxed);
        assert!(queue.try_put(&3).unwrap_err().to_string().contains("is corrupt"));
    }
}

#[test]
fn a_made_up_length_takes_no_memory() {
    for length in [7, 1 << 20, 1 << 35, u64::MAX] {
        let queue = filled();
        let window = queue.ends.region().memory().window(HEAD, WINDOW as usize).unwrap();
        window.words::<AtomicU64>()[0].store(length, Ordering::Relaxed);
        queue.ends.long(PUT + 24).store(1 << 40, Ordering::Relaxed);
        queue.ends.long(PUT + 16).store(1 << 40, Ordering::Relaxed);
        assert!(queue.get().is_err(), "{length}");
        assert!(queue.ends.region().memory().resident() < 4 << 20);
    }
}

#[test]
fn memory_is_given_back_as_items_are_taken() {
    let queue = Queue::<Vec<u8>>::unbounded().unwrap();
    let item = vec![7; 100_000];
    for _ in 0..60 {
        (0..3).for_each(|_| queue.put(&item).unwrap());
        (0..3).for_each(|_| assert_eq!(queue.get().unwrap().as_ref(), Some(&item)));
        assert!(queue.ends.region().memory().resident() < 4 << 20);
    }
}

/// More processes than there are entries have ended with items in hand: others go on, and all of that is lost.
#[test]
fn the_dead_leave_room_for_others() {
    let queue = Queue::<Vec<u8>>::unbounded().unwrap();
    let hands = queue.ends.hands().unwrap();
    for (entry, number) in hands.entries.iter().zip(1 << 20..) {
        queue.put(&vec![1]).unwrap();
        assert!(queue.get().unwrap().is_some());
        queue.ends.done(Patience::Endless).unwrap();
        queue.ends.long(DONE).fetch_sub(1, Ordering::Relaxed);
        entry.store(number << 40 | 1, Ordering::Relaxed);
    }
    queue.put(&vec![1]).unwrap();
    assert!(queue.get().unwrap().is_some());
    assert_eq!(queue.ends.long(ORPHANS).load(Ordering::Relaxed), 1);
    // One of theirs is said to be done by this process, and its own.
    queue.task_done().unwrap();
    queue.task_done().unwrap();
    assert_eq!(queue.join().unwrap_err().lost_items(), Some(MOST_HANDS as u64 - 1));
    assert!(queue.task_done().is_err());
    queue.join().unwrap();
}

type Values = Queue<(u8, Value<u64>)>;

fn with_handles() -> Values {
    let queue = Queue::unbounded().unwrap();
    (0..3).for_each(|item| queue.put(&(item, Value::new(item.into()).unwrap())).unwrap());
    queue
}

/// As a process leaves it that ends before it commits what it puts.
fn leave_strays(queue: &Values, count: u64) {
    let socket = queue.ends.sockets()[0].memory();
    for id in 0..count {
        passing::send(socket.open_file(), &Outgoing::File { id, handle: socket.handle() }).unwrap();
    }
}

fn assert_gets(queue: &Values, item: u8) {
    let (number, value) = queue.get().unwrap().unwrap();
    assert_eq!((number, value.get()), (item, item.into()));
}

#[test]
fn strays_are_dropped_and_what_is_behind_them_is_found() {
    let queue = with_handles();
    assert_gets(&queue, 0);
    leave_strays(&queue, 5);
    queue.put(&(3, Value::new(3).unwrap())).unwrap();
    (1..4).for_each(|item| assert_gets(&queue, item));
    // So many that there is room for nothing else.
    let (room, most) = passing::room(queue.ends.sockets()[0].memory().open_file()).unwrap();
    assert_eq!(room, most);
    leave_strays(&queue, most as u64);
    queue.try_put(&(4, Value::new(4).unwrap())).unwrap();
    leave_strays(&queue, 3);
    assert_gets(&queue, 4);
    queue.put(&(5, Value::new(5).unwrap())).unwrap();
    assert_gets(&queue, 5);
}

/// As one sends them that means harm.
#[test]
fn empty_packets_are_dropped() {
    let queue = with_handles();
    let socket = queue.ends.sockets()[0].memory().open_file();
    passing::send_nothing(socket);
    (0..3).for_each(|item| assert_gets(&queue, item));
    queue.put(&(3, Value::new(3).unwrap())).unwrap();
    assert_gets(&queue, 3);
    // There is room for nothing else.
    while passing::room(socket).unwrap().0 > 0 {
        passing::send_nothing(socket);
    }
    queue.put_timeout(&(4, Value::new(4).unwrap()), Duration::from_secs(60)).unwrap();
    assert_gets(&queue, 4);
    // The other way, where the nudges go.
    let (there, count) = (queue.ends.sockets()[1].memory().open_file(), 20);
    (0..count).for_each(|_| passing::send_nothing(there));
    queue.was_told();
    assert!(passing::peek(socket).unwrap().is_none());
}

#[test]
fn an_item_whose_handles_are_gone_is_lost_alone() {
    for taken in 1..3 {
        let queue = with_handles();
        for _ in 0..taken {
            assert!(passing::try_receive(queue.ends.sockets()[1].memory().open_file()).unwrap().is_some());
        }
        for _ in 0..taken {
            let error = queue.get().unwrap_err();
            assert!(error.is_decode() && error.to_string().contains("a process that has ended"), "{error}");
        }
        (taken..3).for_each(|item| assert_gets(&queue, item));
        leave_strays(&queue, 2);
        queue.put(&(3, Value::new(3).unwrap())).unwrap();
        assert_gets(&queue, 3);
        // Nobody has them in hand.
        (taken..4).for_each(|_| queue.task_done().unwrap());
        queue.join().unwrap();
    }
    // A part of those of one item.
    let queue = Queue::<Vec<Value<u64>>>::unbounded().unwrap();
    let values = [1, 2, 3].map(|value| Value::new(value).unwrap());
    queue.put(&values[..]).unwrap();
    queue.put(&values[..1]).unwrap();
    assert!(passing::try_receive(queue.ends.sockets()[1].memory().open_file()).unwrap().is_some());
    assert!(queue.get().unwrap_err().is_decode());
    assert_eq!(queue.get().unwrap().unwrap()[0].get(), 1);
}

/// Whatever others write over what an item says of its handles.
#[test]
fn nonsense_for_handles_is_an_error() {
    for word in 0..4 {
        for value in [0, 1, 2, 3, 1 << 20, 1 << 40, (1 << 63) | 24, (1 << 63) | 7, u64::MAX] {
            let queue = with_handles();
            let window = queue.ends.region().memory().window(HEAD, WINDOW as usize).unwrap();
            window.words::<AtomicU64>()[word].store(value, Ordering::Relaxed);
            for _ in 0..3 {
                let _ = queue.try_get();
            }
            let _ = queue.clear();
            assert!(queue.ends.region().memory().resident() < 4 << 20);
        }
    }
}

/// Whoever puts may be kept from going on for longer than who closes waits.
#[test]
fn an_item_whose_put_had_begun_is_taken_after_the_queue_was_closed() {
    let queue = Queue::<u32>::unbounded().unwrap();
    let bytes = encode(&7_u32).unwrap().0;
    std::thread::scope(|scope| {
        let mut taker = None;
        queue.ends.put_around(&bytes, || {
            queue.close();
            assert!(queue.try_get().unwrap_err().to_string().contains("is held up"));
            taker = Some(scope.spawn(|| (queue.get().unwrap(), queue.get().unwrap())));
        });
        assert_eq!(taker.unwrap().join().unwrap(), (Some(7), None));
    });
    assert!(queue.try_put(&8).unwrap_err().is_closed());
    assert_eq!((queue.try_get().unwrap(), queue.get().unwrap()), (None, None));
}
