//! [`Queue`]: items from any processes to any processes, in order.
//!
//! This is what a user sees: items are encoded and decoded here, and `ends.rs` moves bytes. How a queue lies in memory, and
//! why no process that ends harms it, is said there; `hands.rs` is who has taken some items.

mod ends;
mod hands;

use crate::error::{Error, Kind, Result};
use crate::memory::cache;
use crate::memory::referred::came_with;
use crate::memory::region::register;
use crate::objects::messages::{Patience, SameEncoding, decode, encode, socket_pair};
use crate::objects::reference::{self, WithFiles};
use crate::os::{HandleRef, Memory};
use ends::{Ends, TakenItem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A queue between processes: any number of them put items, and any number take them, each item once.
///
/// Items are any values that can be sent to a task. They come out in the order in which they were put. It is an argument
/// like any other; a clone, and what a task gets, are the same queue. It lies in shared memory: while nobody has to wait,
/// nothing costs a system call.
///
/// A process that ends, at whatever instruction, leaves the others working: what it has put is there, and what it has
/// taken is gone with it.
///
/// ```no_run
/// use pool_runtime::{Pool, Queue, Result, pool_main, task};
///
/// #[task]
/// fn count_links(pages: &Queue<String>, counts: &Queue<usize>) {
///     while let Some(page) = pages.get().unwrap() {
///         counts.put(&page.matches("href").count()).unwrap();
///     }
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let (pages, counts) = (Queue::bounded(100)?, Queue::unbounded()?);
///     let pool = Pool::new(4)?;
///     let jobs: Vec<_> = (0..4).map(|_| pool.apply_async(count_links::call(&pages, &counts))).collect();
///     for page in ["<a href='one'>", "nothing", "<a href='two'><a href='three'>"] {
///         pages.put(page)?;
///     }
///     pages.close();
///     jobs.into_iter().try_for_each(|job| job.get())?;
///     counts.close();
///     assert_eq!(counts.iter().sum::<Result<usize>>()?, 3);
///     Ok(())
/// }
/// ```
///
/// # Knowing that all is done
///
/// Who takes an item and has dealt with it calls [`task_done`](Self::task_done); [`join`](Self::join) waits until that was
/// said of each. If nobody joins, nobody needs to.
///
/// # Memory
///
/// It is freed when no clone is left, no call that was submitted with it, and no task that has kept it. Until then it is four
/// open files in each process that uses it. Items take their encoded size and 8 to 15 bytes, and are given back 256 KiB at
/// a time.
///
/// # Handles as items
///
/// A [`Shared`](crate::Shared), an [`Array`](crate::Array), a lock, another queue or a file that is
/// [passed](crate::Passed) can be an item, or a part of one: whoever takes it has it. A queue has room for at least a
/// hundred of them at a time, whatever its capacity: who puts one more waits until some are taken. If a process is killed
/// while it takes such an item, the item may be lost, and whoever takes it gets an error.
pub struct Queue<T> {
    ends: Arc<Ends>,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A queue that has room for so many items: who puts one more waits until one is taken.
    ///
    /// # Errors
    ///
    /// The capacity is 0; there is not enough memory, or the process has too many open files.
    pub fn bounded(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::invalid("a queue needs room for one item at least: its capacity is 0"));
        }
        Self::make(capacity)
    }

    /// A queue that has room for as many items as there is memory.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files.
    pub fn unbounded() -> Result<Self> {
        Self::make(0)
    }

    fn make(capacity: usize) -> Result<Self> {
        let memory = Memory::sparse().map_err(|error| Error::os("cannot make shared memory for a queue", error))?;
        let sockets = socket_pair("a queue")?;
        let ends = Ends::new(register(memory), sockets, capacity as u64).map_err(Error::invalid)?;
        Ok(Self { ends: Arc::new(ends), items: PhantomData })
    }

    /// How many items it has room for. `None`: as many as there is memory for.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.ends.capacity() as usize).filter(|capacity| *capacity > 0)
    }

    /// How many items are in it at this moment.
    pub fn len(&self) -> usize {
        self.ends.length() as usize
    }

    /// Whether no item is in it at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.ends.is_closed()
    }

    /// Closes it for all: nothing can be put any more, and who waits to put something gets an error. What is in it can still
    /// be taken; after that, whoever takes, or waits for an item, gets `None`. To close it again does nothing.
    pub fn close(&self) {
        self.ends.close();
    }

    /// Takes all items off and drops them, as if they were done. Returns how many. A queue that is closed and then cleared
    /// is at its end for all at once.
    ///
    /// # Errors
    ///
    /// This process was forked from one that has the queue, and cannot take part in it.
    pub fn clear(&self) -> Result<usize> {
        self.ends.clear()
    }

    /// Whether there is an item, or there will be none.
    pub(crate) fn is_ready(&self) -> bool {
        self.ends.is_ready()
    }

    /// What becomes readable when there may be an item, after it was [asked](Self::ask_to_be_told) for.
    pub(crate) fn poll_handle(&self) -> HandleRef<'_> {
        self.ends.poll_handle()
    }

    /// From now on, the [handle](Self::poll_handle) tells of the next item.
    pub(crate) fn ask_to_be_told(&self) {
        self.ends.ask_to_be_told();
    }

    /// It has told, and there is no item.
    pub(crate) fn was_told(&self) {
        self.ends.was_told();
    }

    /// Says that an item that was taken is dealt with. If it was the last one, who [waits](Self::join) for that goes on.
    ///
    /// # Errors
    ///
    /// All items that were taken are done already.
    pub fn task_done(&self) -> Result<()> {
        self.ends.done(Patience::Endless)
    }

    /// Waits until all items that were put are [done](Self::task_done).
    ///
    /// # Errors
    ///
    /// Processes ended that had taken items and not said that they are done: [`Error::lost_items`] tells how many. All others
    /// are done. They are counted as done from now on.
    pub fn join(&self) -> Result<()> {
        self.ends.join(Patience::Endless)
    }

    /// As [`join`](Self::join), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// Some are not done in this time; or as [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<()> {
        self.ends.join(Patience::For(timeout))
    }
}

impl<T> Queue<T> {
    /// Puts an item at the end, and waits for room if there is none. What is put is a `&T`, or something that is encoded in
    /// the same way: a `&str` on a `Queue<String>`.
    ///
    /// ```
    /// let names = pool_runtime::Queue::<String>::unbounded()?;
    /// names.put("Ada")?;
    /// names.put(&"Grace".to_string())?;
    /// assert_eq!(names.get()?.as_deref(), Some("Ada"));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The item cannot be encoded, there is no memory for it, or the queue is closed. The queue is as it was before.
    pub fn put<B: SameEncoding<T> + ?Sized>(&self, item: &B) -> Result<()> {
        self.put_within(item, Patience::Endless)
    }

    /// As [`put`](Self::put), without waiting for room. It waits for others who are putting something at this moment, at most
    /// for a tenth of a second.
    ///
    /// # Errors
    ///
    /// The queue is full ([`Error::is_would_block`]); or as [`put`](Self::put).
    pub fn try_put<B: SameEncoding<T> + ?Sized>(&self, item: &B) -> Result<()> {
        self.put_within(item, Patience::None)
    }

    /// As [`put`](Self::put), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// The queue is full all the time ([`Error::is_timeout`]); or as [`put`](Self::put).
    pub fn put_timeout<B: SameEncoding<T> + ?Sized>(&self, item: &B, timeout: Duration) -> Result<()> {
        self.put_within(item, Patience::For(timeout))
    }

    fn put_within<B: SameEncoding<T> + ?Sized>(&self, item: &B, patience: Patience) -> Result<()> {
        let (bytes, handles) = encode(item).map_err(|error| Error::new(Kind::EncodeItem(error.to_string())))?;
        let put = self.ends.put(&bytes, &handles, patience);
        cache::recycle(bytes);
        put
    }
}

impl<T: DeserializeOwned + 'static> Queue<T> {
    /// Takes the first item, and waits for one if there is none. `None`: the queue is closed, and all items were taken.
    ///
    /// # Errors
    ///
    /// The item is not a `T`, or there is no memory for it.
    pub fn get(&self) -> Result<Option<T>> {
        self.get_within(Patience::Endless)
    }

    /// As [`get`](Self::get), without waiting for an item. It waits for others who are taking one at this moment, at most for
    /// a tenth of a second.
    ///
    /// # Errors
    ///
    /// The queue is empty and not closed ([`Error::is_would_block`]); or as [`get`](Self::get).
    pub fn try_get(&self) -> Result<Option<T>> {
        self.get_within(Patience::None)
    }

    /// As [`get`](Self::get), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// The queue is empty all the time, and not closed ([`Error::is_timeout`]); or as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.get_within(Patience::For(timeout))
    }

    fn get_within(&self, patience: Patience) -> Result<Option<T>> {
        let Some(TakenItem { bytes, handles }) = self.ends.get(patience)? else { return Ok(None) };
        let unread = Unread { ends: &self.ends, patience };
        let lost = |why: String| Error::new(Kind::DecodeItem(why));
        // Held until all is decoded.
        let handles = handles.map_err(lost)?;
        let (item, bytes) = came_with(&handles, || decode(bytes)).map_err(|error| lost(error.to_string()))?;
        std::mem::forget(unread);
        cache::recycle(bytes);
        Ok(Some(item))
    }

    /// The items, as [`get`](Self::get) takes them, until the queue is closed and all were taken.
    pub fn iter(&self) -> QueueItems<'_, T> {
        QueueItems(self)
    }
}

/// An item that was taken. If it cannot be decoded, or that panics, nobody has it, and nobody can say that it is done.
struct Unread<'q> {
    ends: &'q Ends,
    patience: Patience,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        // Who takes items has to wait for a moment, unless it was stopped. Of who has a limit, it is over perhaps.
        let patience = match self.patience {
            Patience::Endless => Patience::Endless,
            Patience::None | Patience::For(_) => Patience::None,
        };
        let _ = self.ends.done(patience);
    }
}

/// The items of a queue, as they are taken: see [`Queue::iter`].
#[derive(Debug)]
pub struct QueueItems<'q, T>(&'q Queue<T>);

impl<T: DeserializeOwned + 'static> Iterator for QueueItems<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.0.get().transpose()
    }
}

impl<'q, T: DeserializeOwned + 'static> IntoIterator for &'q Queue<T> {
    type Item = Result<T>;
    type IntoIter = QueueItems<'q, T>;

    fn into_iter(self) -> QueueItems<'q, T> {
        self.iter()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { ends: self.ends.clone(), items: PhantomData }
    }
}

/// Shows how many items there are, not the items.
impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Queue");
        shown
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// Only where handles travel: writes which memory it is, not the items.
impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send_with_files("Queue", self.ends.region(), self.ends.sockets(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WithFiles { region, files } = reference::receive_with_files("Queue", deserializer)?;
        let sockets = files.try_into().map_err(|_| de::Error::custom("a queue has two ends of a socket"))?;
        let ends = Ends::of(region, sockets).map_err(de::Error::custom)?;
        Ok(Self { ends: Arc::new(ends), items: PhantomData })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
