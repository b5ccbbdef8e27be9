//! Programs 1 to 7: processes.

use crate::work::{fun1, fun2, key, ping};
use pool_runtime::{Process, Result, current_process};
use std::time::Duration;

pub fn at_once(second: f64) -> Result<()> {
    let first = Process::new(fun1::call(4.0, second)).start()?;
    let other = Process::new(fun2::call(6.0, second)).start()?;
    first.join()?;
    other.join()
}

pub fn one_after_the_other(second: f64) -> Result<()> {
    Process::new(fun1::call(4.0, second)).start()?.join()?;
    Process::new(fun2::call(6.0, second)).start()?.join()
}

pub fn not_joined(second: f64) -> Result<()> {
    let first = Process::new(fun1::call(4.0, second)).start()?;
    Process::new(fun2::call(6.0, second)).start()?;
    first.join()
}

pub fn daemons(second: f64) -> Result<()> {
    let first = Process::new(fun1::call(4.0, second)).name("fun1").daemon(true).start()?;
    let other = Process::new(fun2::call(6.0, second)).name("fun2").daemon(true).start()?;
    first.join()?;
    println!("{first}\n{other}");
    println!("{}\n{}", first.is_alive(), other.is_alive());
    Ok(())
}

pub fn keys(_: f64) -> Result<()> {
    let of_child = Process::new(key::call()).start()?.join()?;
    println!("one key: {}", of_child == current_process().authkey()?.as_bytes());
    Ok(())
}

pub fn idle(_: f64) -> Result<()> {
    let process = Process::idle().start()?;
    process.join()?;
    println!("{process} exit code {:?}", process.exit_code());
    Ok(())
}

pub fn bodies(second: f64) -> Result<()> {
    let (without, with) = (ping::call(), fun1::call(1.0, second));
    println!("two calls, and nothing has run; this is process {}", std::process::id());
    println!("{}", Process::new(without).start()?.join()?);
    Process::new(with).start()?.join()?;
    println!("and with `run`, in this process:");
    println!("{}", Process::new(ping::call()).run()?);
    Ok(())
}

pub fn control(second: f64) -> Result<()> {
    let process = Process::new(fun1::call(60.0, second)).name("endless").start()?;
    println!("{process} pid {}, exit code {:?}", process.pid(), process.exit_code());
    let ended = process.join_timeout(Duration::from_secs_f64(second))?;
    println!("after a second: {}", if ended.is_some() { "it has ended" } else { "it still runs" });
    process.terminate()?;
    if let Err(error) = process.join() {
        println!("{process} exit code {:?}: {error}", process.exit_code());
    }
    let process = Process::new(fun2::call(1.0, second)).start()?;
    process.join()?;
    println!("{process} exit code {:?}", process.exit_code());
    Ok(())
}
