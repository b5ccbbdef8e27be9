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

/// How many there may be: each has two threads here.
const MOST_MEMBERS: usize = 100;

/// The longest message, in bytes: of each, up to [`BEHIND`] wait.
const LONGEST: u64 = 64 << 10;

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
    connection.set_max_message(LONGEST);
    let (sender, receiver) = sync_channel(BEHIND);
    let has_place = {
        let mut members = members.lock().expect("no panic");
        let has_place = members.len() < MOST_MEMBERS;
        if has_place {
            members.push(sender);
        }
        has_place
    };
    if !has_place {
        let _ = connection.send(&Said { who: "the room".into(), text: "there is no place left".into() });
        return;
    }
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
