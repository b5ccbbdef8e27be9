//! What processes share: queues, locks, values.

use crate::{
    Result, Setting,
    contest::Contest,
    latency::{add_python, timed},
    peers::python::MULTIPROCESSING,
    table::{Bound, OURS, Row, absolute, at_least, at_most},
};
use pool_runtime::{Atomic, Dict, Manager, Pipe, Pool, Queue, Value, pipe, sync::Mutex, task};
use std::{hint::black_box, sync::atomic::Ordering, time::Duration};

/// Waits until all are there, so that nobody's start is measured.
#[task]
fn produce(queue: &Queue<u64>, count: u64, start: &Queue<()>) {
    start.get().expect("a queue");
    (0..count).for_each(|item| queue.put(&item).expect("a queue"));
}

#[task]
fn consume(queue: &Queue<u64>, taken: &Queue<u64>) {
    let mut count = 0;
    while queue.get().expect("a queue").is_some() {
        count += 1;
    }
    taken.put(&count).expect("a queue");
}

/// So many items through one queue, from so many processes to so many.
fn pass(pool: &Pool, items: u64, from: u64, to: u64) -> Result<Duration> {
    let (queue, start, taken) = (Queue::unbounded()?, Queue::unbounded()?, Queue::unbounded()?);
    let consumers: Vec<_> = (0..to).map(|_| pool.apply_async(consume::call(&queue, &taken))).collect();
    let share = |producer| items / from + u64::from(producer < items % from);
    let producers: Vec<_> =
        (0..from).map(|producer| pool.apply_async(produce::call(&queue, share(producer), &start))).collect();
    while !consumers.iter().all(|job| job.is_running()) || !producers.iter().all(|job| job.is_running()) {
        std::thread::yield_now();
    }
    timed(|| {
        (0..from).try_for_each(|_| start.put(&()))?;
        producers.into_iter().try_for_each(|job| job.get())?;
        queue.close();
        let passed: u64 = (0..to).map(|_| taken.get().map(Option::unwrap_or_default)).sum::<Result<_, _>>()?;
        assert_eq!(passed, items);
        consumers.into_iter().try_for_each(|job| job.get())?;
        Ok(())
    })
}

fn queue_of(setting: &Setting, from: u64, to: u64) -> Result<Row> {
    let pool = Pool::new((from + to) as usize)?;
    let mut contest = Contest::new(setting.pick(150, 500), setting.pick(2.0, 10.0));
    contest.add(OURS, |items| pass(&pool, items, from, to));
    add_python(&mut contest, &[MULTIPROCESSING], "queue", from << 8 | to)?;
    let row = Row::of_contest("k/s", &contest.run()?, None, |seconds| 1e-3 / seconds);
    Ok(row.target([at_least(5.0, MULTIPROCESSING)]).target([absolute(Bound::AtLeast, 2000.0)]))
}

pub fn queue_one_to_one(setting: &Setting) -> Result<Row> {
    queue_of(setting, 1, 1)
}

pub fn queue_four_to_one(setting: &Setting) -> Result<Row> {
    queue_of(setting, 4, 1)
}

pub fn queue_one_to_four(setting: &Setting) -> Result<Row> {
    queue_of(setting, 1, 4)
}

pub fn queue_four_to_four(setting: &Setting) -> Result<Row> {
    queue_of(setting, 4, 4)
}

#[task]
fn echo(asked: &Queue<u64>, answered: &Queue<u64>) {
    while let Some(item) = asked.get().expect("a queue") {
        answered.put(&item).expect("a queue");
    }
}

/// An item there and back, over two queues.
pub fn queue_round_trip(setting: &Setting) -> Result<Row> {
    let pool = Pool::new(1)?;
    let (asked, answered) = (Queue::unbounded()?, Queue::unbounded()?);
    let job = pool.apply_async(echo::call(&asked, &answered));
    let mut contest = Contest::new(setting.pick(30, 100), setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            for item in 0..times {
                asked.put(&item)?;
                assert_eq!(answered.get()?, Some(item));
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "queue_round_trip", 0)?;
    let row = Row::of_contest("µs", &contest.run()?, None, |seconds| seconds * 1e6);
    asked.close();
    job.get()?;
    Ok(row.target([at_most(0.1, MULTIPROCESSING)]))
}

#[task]
fn send_back(pipe: Pipe<u64, u64>) {
    for message in &pipe {
        pipe.send(&message.expect("a pipe")).expect("a pipe");
    }
}

/// A message there and back, through one pipe.
pub fn pipe_round_trip(setting: &Setting) -> Result<Row> {
    let pool = Pool::new(1)?;
    let (here, there) = pipe()?;
    let job = pool.apply_async(send_back::call(there));
    let mut contest = Contest::new(setting.pick(30, 100), setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            for message in 0..times {
                here.send(&message)?;
                assert_eq!(here.recv()?, Some(message));
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "pipe_round_trip", 0)?;
    let row = Row::of_contest("µs", &contest.run()?, None, |seconds| seconds * 1e6);
    drop(here);
    job.get()?;
    Ok(row.target([at_most(0.2, MULTIPROCESSING)]))
}

const MESSAGE: usize = 16 << 20;

/// Answers each message with its length.
#[task]
fn measure(pipe: Pipe<u64, Vec<u8>>) {
    for message in &pipe {
        pipe.send(&(message.expect("a pipe").len() as u64)).expect("a pipe");
    }
}

/// Large messages, one way.
pub fn pipe_bandwidth(setting: &Setting) -> Result<Row> {
    let pool = Pool::new(1)?;
    let (here, there) = pipe::<Vec<u8>, u64>()?;
    let (job, message) = (pool.apply_async(measure::call(there)), vec![7; MESSAGE]);
    let mut contest = Contest::new(2, setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            for _ in 0..times {
                here.send(&message)?;
                assert_eq!(here.recv()?, Some(MESSAGE as u64));
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "pipe_bandwidth", MESSAGE as u64)?;
    let row = Row::of_contest("GB/s", &contest.run()?, None, |seconds| MESSAGE as f64 / seconds / 1e9);
    drop(here);
    job.get()?;
    Ok(row.target([at_least(1.0, MULTIPROCESSING)]))
}

/// Nobody else wants it.
pub fn lock(setting: &Setting) -> Result<Row> {
    let lock = Mutex::new(())?;
    let mut contest = Contest::new(setting.pick(20, 100), setting.pick(0.5, 3.0));
    contest.add(OURS, |times| {
        timed(|| {
            for _ in 0..times {
                drop(black_box(lock.lock().map_err(pool_runtime::Error::from)?));
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "lock", 0)?;
    let row = Row::of_contest("ns", &contest.run()?, None, |seconds| seconds * 1e9);
    Ok(row.target([absolute(Bound::AtMost, 30.0)]))
}

#[task]
fn lock_often(lock: &Mutex<u64>, times: u64) {
    (0..times).for_each(|_| *lock.lock().expect("a lock") += 1);
}

/// Two processes at once, the program being one of them.
pub fn contended_lock(setting: &Setting) -> Result<Row> {
    let (pool, lock) = (Pool::new(1)?, Mutex::new(0)?);
    let mut contest = Contest::new(setting.pick(50, 200), setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            let job = pool.apply_async(lock_often::call(&lock, times / 2));
            lock_often(&lock, times.div_ceil(2));
            Ok(job.get()?)
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "contended_lock", 0)?;
    let row = Row::of_contest("M/s", &contest.run()?, None, |seconds| 1e-6 / seconds);
    Ok(row.target([at_least(1.0, MULTIPROCESSING)]))
}

/// A value is put into a dictionary in a process of its own.
pub fn manager(setting: &Setting) -> Result<Row> {
    let manager = Manager::start()?;
    let dict = Dict::new(&manager)?;
    let mut contest = Contest::new(setting.pick(20, 100), setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            for value in 0..times {
                dict.insert(&7, &value)?;
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "manager", 0)?;
    let row = Row::of_contest("µs", &contest.run()?, None, |seconds| seconds * 1e6);
    Ok(row.target([at_most(0.3, MULTIPROCESSING)]))
}

#[task]
fn increment(value: &Value<u64>, times: u64) {
    (0..times).for_each(|_| value.update(|value| *value += 1));
}

#[task]
fn increment_atomic(value: &Atomic<u64>, times: u64) {
    for _ in 0..times {
        black_box(value.fetch_add(1, Ordering::Relaxed));
    }
}

/// Two processes at once, the program being one of them.
pub fn value(setting: &Setting) -> Result<Row> {
    let (pool, value) = (Pool::new(1)?, Value::new(0_u64)?);
    let mut contest = Contest::new(setting.pick(50, 200), setting.pick(1.0, 5.0));
    contest.add(OURS, |times| {
        timed(|| {
            let job = pool.apply_async(increment::call(&value, times / 2));
            (0..times.div_ceil(2)).for_each(|_| value.update(|value| *value += 1));
            Ok(job.get()?)
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING], "value", 0)?;
    let row = Row::of_contest("M/s", &contest.run()?, None, |seconds| 1e-6 / seconds);
    Ok(row.target([absolute(Bound::AtLeast, 5.0)]))
}

pub fn atomic(setting: &Setting) -> Result<Row> {
    let (pool, value) = (Pool::new(1)?, Atomic::new(0_u64)?);
    let mut contest = Contest::new(setting.pick(50, 200), setting.pick(0.5, 3.0));
    contest.add(OURS, |times| {
        timed(|| {
            let job = pool.apply_async(increment_atomic::call(&value, times / 2));
            for _ in 0..times.div_ceil(2) {
                black_box(value.fetch_add(1, Ordering::Relaxed));
            }
            Ok(job.get()?)
        })
    });
    let row = Row::of_contest("M/s", &contest.run()?, None, |seconds| 1e-6 / seconds);
    Ok(row.target([absolute(Bound::AtLeast, 20.0)]))
}
