//! The objects of a server, by number, and the names under which some are published: the one place that decides how long
//! an object lives.
//!
//! For now, that is until the server ends.

use super::method::AnyObject;
use crate::locks::lock;
use crate::panic;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// An object, and the name of its type.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) kind: &'static str,
    pub(super) object: Arc<AnyObject>,
}

#[derive(Default)]
pub(super) struct Shelf(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    objects: HashMap<u64, Stored>,
    published: HashMap<String, u64>,
    latest: u64,
}

impl Shelf {
    /// Returns the number of the object, which no other one had or will have.
    pub(super) fn put(&self, kind: &'static str, object: Box<AnyObject>) -> u64 {
        let mut contents = lock(&self.0);
        contents.latest += 1;
        let number = contents.latest;
        contents.objects.insert(number, Stored { kind, object: object.into() });
        number
    }

    pub(super) fn find(&self, number: u64) -> Option<Stored> {
        lock(&self.0).objects.get(&number).cloned()
    }

    /// Names an object; whatever had the name has it no more. False: there is no such object.
    pub(super) fn publish(&self, name: &str, number: u64) -> bool {
        let mut contents = lock(&self.0);
        let is_there = contents.objects.contains_key(&number);
        if is_there {
            contents.published.insert(name.to_owned(), number);
        }
        is_there
    }

    pub(super) fn published(&self, name: &str) -> Option<(u64, Stored)> {
        let contents = lock(&self.0);
        let number = *contents.published.get(name)?;
        Some((number, contents.objects.get(&number)?.clone()))
    }

    /// Drops all objects: what they close or write then belongs to an orderly end.
    pub(super) fn clear(&self) {
        let objects = std::mem::take(&mut lock(&self.0).objects);
        objects.into_values().for_each(panic::drop_quietly);
    }
}
