//! cargo run --release --example pipeline
//!
//! Three stages of processes, joined by queues: one makes numbers, some factor them, one collects. The queues are bounded,
//! so that the fast first stage waits for the slow second one: how full they are is printed meanwhile.

use anyhow::{Result, ensure};
use clap::Parser;
use pool_runtime::{Process, Queue, RunningProcess, cpu_count, pool_main, task};
use std::time::Duration;

/// Factors numbers in three stages of processes.
#[derive(Parser)]
struct Args {
    /// How many numbers are factored
    #[arg(long, default_value_t = 20_000)]
    numbers: u64,
    /// How many items have room in each queue
    #[arg(long, default_value_t = 100)]
    capacity: usize,
    /// How many processes factor
    #[arg(long, default_value_t = cpu_count())]
    workers: usize,
}

/// A number, and its prime factors in order.
type Factored = (u64, Vec<u64>);

/// The first stage: odd numbers that have large factors.
#[task]
fn make(count: u64, numbers: &Queue<u64>) -> pool_runtime::Result<()> {
    let mut all = (1..=count).map(|number| 1_000_000_000 + 2 * number + 1);
    all.try_for_each(|number| numbers.put(&number))?;
    // Whoever takes from it comes to an end after the last one.
    numbers.close();
    Ok(())
}

/// The second stage, of several processes at once.
#[task]
fn factor(numbers: &Queue<u64>, factored: &Queue<Factored>) -> pool_runtime::Result<u64> {
    let mut count = 0;
    for number in numbers {
        let number = number?;
        factored.put(&(number, factors(number)))?;
        count += 1;
    }
    Ok(count)
}

/// The last stage: how many numbers came, and the greatest of those that are prime.
#[task]
fn collect(factored: &Queue<Factored>) -> pool_runtime::Result<(u64, u64)> {
    let (mut count, mut greatest) = (0, 0);
    for item in factored {
        let (number, factors) = item?;
        assert_eq!(factors.iter().product::<u64>(), number);
        count += 1;
        greatest = if factors.len() == 1 { number.max(greatest) } else { greatest };
    }
    Ok((count, greatest))
}

fn factors(mut number: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            found.push(divisor);
            number /= divisor;
        } else {
            divisor += 1;
        }
    }
    found.extend((number > 1).then_some(number));
    found
}

pool_main!(run);

fn run() -> Result<()> {
    let args = Args::parse();
    let (numbers, factored) = (Queue::bounded(args.capacity)?, Queue::bounded(args.capacity)?);
    let maker = Process::new(make::call(args.numbers, &numbers)).name("make").start()?;
    let start = |_| Process::new(factor::call(&numbers, &factored)).name("factor").start();
    let workers: Vec<RunningProcess<_>> = (0..args.workers).map(start).collect::<Result<_, _>>()?;
    let collector = Process::new(collect::call(&factored)).name("collect").start()?;

    while collector.is_alive() {
        println!("{:4} numbers wait to be factored, {:4} to be collected", numbers.len(), factored.len());
        if workers.iter().all(|worker| !worker.is_alive()) {
            factored.close();
        }
        collector.join_timeout(Duration::from_millis(50)).ok();
    }
    maker.join()??;
    for worker in workers {
        println!("one process factored {} numbers", worker.join()??);
    }
    let (count, greatest) = collector.join()??;
    println!("{count} numbers, the greatest prime is {greatest}");
    ensure!(count == args.numbers, "{} numbers were lost", args.numbers - count);
    Ok(())
}
