//! Starts a room and its members as programs of their own, and sees that they understand each other.

use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// One of them. It is killed if it has not ended at the end.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(key_file: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // What is refused is an error by design here.
        command
            .env_remove("RUST_BACKTRACE")
            .arg("--key-file")
            .arg(key_file)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.lines.read_line(&mut line)? > 0, "it has ended");
        Ok(line.trim_end().to_owned())
    }

    /// Reads lines until this one comes.
    fn hears(&mut self, wanted: &str) -> Result<()> {
        while self.line()? != wanted {}
        Ok(())
    }

    fn says(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.child.stdin.as_mut().context("a pipe")?, "{text}")?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (key, other_key) = (directory.path().join("key"), directory.path().join("other key"));
    std::fs::write(&other_key, "another key")?;
    let socket = directory.path().join("socket").display().to_string();
    for address in ["127.0.0.1:0", &socket] {
        let mut room = Running::start(&key, &["serve", address])?;
        let line = room.line()?;
        let address = line.strip_prefix("listening on ").context("an address")?.trim_matches('`').to_owned();
        let join = |key, name| Running::start(key, &["join", &address, "--name", name]);
        let mut ada = join(&key, "ada")?;
        ada.hears("ada: has joined")?;
        let mut stranger = join(&other_key, "eve")?;
        ensure!(stranger.line().is_err() && !stranger.child.wait()?.success(), "a stranger was let in");
        let mut bob = join(&key, "bob")?;
        bob.hears("bob: has joined")?;
        ada.says("hello")?;
        bob.hears("ada: hello")?;
        bob.says("hello, ada")?;
        ada.hears("bob: hello, ada")?;
        drop(bob.child.stdin.take());
        ada.hears("the room: somebody has left")?;
        ensure!(bob.child.wait()?.success(), "it failed");
        println!("a room at {address}: understood");
    }
    Ok(())
}
