//! A program that gets the way in for workers wrong: `misused_entry <how> … <file for marks>`.
//!
//! Each process leaves a mark at the start of `main`, and another one if it gets to where only the program should be.

use pool_runtime::{Pool, Process, Sandbox, enter, task};
use std::{io::Write, time::Duration};

#[task]
fn twice(number: u64) -> u64 {
    2 * number
}

/// Another signature under the name of a task of another program.
#[task(name = "scenario::twice")]
fn twice_otherwise(number: u32) -> u32 {
    2 * number
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (how, marks) = (args[1].as_str(), args[args.len() - 1].as_str());
    let mark = |text: &str| {
        let mut file = std::fs::File::options().create(true).append(true).open(marks).expect("a file");
        writeln!(file, "{text}").expect("a file that takes a line");
    };
    let is_first = !std::path::Path::new(marks).exists();
    mark("start");
    if !is_first {
        match how {
            "panics-before" => panic!("code before the entry panics"),
            "exits-before" => std::process::exit(3),
            "exits-well-before" => std::process::exit(0),
            "aborts-before" => std::process::abort(),
            "threads-before" | "threads-before-offline" => {
                std::thread::Builder::new()
                    .name("telemetry".into())
                    .spawn(std::thread::park)
                    .map(drop)
                    .expect("a thread");
            }
            "hangs-before" => loop {
                std::thread::park();
            },
            _ => {}
        }
    }
    if how != "missing" && how != "pool-before" {
        enter();
    }
    mark("program");
    if how == "process" {
        match Process::new(twice::call(21)).start().and_then(|process| process.join()) {
            Ok(doubled) => println!("{doubled}"),
            Err(error) => println!("error: {error}"),
        }
        return;
    }
    let patience = if how == "hangs-before" { Duration::from_millis(100) } else { Duration::from_secs(60) };
    let builder = || match how {
        "threads-before" => Pool::builder().sandbox(Sandbox::strict()),
        "threads-before-offline" => Pool::builder().sandbox(Sandbox::none().network(false)),
        _ => Pool::builder(),
    };
    let run = || builder().processes(1).start_timeout(patience).build()?.apply(twice::call(21));
    match run() {
        Ok(doubled) => println!("{doubled}"),
        Err(error) => println!("error: {error}"),
    }
    if how == "hangs-before" {
        // A process of its own has a minute to start.
        return;
    }
    match Process::idle().start() {
        Ok(process) => match process.join() {
            Ok(()) => println!("process: done"),
            Err(error) => println!("process: {error}"),
        },
        Err(error) => println!("process: {error}"),
    }
    if how == "pool-before" {
        enter();
        println!("{}", run().expect("now there is a way in"));
    }
}
