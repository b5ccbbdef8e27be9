//! cargo run --example chat -- --key-file /tmp/chat.key serve 127.0.0.1:6000
//! cargo run --example chat -- --key-file /tmp/chat.key join 127.0.0.1:6000 --name ada
//! cargo run --example chat -- --check
//!
//! A chat room: whoever has the key can join. `serve` makes the file with the key if there is none; who is to join
//! needs a copy. An address is `host:port`, or the path of a Unix socket. `--check` starts a room and two who talk in
//! it.

mod check;
mod member;
mod room;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use pool_runtime::connection::AuthKey;
use serde::{Deserialize, Serialize};
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Programs that know one key talk to each other.
#[derive(Parser)]
struct Args {
    /// The file with the key, for its owner alone
    #[arg(long, default_value = "chat.key")]
    key_file: PathBuf,
    /// Start a room and two who talk in it, and see that they understand each other
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Open a room
    Serve { address: String },
    /// Talk in a room: what is typed is sent
    Join {
        address: String,
        /// What the others see
        #[arg(long, default_value = "somebody")]
        name: String,
    },
}

/// What members and the room send each other.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Said {
    who: String,
    text: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.role {
        _ if args.check => check::run(),
        Some(Role::Serve { address }) => room::serve(&address, key(&args.key_file, true)?),
        Some(Role::Join { address, name }) => member::join(&address, key(&args.key_file, false)?, name),
        None => bail!("say `serve ADDRESS` or `join ADDRESS`; `--help` says more"),
    }
}

/// Reads the key. A key among the arguments could be read by everybody on this machine.
fn key(file: &Path, may_make: bool) -> Result<AuthKey> {
    if may_make && !file.exists() {
        make_key(file).with_context(|| format!("cannot make the key `{}`", file.display()))?;
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read the key in `{}`", file.display()))?;
    Ok(bytes.into())
}

/// Under another name first: who finds the file finds the whole key. If two make one, both have the one that was first.
fn make_key(file: &Path) -> Result<()> {
    let temporary = PathBuf::from(format!("{}.{}", file.display(), std::process::id()));
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    made.write_all(AuthKey::random()?.as_bytes())?;
    // As renaming, but a file that is there is not replaced.
    let named = std::fs::hard_link(&temporary, file);
    std::fs::remove_file(&temporary)?;
    Ok(named.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?)
}
