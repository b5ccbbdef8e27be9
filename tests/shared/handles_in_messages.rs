//! Handles as items of queues and as messages: memory, locks, queues, ends of channels, and open files.

over_every_transport! {
    in_turn:
    every_handle_can_be_an_item_and_a_message,
    files_are_passed_whatever_their_numbers,
    several_calls_at_once_get_the_same_file,
    a_call_gets_the_same_file_twice,
    a_message_takes_no_file_from_a_call,
    a_queue_is_an_item_of_its_own,
    there_is_room_for_some_handles_at_a_time,
    handles_that_are_cleared_or_not_decoded_are_gone,
    whoever_is_killed_with_handles_leaves_the_others_working,
}

use crate::support::{Numbers, builder, descriptors, over_every_transport, pids, signal, until};
use pool_runtime::sync::{Event, Mutex};
use pool_runtime::{
    Array, Atomic, Backend, Passed, Pipe, Pool, Queue, Receiver, Sender, Shared, Value, channel, pipe, task,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

/// One of each kind, and something else.
#[derive(Serialize, Deserialize)]
struct Luggage {
    name: String,
    shared: Shared<[u64]>,
    array: Array<u32>,
    value: Value<u64>,
    mutex: Mutex<u32>,
    event: Event,
    answers: Queue<String>,
    end: Sender<u32>,
    file: Passed<File>,
}

impl Luggage {
    fn pack(answers: &Queue<String>, end: &Sender<u32>) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"in a file").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        Self {
            name: "one of each".into(),
            shared: Shared::new(&[1, 2, 3]).unwrap(),
            array: Array::zeroed(4).unwrap(),
            value: Value::new(5).unwrap(),
            mutex: Mutex::new(6).unwrap(),
            event: Event::new().unwrap(),
            answers: answers.clone(),
            end: end.clone(),
            file: Passed::new(file).unwrap(),
        }
    }

    fn unpack(self) {
        let mut text = String::new();
        self.file.into_inner().unwrap().read_to_string(&mut text).unwrap();
        self.array.set(1, 7);
        self.value.update(|value| *value += 1);
        *self.mutex.lock().unwrap() += 1;
        self.end.send(&8).unwrap();
        self.event.set();
        self.answers.put(&format!("{}: {:?}, {text}", self.name, &*self.shared)).unwrap();
    }
}

#[task]
fn unpack_items(items: &Queue<Luggage>, count: usize) {
    items.iter().take(count).for_each(|item| item.unwrap().unpack());
}

#[task]
fn unpack_messages(messages: Receiver<Luggage>) {
    messages.iter().for_each(|message| message.unwrap().unpack());
}

fn every_handle_can_be_an_item_and_a_message() {
    let threads = Pool::builder().processes(2).backend(Backend::Threads).build().unwrap();
    for pool in [builder().processes(2).build().unwrap(), threads] {
        let answers = Queue::unbounded().unwrap();
        let (end, numbers) = channel().unwrap();
        let items = Queue::unbounded().unwrap();
        let (sender, receiver) = channel().unwrap();
        let takes = pool.apply_async(unpack_items::call(&items, 3));
        let receives = pool.apply_async(unpack_messages::call(receiver));
        let packed: Vec<_> = (0..6).map(|_| Luggage::pack(&answers, &end)).collect();
        drop(end);
        packed[..3].iter().for_each(|luggage| items.put(luggage).unwrap());
        packed[3..].iter().for_each(|luggage| sender.send(luggage).unwrap());
        drop(sender);
        takes.get().unwrap();
        receives.get().unwrap();
        for luggage in &packed {
            luggage.event.wait();
            assert_eq!((luggage.array.get(1), luggage.value.get(), *luggage.mutex.lock().unwrap()), (7, 6, 7));
            assert_eq!(answers.get().unwrap().as_deref(), Some("one of each: [1, 2, 3], in a file"));
            assert_eq!(numbers.recv().unwrap(), Some(8));
        }
        drop(packed);
        assert_eq!(numbers.recv().unwrap(), None, "nobody else has kept an end");
    }
}

#[task]
fn write_into(end: Passed<PipeWriter>, text: &str) {
    end.into_inner().unwrap().write_all(text.as_bytes()).unwrap();
}

#[task]
fn write_into_each(ends: &Queue<(Passed<PipeWriter>, String)>, through: &Pipe<(), Passed<PipeWriter>>) {
    let (end, text) = ends.get().unwrap().unwrap();
    write_into(end, &text);
    write_into(through.recv().unwrap().unwrap(), "through a pipe");
}

fn files_are_passed_whatever_their_numbers() {
    let pool = builder().processes(1).build().unwrap();
    let others: Vec<_> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let [mut one, mut two, mut three] = [(); 3].map(|()| std::io::pipe().unwrap());
    assert!(one.1.as_raw_fd() > 256);
    let read = |reader: &mut PipeReader| {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    };
    pool.apply(write_into::call(Passed::new(one.1).unwrap(), "as an argument")).unwrap();
    assert_eq!(read(&mut one.0), "as an argument");
    let ends = Queue::unbounded().unwrap();
    let (here, there) = pipe().unwrap();
    let job = pool.apply_async(write_into_each::call(&ends, &there));
    ends.put(&(Passed::new(two.1).unwrap(), "on a queue".to_string())).unwrap();
    here.send(&Passed::new(three.1).unwrap()).unwrap();
    job.get().unwrap();
    assert_eq!((read(&mut two.0), read(&mut three.0)), ("on a queue".into(), "through a pipe".into()));
    drop((one.0, two.0, others));
    three.0 = std::io::pipe().unwrap().0;
    assert!(three.0.as_fd().as_raw_fd() > 2);
}

#[task]
fn move_both(one: Passed<File>, same: Passed<File>, by: i64) -> u64 {
    one.into_inner().unwrap().seek(SeekFrom::Current(by)).unwrap();
    same.into_inner().unwrap().seek(SeekFrom::Current(by)).unwrap()
}

/// Once for each time that they refer to it, whatever other calls do.
fn a_call_gets_the_same_file_twice() {
    let pool = builder().processes(1).build().unwrap();
    let file = Passed::new(tempfile::tempfile().unwrap()).unwrap();
    let ends = pool.map(|_| move_both::call(file.clone(), file.clone(), 1), 0..20).unwrap();
    assert!(ends.into_iter().eq((1..=20).map(|index| 2 * index)));
    assert_eq!(pool.apply(move_both::call(file.clone(), file.clone(), 1)).unwrap(), 42);
}

#[task]
fn read_all(items: &Queue<Passed<File>>, go_on: &Event) -> usize {
    go_on.wait();
    let files: Vec<_> = items.iter().map(|file| file.unwrap().into_inner().unwrap()).collect();
    files.len()
}

/// The calls with it wait in the worker while another takes it off a queue.
fn a_message_takes_no_file_from_a_call() {
    let pool = builder().processes(1).build().unwrap();
    let (items, go_on) = (Queue::unbounded().unwrap(), Event::new().unwrap());
    let file = Passed::new(tempfile::tempfile().unwrap()).unwrap();
    (0..3).for_each(|_| items.put(&file).unwrap());
    items.close();
    let count = pool.apply_async(read_all::call(&items, &go_on));
    let jobs: Vec<_> = (0..3).map(|_| pool.apply_async(position_of::call(file.clone(), 1))).collect();
    go_on.set();
    assert_eq!(count.get().unwrap(), 3);
    assert!(jobs.into_iter().map(|job| job.get().unwrap()).eq(1..4));
}

#[task]
fn position_of(file: Passed<File>, by: i64) -> u64 {
    file.into_inner().unwrap().seek(SeekFrom::Current(by)).unwrap()
}

/// They follow each other at once, so that a worker has been sent the file several times before it takes it out.
fn several_calls_at_once_get_the_same_file() {
    let pool = builder().processes(2).build().unwrap();
    let file = Passed::new(tempfile::tempfile().unwrap()).unwrap();
    let jobs: Vec<_> = (0..200).map(|_| pool.apply_async(position_of::call(file.clone(), 1))).collect();
    let mut positions: Vec<_> = jobs.into_iter().map(|job| job.get().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>());
}

#[derive(Serialize, Deserialize)]
struct Nested {
    own: Option<Queue<Nested>>,
    depth: u32,
}

fn a_queue_is_an_item_of_its_own() {
    let queue = Queue::<Nested>::unbounded().unwrap();
    queue.put(&Nested { own: Some(queue.clone()), depth: 0 }).unwrap();
    let mut own = queue.get().unwrap().unwrap().own.unwrap();
    drop(queue);
    for depth in 1..10 {
        own.put(&Nested { own: Some(own.clone()), depth }).unwrap();
        let nested = own.get().unwrap().unwrap();
        assert_eq!(nested.depth, depth);
        own = nested.own.unwrap();
    }
    let threads = Pool::builder().processes(1).backend(Backend::Threads).build().unwrap();
    threads.apply(put_nested::call(&own)).unwrap();
    assert_eq!(own.get().unwrap().unwrap().depth, 99);
}

#[task]
fn put_nested(queue: &Queue<Nested>) {
    queue.put(&Nested { own: None, depth: 99 }).unwrap();
}

#[task]
fn add_up(events: &Queue<Value<u64>>) -> u64 {
    events.iter().map(|value| value.unwrap().get()).sum()
}

fn there_is_room_for_some_handles_at_a_time() {
    let values = [1, 2, 3].map(|value| Value::new(value).unwrap());
    let queue = Queue::<Value<u64>>::unbounded().unwrap();
    let put = (0..).take_while(|n| queue.try_put(&values[n % 3]).is_ok()).count();
    assert!(put >= 100, "{put}");
    let full = queue.try_put(&values[0]).unwrap_err();
    assert!(full.is_would_block() && full.to_string().contains("no room for more handles"), "{full}");
    assert_eq!(queue.len(), put);
    let rest = thread::scope(|scope| {
        let puts = scope.spawn(|| (0..500).for_each(|n| queue.put(&values[n % 3]).unwrap()));
        let taken = (0..put).map(|_| queue.get().unwrap().unwrap().get()).sum::<u64>();
        assert_eq!(taken, (0..put).map(|n| n as u64 % 3 + 1).sum());
        let pool = builder().processes(1).build().unwrap();
        let job = pool.apply_async(add_up::call(&queue));
        puts.join().unwrap();
        queue.close();
        job.get().unwrap()
    });
    assert_eq!(rest, (0..500).map(|n| n % 3 + 1).sum());
    let (sender, receiver) = channel::<Value<u64>>().unwrap();
    let sent = (0..).take_while(|n| sender.try_send(&values[n % 3]).is_ok()).count();
    assert!(sent >= 100, "{sent}");
    thread::scope(|scope| {
        scope.spawn(move || (0..500).for_each(|_| sender.send(&Value::new(4_u64).unwrap()).unwrap()));
        let all: u64 = receiver.iter().map(|value| value.unwrap().get()).sum();
        assert_eq!(all, (0..sent).map(|n| n as u64 % 3 + 1).sum::<u64>() + 2000);
    });
    // More than there is ever room for.
    let queue = Queue::<Vec<Value<u64>>>::unbounded().unwrap();
    let many: Vec<_> = (0..600).map(|n| Value::new(n).unwrap()).collect();
    let error = queue.put(&many).unwrap_err();
    assert!(error.to_string().contains("600 handles"), "{error}");
    queue.put(&many[..50]).unwrap();
    assert_eq!(queue.get().unwrap().unwrap()[49].get(), 49);
}

fn handles_that_are_cleared_or_not_decoded_are_gone() {
    let before = descriptors().len();
    let queue = Queue::<(Passed<File>, bool)>::unbounded().unwrap();
    let file = || Passed::new(tempfile::tempfile().unwrap()).unwrap();
    (0..10).for_each(|_| queue.put(&(file(), true)).unwrap());
    assert_eq!(queue.clear().unwrap(), 10);
    queue.put(&(file(), true)).unwrap();
    assert!(queue.get().unwrap().unwrap().1);
    drop(queue);
    until("all is closed", || descriptors().len() <= before);
}

#[task]
fn feed(queue: &Queue<(u64, Value<u64>, Passed<File>)>, first: u64, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    for number in first.. {
        let file = Passed::new(File::open("/dev/null").unwrap()).unwrap();
        queue.put(&(number, Value::new(number).unwrap(), file)).unwrap();
    }
}

/// Tells what it has taken, and that an item was lost by 0.
#[task]
fn drain(queue: &Queue<(u64, Value<u64>, Passed<File>)>, taken: &Queue<u64>, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    for item in queue {
        match item {
            Ok((number, value, _)) => {
                assert_eq!(number, value.get());
                taken.put(&number).unwrap();
            }
            Err(error) => {
                assert!(error.to_string().contains("taken by a process that has ended"), "{error}");
                taken.put(&0).unwrap();
            }
        }
    }
}

fn whoever_is_killed_with_handles_leaves_the_others_working() {
    const STRIDE: u64 = 1 << 32;
    let mut numbers = Numbers::from(u64::from(std::process::id()));
    let (queue, taken) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let started = Atomic::new(0_u32).unwrap();
    let pool = builder().processes(4).build().unwrap();
    let mut all = Vec::new();
    for round in 0..40 {
        let before = started.load(Acquire);
        let feeds: Vec<_> =
            (1..3).map(|one| pool.apply_async(feed::call(&queue, (2 * round + one) * STRIDE, &started))).collect();
        let drains: Vec<_> = (0..2).map(|_| pool.apply_async(drain::call(&queue, &taken, &started))).collect();
        until("all have begun", || started.load(Acquire) == before + 4);
        (0..1 + numbers.below(60)).for_each(|_| all.extend(taken.get().unwrap()));
        let pids = pids(&pool);
        signal(pids[0], 9);
        signal(pids[2], 9);
        // One whose worker was killed may just be ending.
        feeds.iter().chain(&drains).for_each(|job| until("it has ended", || job.cancel() || job.is_ready()));
        feeds.into_iter().chain(drains).for_each(|job| assert!(job.get().is_err()));
        while let Ok(Some(number)) = taken.try_get() {
            all.push(number);
        }
    }
    queue.close();
    let rest = queue.iter().map(|item| item.map_or(0, |(number, ..)| number));
    all.extend(rest.collect::<Vec<_>>());
    let lost = all.iter().filter(|number| **number == 0).count();
    assert!(lost <= 160, "{lost} items were lost by {} kills", 160);
    all.retain(|number| *number != 0);
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "an item came twice");
}
