//! What a call costs over ipc-channel, beside a bare ipc-channel ping-pong in the same run.
//!
//! `cargo bench -p pool-runtime --bench channel` prints the table, `-- --quick` a rougher one, `-- --json` one JSON
//! object per row.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
use pool_runtime::{Pool, Process, Result, Transport, pool_main, task};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use std::time::{Duration, Instant};

#[task]
fn add_one(n: u64) -> u64 {
    n + 1
}

/// The other side of the bare ping-pong: sends back what it gets, until there is nothing to get.
#[task]
fn echo(server: &str) {
    let (to_us, from_us): (IpcBytesSender, IpcBytesReceiver) = ipc::bytes_channel().expect("a channel");
    let (to_parent, at_parent): (IpcBytesSender, IpcBytesReceiver) = ipc::bytes_channel().expect("a channel");
    let hand_over = IpcSender::connect(server.to_owned()).expect("the server");
    hand_over.send((to_us, at_parent)).expect("the parent");
    while let Ok(message) = from_us.recv() {
        if to_parent.send(&message).is_err() {
            break;
        }
    }
}

struct Options {
    quick: bool,
    json: bool,
}

pool_main!(run);

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo test --benches` runs this too, without `--bench`: once through, to see that it works.
    let options = Options { quick: has("--quick") || !has("--bench"), json: has("--json") };
    if !options.json {
        println!("{:<34} {:>12} {:>12} {:>8}", "measure", "ours", "bare", "ratio");
    }
    round_trip(&options)?;
    burst(&options)?;
    start(&options)
}

fn over_channels(processes: usize) -> Result<Pool> {
    Pool::builder().processes(processes).transport(Transport::Channel).build()
}

fn row(options: &Options, measure: &str, unit: &str, ours: f64, bare: Option<f64>) {
    if options.json {
        let bare = bare.map_or("{}".into(), |bare| format!("{{\"ipc-channel\": {bare:.3}}}"));
        println!(r#"{{"measure": "{measure}", "unit": "{unit}", "ours": {ours:.3}, "peers": {bare}, "limit": null}}"#);
    } else {
        let figure = |value: f64| format!("{value:.1} {unit}");
        let ratio = bare.map_or_else(String::new, |bare| format!("{:.2}", ours / bare));
        println!("{measure:<34} {:>12} {:>12} {ratio:>8}", figure(ours), bare.map_or_else(String::new, figure));
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Both are measured in turns, so that what else the machine does hits both; and on the same processors. Where the
/// scheduler puts the two sides decides the most: to wake a processor that sleeps takes far longer than to change from
/// one process to another, and left alone, one pair may be put on one processor and the other pair on two.
fn round_trip(options: &Options) -> Result<()> {
    let (server, name) = IpcOneShotServer::<(IpcBytesSender, IpcBytesReceiver)>::new().expect("a server");
    let process = Process::new(echo::call(&name)).start()?;
    let (_, (sender, receiver)) = server.accept().expect("the process");
    let pool = over_channels(1)?;
    pool.apply(add_one::call(1))?;
    let others = [pool.workers()[0].pid, process.pid()];

    let all = sched_getaffinity(None).expect("an affinity");
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    for (measure, theirs) in [("round trip, on one processor", 0), ("round trip, on two processors", 1)] {
        let Some(theirs) = usable.get(theirs) else { continue };
        pin(None, usable[0]);
        others.iter().for_each(|pid| pin(Pid::from_raw(*pid as i32), *theirs));
        let (rounds, calls) = if options.quick { (10, 100) } else { (50, 1000) };
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for _ in 0..calls {
                let begun = Instant::now();
                pool.apply(add_one::call(1))?;
                ours.push(begun.elapsed());
            }
            for _ in 0..calls {
                let begun = Instant::now();
                sender.send(&1u64.to_le_bytes()).expect("the process");
                receiver.recv().expect("the process");
                bare.push(begun.elapsed());
            }
        }
        row(options, measure, "µs", median(ours), Some(median(bare)));
    }
    sched_setaffinity(None, &all).expect("the affinity as it was");
    drop(sender);
    process.join()
}

/// Binds the main thread of a process, or this thread, to one processor.
fn pin(pid: Option<Pid>, cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(pid, &one).expect("a processor that may be used");
}

fn burst(options: &Options) -> Result<()> {
    let calls = if options.quick { 10_000 } else { 100_000 };
    let pool = over_channels(2)?;
    pool.map(add_one::call, 0..100)?;
    let begun = Instant::now();
    let jobs: Vec<_> = (0..calls).map(|n| pool.apply_async(add_one::call(n))).collect();
    let submitted = begun.elapsed();
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.get()?, n as u64 + 1);
    }
    let rate = |time: Duration| calls as f64 / time.as_secs_f64() / 1e3;
    row(options, "burst of apply_async, all results", "k/s", rate(begun.elapsed()), None);
    row(options, "burst of apply_async, submission", "k/s", rate(submitted), None);
    let begun = Instant::now();
    pool.map(add_one::call, 0..calls)?;
    row(options, "map of a trivial function", "k/s", rate(begun.elapsed()), None);
    Ok(())
}

fn start(options: &Options) -> Result<()> {
    let times = (0..if options.quick { 5 } else { 50 }).map(|_| {
        let begun = Instant::now();
        let pool = over_channels(2)?;
        pool.apply(add_one::call(1))?;
        let time = begun.elapsed();
        drop(pool);
        Ok(time)
    });
    row(options, "Pool::new(2) and the first result", "µs", median(times.collect::<Result<_>>()?), None);
    Ok(())
}
