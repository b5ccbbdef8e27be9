//! [`Passed`]: open files, sockets and pipes, which other processes get as their own.

use crate::error::{Error, Result};
use crate::memory::referred::{found, take_file};
use crate::memory::region::{Region, register};
use crate::objects::reference::out_of_place;
use crate::os::{Handle, HandleRef, Memory};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// An open file, a socket or an end of a pipe on its way to another process.
///
/// It is an argument like any other, a result, or an item of a queue. Who gets it takes out a file of its own, which refers
/// to the same open file: both have one position in it, and one of them may close its own. It has the rights with which it
/// was opened, whatever the process that gets it may open itself: give a [`Sandbox`](crate::Sandbox) what it may use, and
/// no directories.
///
/// ```no_run
/// use pool_runtime::{Passed, Pool, Result, pool_main, task};
/// use std::fs::File;
/// use std::io::Read;
///
/// #[task]
/// fn count_lines(text: Passed<File>) -> usize {
///     let mut lines = String::new();
///     text.into_inner().unwrap().read_to_string(&mut lines).unwrap();
///     lines.lines().count()
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let pool = Pool::new(1)?;
///     let file = File::open("Cargo.toml").expect("a file");
///     println!("{} lines", pool.apply(count_lines::call(Passed::new(file)?))?);
///     Ok(())
/// }
/// ```
///
/// The file stays open as long as a call that was submitted with it may still run, so whoever waits for the end of a pipe
/// gets it when that call has ended, at the earliest.
pub struct Passed<T> {
    region: Arc<Region>,
    file: PhantomData<fn(T) -> T>,
}

impl<T: Into<Handle> + From<Handle>> Passed<T> {
    /// Makes it ready to be passed.
    ///
    /// # Errors
    ///
    /// This system passes no open files.
    pub fn new(file: T) -> Result<Self> {
        let memory = Memory::file(file.into()).map_err(|error| Error::os("cannot pass an open file", error))?;
        Ok(Self { region: register(memory), file: PhantomData })
    }

    /// The file itself.
    ///
    /// # Errors
    ///
    /// The process has too many open files.
    pub fn into_inner(self) -> Result<T> {
        let own = self.region.memory().duplicate();
        own.map(T::from).map_err(|error| Error::os("cannot take a file that was passed", error))
    }
}

impl<T> Passed<T> {
    pub(crate) fn poll_handle(&self) -> HandleRef<'_> {
        self.region.memory().handle()
    }
}

/// Refers to the same open file.
impl<T> Clone for Passed<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), file: PhantomData }
    }
}

impl<T> fmt::Debug for Passed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed").field("handle", &self.region.memory().handle()).finish()
    }
}

/// Only where handles travel: writes which file it is.
impl<T> Serialize for Passed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !found(&self.region) {
            return Err(out_of_place("Passed"));
        }
        ("Passed", self.region.id()).serialize(serializer)
    }
}

/// Only where handles travel: finds the file that came with these bytes.
impl<'de, T> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (what, id) = <(&str, u64)>::deserialize(deserializer)?;
        if what != "Passed" {
            return Err(de::Error::custom(format!("a handle of type `{what}` is read as one of type `Passed`")));
        }
        let region = take_file(id).map_err(de::Error::custom)?;
        Ok(Self { region, file: PhantomData })
    }
}
