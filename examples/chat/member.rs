//! A member: sends the lines of standard input, and prints what is said.

use crate::Said;
use anyhow::Result;
use pool_runtime::connection::{AuthKey, Client};
use std::{sync::Arc, thread};

pub fn join(address: &str, key: AuthKey, name: String) -> Result<()> {
    let connection = Arc::new(Client::builder().authkey(key).connect(address)?);
    connection.send(&Said { who: name.clone(), text: "has joined".into() })?;
    let sender = connection.clone();
    // It may still wait for a line when the room has closed.
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(&Said { who: name.clone(), text: line }).is_err() {
                break;
            }
        }
        sender.close();
    });
    while let Some(Said { who, text }) = connection.recv::<Said>()? {
        println!("{}: {}", who.escape_debug(), text.escape_debug());
    }
    Ok(())
}
