//! The room: what one member says, all hear.

use crate::Said;
use anyhow::Result;
use pool_runtime::connection::{AuthKey, Connection, Listener};
use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// How much a member may be behind before it is sent nothing more.
const BEHIND: usize = 1000;

type Members = Arc<Mutex<Vec<SyncSender<Said>>>>;

pub fn serve(address: &str, key: AuthKey) -> Result<()> {
    let listener = Listener::builder().authkey(key).bind(address)?;
    println!("listening on {}", listener.address());
    let members = Members::default();
    loop {
        match listener.accept() {
            Ok(connection) => {
                let members = members.clone();
                thread::spawn(move || welcome(&connection, &members));
            }
            // Neither one stranger nor too many connections end the room.
            Err(error) if error.is_authentication() || error.is_exhausted() => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hears one member, for as long as it stays. Another thread tells it what the others say: none of them waits for it.
fn welcome(connection: &Connection, members: &Members) {
    let (sender, receiver) = sync_channel(BEHIND);
    members.lock().expect("no panic").push(sender);
    thread::scope(|scope| {
        scope.spawn(|| tell(connection, receiver));
        loop {
            match connection.recv::<Said>() {
                Ok(Some(said)) => spread(&said, members),
                Ok(None) => break,
                Err(error) => {
                    eprintln!("{error}");
                    break;
                }
            }
        }
        connection.close();
        // Wakes the other thread, which finds the connection closed.
        spread(&Said { who: "the room".into(), text: "somebody has left".into() }, members);
    });
}

fn tell(connection: &Connection, receiver: Receiver<Said>) {
    for said in receiver {
        if connection.send(&said).is_err() {
            return;
        }
    }
}

/// To all; who is gone, or far behind, is no member any more.
fn spread(said: &Said, members: &Members) {
    members.lock().expect("no panic").retain(|member| member.try_send(said.clone()).is_ok());
}
