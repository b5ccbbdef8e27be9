//! cargo run --example tour -- 4
//!
//! The programs of a tutorial of Python's `multiprocessing`, by number, or all of them.

mod pools;
mod processes;
mod work;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pool_runtime::pool_main;
use std::{process::Command, time::Instant};

/// Runs the programs of a tutorial of Python's `multiprocessing`.
#[derive(Parser)]
struct Args {
    /// Which programs, by number [default: all]
    numbers: Vec<usize>,
    /// How long one second of the tutorial takes, in seconds
    #[arg(long, default_value_t = 0.1, value_parser = scale)]
    scale: f64,
    /// Set for the programs that this one starts
    #[arg(long, hide = true)]
    alone: bool,
}

/// A program of the tutorial. It is told how long one second of the tutorial takes.
type Program = fn(f64) -> pool_runtime::Result<()>;

const PROGRAMS: [(&str, Program); 14] = [
    ("two processes at once: finish after 6 s", processes::at_once),
    ("one process after the other: finish after 10 s", processes::one_after_the_other),
    ("the second is never joined: finish after 4 s, and the program ends after 6 s", processes::not_joined),
    ("names, and a daemon that dies with the program", processes::daemons),
    ("a process without a target", processes::idle),
    ("a call as the body of a process: it has not run before the process does", processes::bodies),
    ("terminate, exit codes, pid, join with a timeout", processes::control),
    ("a pool of 3, apply_async: finish after 11 s", pools::apply_async),
    ("the same with apply: finish after 25 s", pools::apply),
    ("one pool, two functions, 10 jobs: finish after 19 s", pools::two_functions),
    ("a task without parameters", pools::no_parameters),
    ("no main guard: no worker ever reaches `run`", pools::no_guard),
    ("authkey: a process has that of the one that started it", processes::keys),
    ("threads share a pool, and processes a queue", pools::threads_and_queues),
];

pool_main!(run);

fn run() -> Result<()> {
    let args = Args::parse();
    if let (true, [number]) = (args.alone, args.numbers.as_slice()) {
        let begun = Instant::now();
        program(*number)?.1(args.scale)?;
        println!("finish {:.1}", begun.elapsed().as_secs_f64() / args.scale);
        return Ok(());
    }
    let numbers = if args.numbers.is_empty() { (1..=PROGRAMS.len()).collect() } else { args.numbers };
    println!("A second of the tutorial takes {} s; its seconds are printed.", args.scale);
    for number in numbers {
        println!("\n{number}. {}", program(number)?.0);
        // A program of its own each: some show what happens when `main` ends.
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        command.args(["--alone", "--scale", &args.scale.to_string(), &number.to_string()]);
        let begun = Instant::now();
        let status = command.status().with_context(|| format!("cannot start program {number}"))?;
        println!("end of the program {:.1}", begun.elapsed().as_secs_f64() / args.scale);
        ensure!(status.success(), "program {number} failed: {status}");
    }
    Ok(())
}

fn program(number: usize) -> Result<&'static (&'static str, Program)> {
    let program = number.checked_sub(1).and_then(|index| PROGRAMS.get(index));
    program.with_context(|| format!("there is no program {number}: they are 1 to {}", PROGRAMS.len()))
}

fn scale(text: &str) -> Result<f64> {
    let scale = text.parse()?;
    if (0.001..=10.0).contains(&scale) { Ok(scale) } else { bail!("it is between 0.001 and 10") }
}
