//! Channels and pipes between processes: each message comes out once, whole and in order, and the end is noticed however
//! the other side went.

over_every_transport! {
    in_turn:
    messages_neither_merge_nor_split,
    poll_tells_what_receiving_would_do,
    large_messages_pass_both_ways_while_both_ends_poll,
    the_end_comes_when_the_last_sender_is_gone,
    sending_to_nobody_is_an_error,
    more_than_a_mebibyte_unread_makes_senders_wait,
    ends_travel_as_values_do,
    several_share_an_end,
    a_sandbox_may_use_the_pipe_that_it_was_given,
    whoever_is_killed_anywhere_leaves_the_others_working_with_pipes,
    nothing_is_left_open,
}

use crate::support::{Numbers, builder, descriptors, over_every_transport, pids, returns, signal, until};
use pool_runtime::{
    Atomic, Backend, Pipe, Pool, Process, Queue, Receiver, Result, Sandbox, Sender, channel, pipe, task,
};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

#[task]
fn echo_back(pipe: Pipe<Vec<u8>, Vec<u8>>) -> usize {
    let mut count = 0;
    for message in &pipe {
        pipe.send(&message.unwrap()).unwrap();
        count += 1;
    }
    count
}

fn messages_neither_merge_nor_split() {
    let pool = builder().processes(1).build().unwrap();
    let (here, there) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    let job = pool.apply_async(echo_back::call(there));
    let lengths = [0, 1, 7, 8, 9, 0, 100, (1 << 18) - 17, (1 << 18) - 16, 1 << 18, 300_000, 0];
    let messages = lengths.map(|length| (0..length).map(|at| (at * 7 % 251) as u8).collect::<Vec<_>>());
    for message in &messages {
        here.send(message.as_slice()).unwrap();
        assert_eq!(here.recv().unwrap().as_ref(), Some(message));
    }
    // Several under way.
    for part in messages.chunks(4) {
        part.iter().for_each(|message| here.send(message).unwrap());
        part.iter().for_each(|message| assert_eq!(here.recv().unwrap().as_ref(), Some(message)));
    }
    drop(here);
    assert_eq!(job.get().unwrap(), 2 * lengths.len());
}

fn poll_tells_what_receiving_would_do() {
    let (sender, receiver) = channel::<String>().unwrap();
    let pause = Duration::from_millis(20);
    assert!(!receiver.poll(Duration::ZERO).unwrap());
    let began = Instant::now();
    assert!(!receiver.poll(pause).unwrap() && began.elapsed() >= pause);
    let empty = receiver.try_recv().unwrap_err();
    assert!(empty.is_would_block() && !empty.is_timeout() && empty.to_string() == "the channel has no message");
    let began = Instant::now();
    assert!(receiver.recv_timeout(pause).unwrap_err().is_timeout() && began.elapsed() >= pause);
    // An empty message is one.
    sender.send("").unwrap();
    assert!(receiver.poll(Duration::ZERO).unwrap() && receiver.poll(pause).unwrap());
    assert_eq!(receiver.try_recv().unwrap().as_deref(), Some(""));
    assert!(!receiver.poll(Duration::ZERO).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| sender.send("late").unwrap());
        assert!(receiver.poll(Duration::MAX).unwrap());
    });
    assert_eq!(receiver.recv().unwrap().as_deref(), Some("late"));
    thread::scope(|scope| {
        let waits = scope.spawn(|| (receiver.poll(Duration::MAX).unwrap(), receiver.recv().unwrap()));
        thread::sleep(Duration::from_millis(1));
        drop(sender);
        assert_eq!(waits.join().unwrap(), (true, None));
    });
    assert!(receiver.poll(Duration::ZERO).unwrap());
    assert_eq!((receiver.try_recv().unwrap(), receiver.recv().unwrap()), (None, None));
}

const LARGE: usize = 16_000_000;

#[task]
fn exchange(pipe: &Pipe<Vec<u8>, Vec<u8>>, fill: u8) -> u8 {
    thread::scope(|scope| {
        scope.spawn(|| pipe.send(&vec![fill; LARGE]).unwrap());
        while !pipe.poll(Duration::from_millis(1)).unwrap() {}
        let message = pipe.recv().unwrap().unwrap();
        assert!(message.len() == LARGE && message.iter().all(|byte| *byte == message[0]));
        message[0]
    })
}

fn large_messages_pass_both_ways_while_both_ends_poll() {
    let pool = builder().processes(1).build().unwrap();
    let (here, there) = pipe().unwrap();
    let job = pool.apply_async(exchange::call(&there, 5));
    assert_eq!(exchange(&here, 6), 5);
    assert_eq!(job.get().unwrap(), 6);
    // An end that polls with a message in each direction unread.
    here.send(&vec![1; LARGE]).unwrap();
    there.send(&vec![2; LARGE]).unwrap();
    assert!(here.poll(Duration::ZERO).unwrap() && there.poll(Duration::ZERO).unwrap());
    assert_eq!((here.recv().unwrap().unwrap()[LARGE - 1], there.recv().unwrap().unwrap()[0]), (2, 1));
}

#[task]
fn send_and_end(sender: Sender<u32>, how: &str) {
    (0..100).for_each(|number| sender.send(&number).unwrap());
    match how {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "kill" => signal(std::process::id(), 9),
        _ => {}
    }
}

#[task]
fn hold(sender: Sender<u32>, holding: &Atomic<u32>) {
    sender.send(&0).unwrap();
    holding.fetch_add(1, Release);
    loop {
        thread::park();
    }
}

fn the_end_comes_when_the_last_sender_is_gone() {
    for how in ["return", "abort", "exit", "kill"] {
        let (sender, receiver) = channel().unwrap();
        let process = Process::new(send_and_end::call(sender, how)).start().unwrap();
        assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>(), "{how}");
        let _ = process.join();
    }
    // Of two processes, one is killed while the other one sleeps, and then that one, while this one waits.
    let (sender, receiver) = channel::<u32>().unwrap();
    let holding = Atomic::new(0).unwrap();
    let holders = [(); 2].map(|()| Process::new(hold::call(sender.clone(), &holding)).start().unwrap());
    drop(sender);
    until("both hold it", || holding.load(Acquire) == 2);
    holders[0].kill().unwrap();
    assert!(holders[0].join().is_err());
    assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (Some(0), Some(0)));
    assert!(receiver.try_recv().unwrap_err().is_would_block());
    thread::scope(|scope| {
        let waits = scope.spawn(|| receiver.recv().unwrap());
        holders[1].kill().unwrap();
        assert_eq!(waits.join().unwrap(), None);
    });
}

#[task]
fn receive_some(receiver: Receiver<Vec<u8>>, count: u32) -> u32 {
    (0..count).filter(|_| receiver.recv().unwrap().is_some()).count() as u32
}

#[task]
fn hang(_receiver: Receiver<Vec<u8>>, holding: &Atomic<u32>) {
    holding.fetch_add(1, Release);
    loop {
        thread::park();
    }
}

fn sending_to_nobody_is_an_error() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    drop(receiver);
    for error in [sender.send(&vec![1]).unwrap_err(), sender.try_send(&vec![1]).unwrap_err()] {
        assert!(error.is_disconnected() && !error.is_would_block(), "{error}");
        assert_eq!(error.to_string(), "cannot send a message: no receiver is left");
    }
    // One that has received and ended.
    let (sender, receiver) = channel().unwrap();
    let process = Process::new(receive_some::call(receiver, 3)).start().unwrap();
    (0..3).for_each(|_| sender.send(&vec![1]).unwrap());
    assert_eq!(process.join().unwrap(), 3);
    assert!(sender.send(&vec![1]).unwrap_err().is_disconnected());
    // One that is killed while this one waits for room.
    let (sender, receiver) = channel().unwrap();
    let holding = Atomic::new(0).unwrap();
    let process = Process::new(hang::call(receiver, &holding)).start().unwrap();
    until("it holds it", || holding.load(Acquire) == 1);
    sender.send(&vec![1; 2 << 20]).unwrap();
    assert!(sender.try_send(&vec![]).unwrap_err().is_would_block());
    thread::scope(|scope| {
        let waits = scope.spawn(|| sender.send(&vec![]).unwrap_err());
        process.kill().unwrap();
        assert!(waits.join().unwrap().is_disconnected());
    });
}

fn more_than_a_mebibyte_unread_makes_senders_wait() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    let sent = (0..).take_while(|_| sender.try_send(&vec![0; 10_000]).is_ok()).count();
    assert!((105..107).contains(&sent), "{sent}");
    let pause = Duration::from_millis(20);
    let began = Instant::now();
    let full = sender.send_timeout(&vec![1], pause).unwrap_err();
    assert!(full.is_timeout() && began.elapsed() >= pause && full.to_string().starts_with("the channel is full"));
    thread::scope(|scope| {
        let waits = scope.spawn(|| (0..3).for_each(|_| sender.send(&vec![1; 3 << 20]).unwrap()));
        (0..sent).for_each(|_| assert_eq!(receiver.recv().unwrap().unwrap().len(), 10_000));
        (0..3).for_each(|_| assert_eq!(receiver.recv().unwrap().unwrap().len(), 3 << 20));
        waits.join().unwrap();
    });
    // Three in line for room.
    sender.send(&vec![0; 2 << 20]).unwrap();
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(|| sender.send(&vec![0; 2 << 20]).unwrap())));
        (0..4).for_each(|_| assert_eq!(receiver.recv().unwrap().unwrap().len(), 2 << 20));
    });
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), None);
}

#[task]
fn introduce(ends: Receiver<Sender<String>>) {
    for end in &ends {
        end.unwrap().send(format!("from {}", std::process::id()).as_str()).unwrap();
    }
}

#[task]
fn pass_on(ends: &Queue<Receiver<Sender<String>>>) -> u32 {
    let process = Process::new(introduce::call(ends.get().unwrap().unwrap())).start().unwrap();
    process.join().unwrap();
    process.pid()
}

fn ends_travel_as_values_do() {
    // A sender through a channel whose receiver goes through a queue to a child, and from there to the child's own.
    let pool = builder().processes(1).build().unwrap();
    let ends = Queue::unbounded().unwrap();
    let job = pool.apply_async(pass_on::call(&ends));
    let (introduces, introduced) = channel().unwrap();
    let (sender, receiver) = channel().unwrap();
    ends.put(&introduced).unwrap();
    drop(introduced);
    introduces.send(&sender).unwrap();
    drop(sender);
    let said = receiver.recv().unwrap().unwrap();
    assert_eq!(receiver.recv().unwrap(), None, "nobody else has an end");
    drop(introduces);
    assert_eq!(said, format!("from {}", job.get().unwrap()));
    // A whole pipe through itself, and on to a thread.
    let (here, there) = pipe::<Pipe<u8, u8>, u8>().unwrap();
    let (inner, other) = pipe().unwrap();
    here.send(&inner).unwrap();
    drop(inner);
    let inner = there.recv().unwrap().unwrap();
    let threads = Pool::builder().processes(1).backend(Backend::Threads).build().unwrap();
    let job = threads.apply_async(add_one::call(inner));
    other.send(&5).unwrap();
    assert_eq!(other.recv().unwrap(), Some(6));
    drop(other);
    job.get().unwrap();
    let (sender, receiver) = channel::<Receiver<u8>>().unwrap();
    let (_, end) = channel().unwrap();
    sender.send(&end).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap().recv().unwrap(), None);
}

#[task]
fn add_one(pipe: Pipe<u8, u8>) {
    for number in &pipe {
        pipe.send(&(number.unwrap() + 1)).unwrap();
    }
}

#[task]
fn count_received(receiver: Receiver<(u32, u64)>) -> Vec<(u32, u64)> {
    receiver.iter().map(Result::unwrap).collect()
}

#[task]
fn send_many(sender: Sender<(u32, u64)>, who: u32, count: u64) {
    (0..count).for_each(|number| sender.send(&(who, number)).unwrap());
}

fn several_share_an_end() {
    let pool = builder().processes(6).build().unwrap();
    let (sender, receiver) = channel().unwrap();
    let receivers: Vec<_> = (0..3).map(|_| pool.apply_async(count_received::call(receiver.clone()))).collect();
    let senders: Vec<_> = (0..3).map(|who| pool.apply_async(send_many::call(sender.clone(), who, 3000))).collect();
    drop(sender);
    senders.into_iter().for_each(|job| job.get().unwrap());
    let taken: Vec<_> = receivers.into_iter().map(|job| job.get().unwrap()).collect();
    for one in &taken {
        for who in 0..3 {
            assert!(one.iter().filter(|(from, _)| *from == who).is_sorted(), "in order");
        }
    }
    let mut all = taken.concat();
    all.sort_unstable();
    assert_eq!(all, (0..3).flat_map(|who| (0..3000).map(move |n| (who, n))).collect::<Vec<_>>());
    assert_eq!(receiver.recv().unwrap(), None);
}

fn a_sandbox_may_use_the_pipe_that_it_was_given() {
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build().unwrap();
    let (here, there) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    let job = pool.apply_async(echo_back::call(there));
    for length in [0, 10, 400_000] {
        here.send(&vec![3; length]).unwrap();
        assert_eq!(here.recv().unwrap(), Some(vec![3; length]));
    }
    drop(here);
    assert_eq!(job.get().unwrap(), 3);
}

#[task]
fn feed(sender: &Sender<(u64, Vec<u8>)>, first: u64, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    for number in first.. {
        sender.send(&(number, vec![number as u8; number as usize * 37 % 3000])).unwrap();
    }
}

#[task]
fn drain(receiver: &Receiver<(u64, Vec<u8>)>, taken: &Sender<u64>, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    for message in receiver {
        let (number, bytes) = message.unwrap();
        assert!(bytes.len() == number as usize * 37 % 3000 && bytes.iter().all(|byte| *byte == number as u8));
        taken.send(&number).unwrap();
    }
}

fn whoever_is_killed_anywhere_leaves_the_others_working_with_pipes() {
    const STRIDE: u64 = 1 << 32;
    let mut numbers = Numbers::from(u64::from(std::process::id()));
    let (sender, receiver) = channel().unwrap();
    let (takes, taken) = channel().unwrap();
    let started = Atomic::new(0_u32).unwrap();
    let pool = builder().processes(4).build().unwrap();
    let (mut all, mut kills) = (Vec::new(), 0);
    for round in 0..40 {
        let before = started.load(Acquire);
        let feeds: Vec<_> =
            (0..2).map(|one| pool.apply_async(feed::call(&sender, (2 * round + one) * STRIDE, &started))).collect();
        let drains: Vec<_> = (0..2).map(|_| pool.apply_async(drain::call(&receiver, &takes, &started))).collect();
        until("all have begun", || started.load(Acquire) == before + 4);
        (0..1 + numbers.below(200)).for_each(|_| all.extend(taken.recv().unwrap()));
        let pids = pids(&pool);
        signal(pids[0], 9);
        signal(pids[2], 9);
        kills += 4;
        // Those that are left go on.
        while let Ok(Some(number)) = taken.try_recv() {
            all.push(number);
        }
        // One whose worker was killed may just be ending.
        feeds.iter().chain(&drains).for_each(|job| until("it has ended", || job.cancel() || job.is_ready()));
        feeds.into_iter().chain(drains).for_each(|job| assert!(job.get().is_err()));
    }
    drop((sender, takes));
    all.extend(taken.iter().map(Result::unwrap));
    all.extend(returns("what is left", move || receiver.iter().map(|message| message.unwrap().0).collect::<Vec<_>>()));
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a message came twice");
    let lost = all.chunk_by(|one, other| one / STRIDE == other / STRIDE);
    let lost = lost.map(|messages| (messages[messages.len() - 1] % STRIDE + 1) - messages.len() as u64);
    assert!(lost.sum::<u64>() <= kills, "more is lost than was in the hands of the dead");
}

fn nothing_is_left_open() {
    let pool = builder().processes(1).build().unwrap();
    let use_it = || {
        let (here, there) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
        let job = pool.apply_async(echo_back::call(there.clone()));
        drop(there);
        here.send(&vec![1]).unwrap();
        assert_eq!(here.recv().unwrap(), Some(vec![1]));
        drop(here);
        job.get().unwrap();
        // Messages with handles that nobody receives, and one that goes through itself.
        let (sender, receiver) = channel::<Queue<u8>>().unwrap();
        (0..3).for_each(|_| sender.send(&Queue::unbounded().unwrap()).unwrap());
        let own = Queue::<Queue<u8>>::unbounded().unwrap();
        own.put(&Queue::unbounded().unwrap()).unwrap();
        drop((sender, receiver));
    };
    use_it();
    let before = descriptors().len();
    (0..5).for_each(|_| use_it());
    until("all is closed", || descriptors().len() <= before);
}
