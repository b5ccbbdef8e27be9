//! Waiting for several things at once: those that are ready are told, and no others, whatever they are.

over_every_transport! {
    in_turn:
    exactly_those_that_are_ready_are_told,
    a_wait_takes_as_long_as_it_may,
    whoever_is_waited_for_wakes_the_one_who_waits,
    slow_writers_are_all_heard,
    what_is_killed_is_ready,
    several_may_wait_for_the_same,
    one_waits_for_many,
}

use crate::support::{builder, descriptors, over_every_transport, until};
use pool_runtime::connection::{Client, Listener};
use pool_runtime::{
    Atomic, Passed, Pool, Process, Queue, Receiver, Sender, Waitable, channel, pipe, task, wait, wait_slice,
};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

/// Ends when it is told to.
#[task]
fn end_with(told: &Queue<u32>) -> u32 {
    told.get().unwrap().unwrap()
}

#[task]
fn say_and_go(sender: Sender<u32>, told: &Queue<u32>) {
    while let Some(number) = told.get().unwrap() {
        sender.send(&number).unwrap();
    }
}

fn exactly_those_that_are_ready_are_told() {
    let pool = builder().processes(1).build().unwrap();
    let (told, told_process) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let job = pool.apply_async(end_with::call(&told));
    let process = Process::new(end_with::call(&told_process)).start().unwrap();
    let queue = Queue::<String>::unbounded().unwrap();
    let closed = Queue::<u8>::bounded(1).unwrap();
    let (sender, receiver) = channel::<u8>().unwrap();
    let (here, there) = pipe::<u8, u8>().unwrap();
    let (reads, mut writes) = std::io::pipe().unwrap();
    let (other_reads, other_writes) = std::io::pipe().unwrap();
    let passed = Passed::new(other_reads).unwrap();
    let listener = Listener::builder().no_authkey().bind("127.0.0.1:0").unwrap();
    let connection = Client::builder().no_authkey().connect(listener.address()).unwrap();
    let served = listener.accept().unwrap();
    let fd = reads.as_fd();
    let ready = || {
        let all: [&dyn Waitable; 9] = [&job, &process, &queue, &closed, &receiver, &here, &fd, &passed, &connection];
        wait(all, Duration::ZERO).unwrap()
    };
    let becomes = |expected: &[usize]| until("those are ready", || ready() == expected);
    assert!(ready().is_empty());
    queue.put("an item").unwrap();
    assert_eq!(ready(), [2]);
    there.send(&1).unwrap();
    assert_eq!(ready(), [2, 5]);
    assert_eq!(queue.get().unwrap().as_deref(), Some("an item"));
    assert_eq!(ready(), [5]);
    told.put(&5).unwrap();
    becomes(&[0, 5]);
    told_process.put(&6).unwrap();
    becomes(&[0, 1, 5]);
    assert_eq!((here.recv().unwrap(), process.join().unwrap()), (Some(1), 6));
    closed.close();
    assert_eq!(ready(), [0, 1, 3]);
    drop(sender);
    assert_eq!(ready(), [0, 1, 3, 4]);
    drop(there);
    writes.write_all(b"1").unwrap();
    assert_eq!(ready(), [0, 1, 3, 4, 5, 6]);
    drop(other_writes);
    served.send_bytes(b"1").unwrap();
    becomes(&[0, 1, 3, 4, 5, 6, 7, 8]);
    assert_eq!(job.get().unwrap(), 5);
    assert_eq!((receiver.recv().unwrap(), here.recv().unwrap(), closed.get().unwrap()), (None, None, None));
    assert_eq!(connection.recv_bytes().unwrap().as_deref(), Some(&b"1"[..]));
}

fn a_wait_takes_as_long_as_it_may() {
    let nothing = wait([], None).unwrap_err();
    assert!(nothing.to_string().contains("nothing to wait for"), "{nothing}");
    let pause = Duration::from_millis(50);
    let began = Instant::now();
    assert!(wait([], pause).unwrap().is_empty() && began.elapsed() >= pause);
    let (_sender, receiver) = channel::<u8>().unwrap();
    let queue = Queue::<u8>::unbounded().unwrap();
    // What was there before and was taken does not end the wait.
    for _ in 0..3 {
        queue.put(&1).unwrap();
        assert_eq!(wait([&receiver, &queue], None).unwrap(), [1]);
        queue.get().unwrap();
    }
    let began = Instant::now();
    assert!(wait([&receiver, &queue], pause).unwrap().is_empty() && began.elapsed() >= pause);
}

fn whoever_is_waited_for_wakes_the_one_who_waits() {
    let pool = builder().processes(2).build().unwrap();
    let told = [(); 2].map(|()| Queue::unbounded().unwrap());
    let (sender, receiver) = channel().unwrap();
    let says = pool.apply_async(say_and_go::call(sender, &told[0]));
    let queue = Queue::<u32>::unbounded().unwrap();
    // The process that waits is asleep each time, and would find it out in a third of a second.
    let began = Instant::now();
    for round in 0..30 {
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait([&queue, &receiver], None).unwrap());
            thread::sleep(Duration::from_millis(10));
            if round % 2 == 0 {
                told[0].put(&round).unwrap()
            } else {
                queue.put(&round).unwrap()
            }
            assert_eq!(waits.join().unwrap(), [usize::from(round % 2 == 0)]);
        });
        if round % 2 == 0 {
            assert_eq!(receiver.recv().unwrap(), Some(round))
        } else {
            assert_eq!(queue.get().unwrap(), Some(round))
        }
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for round in 0..10 {
        let job = pool.apply_async(end_with::call(&told[1]));
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait([&queue, &job, &receiver], None).unwrap());
            told[1].put(&round).unwrap();
            assert_eq!(waits.join().unwrap(), [1]);
        });
        assert_eq!(job.get().unwrap(), round);
    }
    told[0].close();
    says.get().unwrap();
    assert_eq!(wait([&queue, &receiver], None).unwrap(), [1]);
}

#[task]
fn write_slowly(sender: Sender<(u32, u32)>, queue: &Queue<(u32, u32)>, who: u32) {
    for number in 0..20 {
        thread::sleep(Duration::from_millis(u64::from(who)));
        if who.is_multiple_of(2) { sender.send(&(who, number)).unwrap() } else { queue.put(&(who, number)).unwrap() }
    }
}

fn slow_writers_are_all_heard() {
    let pool = builder().processes(4).build().unwrap();
    let queue = Queue::unbounded().unwrap();
    let ends: Vec<_> = (0..4).map(|_| channel().unwrap()).collect();
    let (senders, mut receivers): (Vec<_>, Vec<Receiver<(u32, u32)>>) = ends.into_iter().unzip();
    let jobs: Vec<_> =
        (0..).zip(senders).map(|(who, sender)| pool.apply_async(write_slowly::call(sender, &queue, who))).collect();
    let mut heard = Vec::new();
    while heard.len() < 80 || !receivers.is_empty() {
        let mut all: Vec<&dyn Waitable> = receivers.iter().map(|receiver| receiver as _).collect();
        all.push(&queue);
        let ready = wait_slice(&all, None).unwrap();
        for at in ready.into_iter().rev() {
            match receivers.get(at) {
                None => heard.extend(queue.try_get().unwrap()),
                Some(receiver) => match receiver.try_recv().unwrap() {
                    Some(message) => heard.push(message),
                    None => drop(receivers.remove(at)),
                },
            }
        }
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..4).flat_map(|who| (0..20).map(move |number| (who, number))).collect::<Vec<_>>());
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

#[task]
fn hang(_sender: Sender<u32>, holding: &Atomic<u32>) {
    holding.fetch_add(1, Release);
    loop {
        thread::park();
    }
}

fn what_is_killed_is_ready() {
    let holding = Atomic::new(0_u32).unwrap();
    let pool = builder().processes(1).build().unwrap();
    let (sender, receiver) = channel().unwrap();
    let (other_sender, other) = channel().unwrap();
    let process = Process::new(hang::call(sender, &holding)).start().unwrap();
    let job = pool.apply_async(hang::call(other_sender, &holding));
    until("both hold their ends", || holding.load(Acquire) == 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| wait([&receiver, &other], None).unwrap());
        process.kill().unwrap();
        assert_eq!(waits.join().unwrap(), [0]);
    });
    assert_eq!(wait([&process], None).unwrap(), [0]);
    thread::scope(|scope| {
        let waits = scope.spawn(|| wait([&job], None).unwrap());
        assert!(job.cancel());
        assert_eq!(waits.join().unwrap(), [0]);
    });
    assert_eq!(wait([&other], None).unwrap(), [0]);
    assert!(job.get().is_err() && process.join().is_err());
}

fn several_may_wait_for_the_same() {
    let (queue, taken) = (Queue::<u32>::unbounded().unwrap(), Queue::unbounded().unwrap());
    let (sender, receiver) = channel::<u32>().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    for at in wait([&queue, &receiver], None).unwrap() {
                        let got = if at == 0 { queue.try_get() } else { receiver.try_recv() };
                        match got {
                            Ok(Some(number)) => taken.put(&number).unwrap(),
                            Ok(None) if at == 0 => return,
                            Ok(None) => {}
                            Err(error) => assert!(error.is_would_block(), "{error}"),
                        }
                    }
                }
            });
        }
        for number in 0..1000 {
            if number % 2 == 0 {
                queue.put(&number).unwrap()
            } else {
                sender.send(&number).unwrap()
            }
            if number % 100 == 0 {
                until("all is taken", || taken.len() as u32 == number + 1);
            }
        }
        until("all is taken", || taken.len() == 1000);
        queue.close();
    });
}

fn one_waits_for_many() {
    let before = descriptors().len();
    {
        let pool = Pool::builder().processes(2).build().unwrap();
        let queues: Vec<_> = (0..100).map(|_| Queue::unbounded().unwrap()).collect();
        let all: Vec<&dyn Waitable> = queues.iter().map(|queue: &Queue<u32>| queue as _).collect();
        for at in [0, 50, 99] {
            pool.apply(put_one::call(&queues[at])).unwrap();
            assert_eq!(wait_slice(&all, None).unwrap(), [at]);
            queues[at].get().unwrap();
        }
        // Many calls wait for the same jobs.
        let told = Queue::unbounded().unwrap();
        let jobs: Vec<_> = (0..3).map(|_| pool.apply_async(end_with::call(&told))).collect();
        let all: Vec<&dyn Waitable> = jobs.iter().map(|job| job as _).collect();
        (0..100).for_each(|_| assert!(wait_slice(&all, Duration::ZERO).unwrap().is_empty()));
        (0..3).for_each(|number| told.put(&number).unwrap());
        until("all have ended", || wait_slice(&all, None).unwrap() == [0, 1, 2]);
    }
    // This thread has a bell from now on.
    until("all is closed", || descriptors().len() <= before + 1);
}

#[task]
fn put_one(queue: &Queue<u32>) {
    queue.put(&1).unwrap();
}
