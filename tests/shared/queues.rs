//! Queues between processes: each item comes out once and in order, whoever puts and takes and however they end.

over_every_transport! {
    in_turn:
    every_item_comes_out_once_and_in_order,
    full_and_empty_are_exact,
    who_waits_for_room_or_an_item_is_woken,
    items_put_just_before_the_end_arrive,
    what_cannot_be_encoded_or_decoded_takes_no_room,
    a_closed_queue_wakes_all_and_gives_what_is_in_it,
    what_was_put_before_it_was_closed_is_taken,
    join_waits_for_all_to_be_done,
    join_is_right_while_others_say_that_they_are_done,
    join_tells_what_was_lost,
    whoever_is_killed_anywhere_leaves_the_others_working,
    items_of_every_length_arrive_whole,
    a_queue_travels_as_values_do,
    a_sandbox_may_use_the_queue_that_it_was_given,
    the_last_holder_frees_it,
}

use crate::support::regions::{held, held_here};
use crate::support::{Numbers, builder, over_every_transport, pids, returns, signal, until};
use pool_runtime::{Atomic, Backend, Pool, Process, Queue, Result, Sandbox, task};
use serde::{Deserialize, Serialize, Serializer};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

#[task]
fn produce(queue: &Queue<(u32, u64)>, producer: u32, items: u64) {
    (0..items).for_each(|item| queue.put(&(producer, item)).unwrap());
}

/// Returns the items in the order in which they came.
#[task]
fn consume(queue: &Queue<(u32, u64)>) -> Vec<(u32, u64)> {
    queue.iter().map(Result::unwrap).collect()
}

fn every_item_comes_out_once_and_in_order() {
    for queue in [Queue::bounded(7).unwrap(), Queue::unbounded().unwrap()] {
        let pool = builder().processes(5).build().unwrap();
        let consumers: Vec<_> = (0..2).map(|_| pool.apply_async(consume::call(&queue))).collect();
        let producers: Vec<_> =
            (0..3).map(|producer| pool.apply_async(produce::call(&queue, producer, 2000))).collect();
        let mut taken = thread::scope(|scope| {
            let there = scope.spawn(|| (0..2000).for_each(|item| queue.put(&(3, item)).unwrap()));
            let here = scope.spawn(|| queue.iter().map(Result::unwrap).collect::<Vec<_>>());
            producers.into_iter().for_each(|job| job.get().unwrap());
            there.join().unwrap();
            queue.close();
            vec![here.join().unwrap()]
        });
        taken.extend(consumers.into_iter().map(|job| job.get().unwrap()));
        for one in &taken {
            for producer in 0..4 {
                let items = one.iter().filter(|(from, _)| *from == producer).map(|(_, item)| *item);
                assert!(items.is_sorted(), "what one takes of one producer is in order");
            }
        }
        let mut all = taken.concat();
        all.sort_unstable();
        let expected: Vec<_> = (0..4).flat_map(|producer| (0..2000).map(move |item| (producer, item))).collect();
        assert_eq!(all, expected);
        assert_eq!(queue.get().unwrap(), None);
    }
}

fn full_and_empty_are_exact() {
    let pool = builder().processes(1).build().unwrap();
    assert!(Queue::<u8>::bounded(0).unwrap_err().to_string().contains("capacity is 0"));
    let queue = Queue::<u32>::bounded(2).unwrap();
    assert_eq!((queue.capacity(), queue.len(), queue.is_empty()), (Some(2), 0, true));
    let pause = Duration::from_millis(20);
    for round in 0..3 {
        let empty = queue.try_get().unwrap_err();
        assert!(empty.is_would_block() && !empty.is_timeout() && empty.to_string() == "the queue is empty");
        let began = Instant::now();
        let empty = queue.get_timeout(pause).unwrap_err();
        assert!(empty.is_timeout() && began.elapsed() >= pause, "{empty}");
        queue.try_put(&round).unwrap();
        pool.apply(put_one::call(&queue, round + 10)).unwrap().unwrap();
        let full = queue.try_put(&99).unwrap_err();
        assert!(full.is_would_block() && full.to_string() == "the queue is full", "{full}");
        let began = Instant::now();
        assert!(queue.put_timeout(&99, pause).unwrap_err().is_timeout() && began.elapsed() >= pause);
        assert_eq!(pool.apply(put_one::call(&queue, 99)).unwrap(), Err("the queue is full".to_string()));
        assert_eq!((queue.len(), pool.apply(length::call(&queue)).unwrap()), (2, 2));
        assert_eq!(queue.try_get().unwrap(), Some(round));
        assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), Some(round + 10));
    }
}

#[task]
fn put_one(queue: &Queue<u32>, item: u32) -> Result<(), String> {
    queue.try_put(&item).map_err(|error| error.to_string())
}

#[task]
fn length(queue: &Queue<u32>) -> usize {
    queue.len()
}

#[task]
fn echo(asked: &Queue<u32>, answered: &Queue<u32>) {
    for question in asked {
        answered.put(&(question.unwrap() + 1)).unwrap();
    }
}

fn who_waits_for_room_or_an_item_is_woken() {
    let pool = builder().processes(2).build().unwrap();
    let (asked, answered) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(echo::call(&asked, &answered)));
    for question in 0..300 {
        // Some at once, some after all have gone to sleep.
        if question % 50 == 0 {
            until("all sleep", || pids(&pool).into_iter().all(sleeps));
        }
        asked.put(&question).unwrap();
        assert_eq!(answered.get().unwrap(), Some(question + 1));
    }
    // Three in line for the one place.
    thread::scope(|scope| {
        let full = Queue::bounded(1).unwrap();
        full.put(&0).unwrap();
        let puts = [1, 2, 3].map(|item| {
            let full = full.clone();
            scope.spawn(move || full.put(&item).unwrap())
        });
        let mut taken: Vec<u32> = (0..4).map(|_| full.get().unwrap().unwrap()).collect();
        puts.into_iter().for_each(|put| put.join().unwrap());
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3]);
    });
    asked.close();
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

fn sleeps(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
}

#[task]
fn put_and_end(queue: &Queue<String>, how: &str) {
    for item in 0..100 {
        queue.put(format!("{how} {item}").as_str()).unwrap();
    }
    match how {
        "exit" => std::process::exit(0),
        "abort" => std::process::abort(),
        _ => {}
    }
}

fn items_put_just_before_the_end_arrive() {
    let queue = Queue::<String>::unbounded().unwrap();
    for how in ["return", "exit", "abort"] {
        queue.put("before").unwrap();
        let ended = Process::new(put_and_end::call(&queue, how)).start().unwrap().join();
        assert_eq!(ended.is_ok(), how == "return");
        assert_eq!(queue.try_get().unwrap().as_deref(), Some("before"));
        for item in 0..100 {
            assert_eq!(queue.try_get().unwrap(), Some(format!("{how} {item}")));
        }
        assert!(queue.is_empty());
    }
}

/// Cannot be encoded if it is odd, nor decoded if it is 4.
#[derive(Debug, PartialEq)]
struct Fussy(u32);

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 { Err(serde::ser::Error::custom("it is odd")) } else { serializer.serialize_u32(self.0) }
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            4 => Err(serde::de::Error::custom("it is four")),
            number => Ok(Self(number)),
        }
    }
}

fn what_cannot_be_encoded_or_decoded_takes_no_room() {
    let queue = Queue::<Fussy>::bounded(2).unwrap();
    let error = queue.put(&Fussy(3)).unwrap_err();
    assert!(error.is_encode() && error.to_string() == "cannot put an item on a queue: it is odd", "{error}");
    assert_eq!((queue.len(), error.raw_text()), (0, Some("it is odd")));
    [4, 6].iter().for_each(|number| queue.try_put(&Fussy(*number)).unwrap());
    let error = queue.get().unwrap_err();
    assert!(error.is_decode() && error.to_string() == "cannot take an item off a queue: it is four", "{error}");
    assert_eq!(queue.get().unwrap(), Some(Fussy(6)));
    queue.task_done().unwrap();
    queue.join().unwrap();
}

#[task]
fn wait_for_an_item(queue: &Queue<u32>, waiting: &Atomic<u32>) -> Option<u32> {
    waiting.fetch_add(1, Release);
    queue.get().unwrap()
}

#[task]
fn wait_for_room(queue: &Queue<u32>, waiting: &Atomic<u32>) -> String {
    waiting.fetch_add(1, Release);
    queue.put(&1).unwrap_err().to_string()
}

fn a_closed_queue_wakes_all_and_gives_what_is_in_it() {
    let pool = builder().processes(4).build().unwrap();
    let (empty, full) = (Queue::<u32>::unbounded().unwrap(), Queue::<u32>::bounded(1).unwrap());
    full.put(&7).unwrap();
    let waiting = Atomic::new(0_u32).unwrap();
    let takes = [(); 2].map(|()| pool.apply_async(wait_for_an_item::call(&empty, &waiting)));
    let puts = [(); 2].map(|()| pool.apply_async(wait_for_room::call(&full, &waiting)));
    until("all wait", || waiting.load(Acquire) == 4);
    thread::scope(|scope| {
        let here = scope.spawn(|| empty.get().unwrap());
        for queue in [&empty, &full, &empty] {
            queue.close();
            assert!(queue.is_closed());
        }
        assert_eq!(here.join().unwrap(), None);
    });
    takes.into_iter().for_each(|job| assert_eq!(job.get().unwrap(), None));
    puts.into_iter().for_each(|job| assert_eq!(job.get().unwrap(), "cannot put an item on a queue: it is closed"));
    assert!(full.try_put(&1).unwrap_err().is_closed());
    assert_eq!((full.get().unwrap(), full.get().unwrap(), full.try_get().unwrap()), (Some(7), None, None));

    // At once: what is in it is gone, and who joins goes on.
    let queue = Queue::unbounded().unwrap();
    (0..10).for_each(|item| queue.put(&item).unwrap());
    assert_eq!(queue.get().unwrap(), Some(0));
    queue.task_done().unwrap();
    queue.close();
    assert_eq!((queue.clear().unwrap(), queue.get().unwrap(), queue.clear().unwrap()), (9, None, 0));
    queue.join().unwrap();
}

#[task]
fn put_until_closed(queue: &Queue<u32>) -> u32 {
    (0..).take_while(|item| queue.put(item).is_ok()).count() as u32
}

#[task]
fn take_until_closed(queue: &Queue<u32>) -> u32 {
    queue.iter().map(Result::unwrap).count() as u32
}

fn what_was_put_before_it_was_closed_is_taken() {
    let pool = builder().processes(4).build().unwrap();
    for round in 0..100 {
        let queue = Queue::unbounded().unwrap();
        let puts = [(); 2].map(|()| pool.apply_async(put_until_closed::call(&queue)));
        let takes = [(); 2].map(|()| pool.apply_async(take_until_closed::call(&queue)));
        until("items pass", || !queue.is_empty() || takes.iter().any(|job| job.is_running()) && round % 2 == 0);
        queue.close();
        let count = |jobs: [pool_runtime::Job<u32>; 2]| jobs.into_iter().map(|job| job.get().unwrap()).sum::<u32>();
        assert_eq!(count(puts), count(takes));
    }
}

#[task]
fn work_off(queue: &Queue<u32>, done: &Atomic<u32>) {
    for item in queue {
        item.unwrap();
        done.fetch_add(1, Relaxed);
        queue.task_done().unwrap();
    }
}

fn join_waits_for_all_to_be_done() {
    let pool = builder().processes(2).build().unwrap();
    let (queue, done) = (Queue::bounded(5).unwrap(), Atomic::new(0_u32).unwrap());
    queue.join().unwrap();
    let jobs = [(); 2].map(|()| pool.apply_async(work_off::call(&queue, &done)));
    for round in 1..=20 {
        (0..10).for_each(|item| queue.put(&item).unwrap());
        queue.join().unwrap();
        assert_eq!(done.load(Relaxed), 10 * round);
    }
    let error = queue.task_done().unwrap_err();
    assert!(error.to_string().contains("more often than items were taken"), "{error}");
    queue.close();
    jobs.into_iter().for_each(|job| job.get().unwrap());
    // One that another process has taken.
    let queue = Queue::unbounded().unwrap();
    queue.put(&1).unwrap();
    assert!(queue.join_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
    let waiting = Atomic::new(0_u32).unwrap();
    assert_eq!(pool.apply(wait_for_an_item::call(&queue, &waiting)).unwrap(), Some(1));
    queue.task_done().unwrap();
    queue.join().unwrap();
}

/// Items pass from hand to hand, and `join` never says that one was lost, nor that all are done when one is not.
fn join_is_right_while_others_say_that_they_are_done() {
    let pool = builder().processes(3).build().unwrap();
    let (queue, done) = (Queue::unbounded().unwrap(), Atomic::new(0_u32).unwrap());
    let jobs = [(); 3].map(|()| pool.apply_async(work_off::call(&queue, &done)));
    for round in 1..=1500 {
        queue.put(&round).unwrap();
        queue.join().unwrap();
        assert_eq!(done.load(Relaxed), round);
    }
    queue.close();
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

#[task]
fn take_and_die(queue: &Queue<u32>, items: u32) {
    (0..items).for_each(|_| assert!(queue.get().unwrap().is_some()));
    std::process::abort();
}

fn join_tells_what_was_lost() {
    let pool = builder().processes(1).build().unwrap();
    let queue = Queue::unbounded().unwrap();
    (0..5).for_each(|item| queue.put(&item).unwrap());
    let joins = {
        let queue = queue.clone();
        thread::spawn(move || queue.join())
    };
    assert!(pool.apply(take_and_die::call(&queue, 3)).unwrap_err().is_worker_lost());
    for item in 3..5 {
        assert_eq!(queue.get().unwrap(), Some(item));
        queue.task_done().unwrap();
    }
    let error = joins.join().unwrap().unwrap_err();
    assert_eq!(error.lost_items(), Some(3), "{error}");
    // They are told once.
    queue.join().unwrap();
    queue.put(&9).unwrap();
    assert_eq!(queue.get().unwrap(), Some(9));
    queue.task_done().unwrap();
    queue.join().unwrap();
}

#[task]
fn feed(queue: &Queue<(u64, Vec<u8>)>, from: u64, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    for item in from.. {
        queue.put(&(item, vec![item as u8; item as usize * 37 % 5000])).unwrap();
    }
}

#[task]
fn drain(queue: &Queue<(u64, Vec<u8>)>, taken: &Queue<u64>, started: &Atomic<u32>) {
    started.fetch_add(1, Release);
    while let Some((item, bytes)) = queue.get().unwrap() {
        assert!(bytes.len() == item as usize * 37 % 5000 && bytes.iter().all(|byte| *byte == item as u8));
        taken.put(&item).unwrap();
    }
}

fn whoever_is_killed_anywhere_leaves_the_others_working() {
    const STRIDE: u64 = 1 << 32;
    let mut numbers = Numbers::from(seed());
    for capacity in [3, 0] {
        let queue = if capacity > 0 { Queue::bounded(capacity) } else { Queue::unbounded() }.unwrap();
        let taken = Queue::<u64>::unbounded().unwrap();
        let started = Atomic::new(0_u32).unwrap();
        let pool = builder().processes(4).build().unwrap();
        let (mut kills, mut counts) = (0, Vec::new());
        let mut killed_at = 0;
        for round in 0..25 {
            let before = started.load(Acquire);
            let feeds: Vec<_> =
                (0..2).map(|one| pool.apply_async(feed::call(&queue, (2 * round + one) * STRIDE, &started))).collect();
            let drains: Vec<_> = (0..2).map(|_| pool.apply_async(drain::call(&queue, &taken, &started))).collect();
            until("all have begun", || started.load(Acquire) == before + 4);
            until("items pass", || counts_in(&taken, &mut counts) > killed_at + numbers.below(200));
            // Two of four at once, wherever they are; then the others: they go on in between.
            let pids = pids(&pool);
            signal(pids[0], 9);
            signal(pids[2], 9);
            killed_at = counts_in(&taken, &mut counts);
            if numbers.below(2) == 0 {
                // There may be no room, and nobody left who makes some.
                let _ = queue.try_put(&(0, Vec::new()));
            }
            kills += 4;
            // One whose worker was killed may just be ending.
            feeds.iter().chain(&drains).for_each(|job| until("it has ended", || job.cancel() || job.is_ready()));
            feeds.into_iter().chain(drains).for_each(|job| assert!(job.get().is_err()));
        }
        // What is left is whole, and nothing came twice.
        queue.close();
        let rest = returns("what is left", move || queue.iter().map(|item| item.unwrap().0).collect::<Vec<_>>());
        counts_in(&taken, &mut counts);
        let mut all: Vec<_> = counts.iter().copied().chain(rest).filter(|item| *item != 0).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "an item came twice");
        let most = all.chunk_by(|one, other| one / STRIDE == other / STRIDE).map(|items| {
            // Of those that one has put, in order and without gaps, each kill has lost one at most.
            (items[items.len() - 1] % STRIDE + 1) - items.len() as u64
        });
        assert!(most.sum::<u64>() <= kills + 1, "more is lost than was in the hands of the dead");
    }
}

fn seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into()
}

fn counts_in(taken: &Queue<u64>, counts: &mut Vec<u64>) -> usize {
    while !taken.is_empty() {
        counts.extend(taken.get().unwrap());
    }
    counts.len()
}

#[task]
fn send_back(there: &Queue<Vec<u8>>, back: &Queue<Vec<u8>>) {
    for item in there {
        back.put(&item.unwrap()).unwrap();
    }
}

fn items_of_every_length_arrive_whole() {
    let pool = builder().processes(1).build().unwrap();
    let (there, back) = (Queue::<Vec<u8>>::unbounded().unwrap(), Queue::unbounded().unwrap());
    let job = pool.apply_async(send_back::call(&there, &back));
    let window = 1 << 18;
    for length in [0, 1, 7, 8, 9, 4095, window - 17, window - 8, window, window + 1, 3 * window + 5, 16 << 20, 2] {
        let item: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        there.put(&item).unwrap();
        assert!(back.get().unwrap() == Some(item), "{length}");
    }
    there.close();
    job.get().unwrap();
}

#[derive(Serialize, Deserialize)]
struct Stage {
    name: String,
    from: Option<Queue<u32>>,
    to: Vec<Queue<u32>>,
}

#[task]
fn run_stage(stage: Stage) -> usize {
    for item in stage.from.iter().flatten() {
        stage.to[0].put(&(item.unwrap() * 2)).unwrap();
    }
    stage.name.len()
}

#[task]
fn start_stage(stage: Stage) -> usize {
    Process::new(run_stage::call(stage)).start().unwrap().join().unwrap()
}

static RESULTS: OnceLock<Queue<u32>> = OnceLock::new();

#[task(initializer)]
fn keep(results: Queue<u32>) {
    let _ = RESULTS.set(results);
}

#[task]
fn report(number: u32) {
    RESULTS.get().unwrap().put(&number).unwrap();
}

#[task]
fn double(number: u32) -> u32 {
    2 * number
}

fn a_queue_travels_as_values_do() {
    let pool = builder().processes(2).build().unwrap();
    // Through a child to its own child, inside of an argument.
    let (from, to) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    (0..20).for_each(|item| from.put(&item).unwrap());
    from.close();
    let stage = || Stage { name: "abc".into(), from: Some(from.clone()), to: vec![to.clone()] };
    assert_eq!(pool.apply(start_stage::call(stage())).unwrap(), 3);
    assert_eq!(Process::new(run_stage::call(stage())).start().unwrap().join().unwrap(), 3);
    to.close();
    // A map over what is in a queue.
    let items = to.iter().map(Result::unwrap);
    assert_eq!(pool.map(double::call, items).unwrap(), (0..20).map(|item| 4 * item).collect::<Vec<_>>());
    // To an initializer, and to threads.
    let results = Queue::unbounded().unwrap();
    let told = builder().processes(2).initializer(keep::call(results.clone())).build().unwrap();
    told.map(report::call, 0..50).unwrap();
    let threads = Pool::builder().processes(1).backend(Backend::Threads).build().unwrap();
    threads.apply(put_one::call(&results, 50)).unwrap().unwrap();
    let mut reported: Vec<u32> = (0..51).map(|_| results.try_get().unwrap().unwrap()).collect();
    reported.sort_unstable();
    assert_eq!(reported, (0..51).collect::<Vec<_>>());
    let back = pool.apply(give_back::call(results.clone())).unwrap();
    back.put(&7).unwrap();
    assert_eq!(results.try_get().unwrap(), Some(7));
    assert_eq!(format!("{results:?}"), "Queue { len: 0, capacity: None, is_closed: false }");
}

#[task]
fn give_back(queue: Queue<u32>) -> Queue<u32> {
    queue
}

fn a_sandbox_may_use_the_queue_that_it_was_given() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (asked, answered) = (Queue::bounded(2).unwrap(), Queue::unbounded().unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(echo::call(&asked, &answered)));
    (0..1000).for_each(|item| asked.put(&item).unwrap());
    let mut all: Vec<u32> = (0..1000).map(|_| answered.get().unwrap().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
    asked.close();
    jobs.into_iter().for_each(|job| job.get().unwrap());
    // What a confined process had in hand is seen to be lost.
    let queue = Queue::unbounded().unwrap();
    queue.put(&1).unwrap();
    assert!(pool.apply(take_and_die::call(&queue, 1)).unwrap_err().is_worker_lost());
    assert_eq!(queue.join().unwrap_err().lost_items(), Some(1));
}

fn the_last_holder_frees_it() {
    let pool = builder().processes(1).build().unwrap();
    let pid = pool.apply(own_pid::call()).unwrap();
    let before = (held_here(), held(pid));
    for _ in 0..5 {
        let queue = Queue::unbounded().unwrap();
        pool.apply(put_one::call(&queue, 3)).unwrap().unwrap();
        assert_eq!(queue.clone().get().unwrap(), Some(3));
    }
    until("it is freed everywhere", || (held_here(), held(pid)) == before);
}

#[task]
fn own_pid() -> u32 {
    std::process::id()
}
