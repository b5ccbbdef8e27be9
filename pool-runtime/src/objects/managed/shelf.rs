//! The objects of a server, by number, and the names under which some are published: the one place that decides how long
//! an object lives.
//!
//! An object that was made by a client of this program lives as long as somebody has a proxy of it. Each proxy holds one
//! end of a pair of sockets, which travels with it, and the server the other one: the kernel tells when nobody is left,
//! however the last one went. All others live until the server ends: those that were published, and those of clients that
//! have reached the server by its address.

use super::method::AnyObject;
use crate::locks::lock;
use crate::memory::region::{Region, register};
use crate::os::{self, Handle, Memory, Outgoing, passing};
use crate::panic;
use crate::targets::MANAGER;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long nobody is looked for after the system has refused to wait.
const REST: Duration = Duration::from_millis(100);

/// An object, and the name of its type.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) kind: &'static str,
    pub(super) object: Arc<AnyObject>,
    /// It is hung up when no proxy is left. None: it lives until the server ends.
    life: Option<Arc<Handle>>,
}

pub(super) struct Shelf {
    contents: Mutex<Contents>,
    /// What is sent into the one wakes who [tends](Shelf::tend) the objects, at the other.
    changed: (Handle, Handle),
}

#[derive(Default)]
struct Contents {
    objects: HashMap<u64, Stored>,
    published: HashMap<String, u64>,
    latest: u64,
}

impl Shelf {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { contents: Mutex::default(), changed: passing::pair()? })
    }

    /// Returns the number of the object, which no other one had or will have. If it is to live as long as its proxies,
    /// what they hold too.
    pub(super) fn put(
        &self,
        kind: &'static str,
        object: Box<AnyObject>,
        until_unused: bool,
    ) -> io::Result<(u64, Option<Arc<Region>>)> {
        let (life, theirs) = match until_unused {
            true => {
                let (here, there) = passing::pair()?;
                (Some(Arc::new(here)), Some(register(Memory::file(there)?)))
            }
            false => (None, None),
        };
        let mut contents = lock(&self.contents);
        contents.latest += 1;
        let number = contents.latest;
        contents.objects.insert(number, Stored { kind, object: object.into(), life });
        drop(contents);
        if until_unused {
            // If there is no room, there are enough of them.
            let _ = passing::send(&self.changed.0, &Outgoing::Nudge);
        }
        Ok((number, theirs))
    }

    /// Drops objects of which no proxy is left, for ever.
    pub(super) fn tend(&self) {
        loop {
            let lives: Vec<_> = {
                let contents = lock(&self.contents);
                let life = |(number, stored): (&u64, &Stored)| Some((*number, stored.life.clone()?));
                contents.objects.iter().filter_map(life).collect()
            };
            let handles = std::iter::once(&self.changed.1).chain(lives.iter().map(|(_, life)| &**life));
            let ready = match os::wait_any(handles.map(os::borrow), None) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(target: MANAGER, "a manager cannot find out which of its objects are unused: {error}");
                    std::thread::sleep(REST);
                    continue;
                }
            };
            while let Ok(Some(_)) = passing::try_receive(&self.changed.1) {}
            for ((number, life), _) in lives.into_iter().zip(ready.into_iter().skip(1)).filter(|(_, ready)| *ready) {
                let mut contents = lock(&self.contents);
                // It may have been published meanwhile.
                let is_unused =
                    |stored: &Stored| stored.life.as_ref().is_some_and(|current| Arc::ptr_eq(current, &life));
                let unused = contents.objects.get(&number).is_some_and(is_unused);
                let unused = if unused { contents.objects.remove(&number) } else { None };
                drop(contents);
                panic::drop_quietly(unused);
            }
        }
    }

    pub(super) fn find(&self, number: u64) -> Option<Stored> {
        lock(&self.contents).objects.get(&number).cloned()
    }

    /// Names an object; whatever had the name has it no more. False: there is no such object.
    pub(super) fn publish(&self, name: &str, number: u64) -> bool {
        let mut contents = lock(&self.contents);
        let Some(stored) = contents.objects.get_mut(&number) else { return false };
        stored.life = None;
        contents.published.insert(name.to_owned(), number);
        true
    }

    pub(super) fn published(&self, name: &str) -> Option<(u64, Stored)> {
        let contents = lock(&self.contents);
        let number = *contents.published.get(name)?;
        Some((number, contents.objects.get(&number)?.clone()))
    }

    /// Drops all objects, in the order in which they were made: what they close or write then belongs to an orderly
    /// end.
    pub(super) fn clear(&self) {
        let mut contents = lock(&self.contents);
        contents.published.clear();
        let mut objects: Vec<_> = std::mem::take(&mut contents.objects).into_iter().collect();
        drop(contents);
        objects.sort_unstable_by_key(|(number, _)| *number);
        objects.into_iter().for_each(|(_, stored)| panic::drop_quietly(stored));
    }
}
