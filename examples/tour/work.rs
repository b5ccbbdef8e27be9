//! The tutorial's two functions, and what else its programs call.

use pool_runtime::{Queue, current_process, task};
use std::{thread::sleep, time::Duration};

#[task]
pub fn fun1(t: f64, second: f64) {
    println!("this is fun1, {t} s");
    sleep(Duration::from_secs_f64(t * second));
    println!("fun1 finish, {t} s");
}

#[task]
pub fn fun2(t: f64, second: f64) {
    println!("this is fun2, {t} s");
    sleep(Duration::from_secs_f64(t * second));
    println!("fun2 finish, {t} s");
}

#[task]
pub fn ping() -> String {
    format!("pong from process {}", std::process::id())
}

#[task]
pub fn key() -> Vec<u8> {
    current_process().authkey().expect("a key").as_bytes().to_vec()
}

/// Sleeps, and puts on a queue who has slept how long.
#[task]
pub fn tell(t: f64, second: f64, finished: &Queue<String>) {
    sleep(Duration::from_secs_f64(t * second));
    finished.put(format!("{t} s in process {}", std::process::id()).as_str()).expect("a queue");
}
