//! [`List`]: a vector that lives in the server of a manager, as bytes.

use super::manager::Manager;
use super::reference::{ObjectRef, Proxy};
use super::value::{Enclosed, enclosed};
use crate::error::{Error, Result};
use crate::objects::SameEncoding;
use pool_macros::managed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

/// A vector in the server of a [`Manager`]: Python's `manager.list()`.
///
/// Items are any values that can be sent to a task; the server has them encoded. Each method is one request, and does
/// what it does at once. One request, or one reply, has at most 1 GiB: read a longer vector a [range](Self::range) at a
/// time.
///
/// ```
/// # use pool_runtime::{List, Manager, Result, enter};
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::start()?;
///     let names: List<String> = List::new(&manager)?;
///     names.push("bob")?;
///     names.extend(["eve".to_string(), "mallory".to_string()])?;
///     for name in names.iter()? {
///         // It is a copy: what is iterated may change meanwhile.
///         names.push(&name.to_uppercase())?;
///     }
///     assert_eq!((names.len()?, names.pop()?.as_deref()), (6, Some("MALLORY")));
///     Ok(())
/// }
/// ```
pub struct List<T> {
    store: ListStoreProxy,
    items: PhantomData<fn(T) -> T>,
}

/// What the server has: encoded items.
struct ListStore {
    types: String,
    items: Vec<Enclosed>,
}

#[managed(name = "pool_runtime::List")]
impl ListStore {
    pub(crate) fn new(types: &str) -> Self {
        Self { types: types.to_owned(), items: Vec::new() }
    }

    pub(crate) fn types(&self) -> String {
        self.types.clone()
    }

    pub(crate) fn push(&mut self, item: Enclosed) {
        self.items.push(item);
    }

    pub(crate) fn pop(&mut self) -> Option<Enclosed> {
        self.items.pop()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Enclosed> {
        self.items.get(index).cloned()
    }

    pub(crate) fn set(&mut self, index: usize, item: Enclosed) -> Option<Enclosed> {
        self.items.get_mut(index).map(|before| std::mem::replace(before, item))
    }

    pub(crate) fn insert(&mut self, index: usize, item: Enclosed) {
        self.items.insert(index.min(self.items.len()), item);
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<Enclosed> {
        (index < self.items.len()).then(|| self.items.remove(index))
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    pub(crate) fn to_vec(&self) -> Vec<Enclosed> {
        self.items.clone()
    }

    pub(crate) fn extend(&mut self, items: Vec<Enclosed>) {
        self.items.extend(items);
    }

    pub(crate) fn range(&self, start: usize, end: usize) -> Vec<Enclosed> {
        let end = end.min(self.items.len());
        self.items[start.min(end)..end].to_vec()
    }

    pub(crate) fn index_of(&self, item: Enclosed) -> Option<usize> {
        self.items.iter().position(|kept| kept.is_encoded_as(&item))
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    pub(crate) fn reverse(&mut self) {
        self.items.reverse();
    }
}

/// What a list of this type is called: two programs agree in it if they have the type from one library.
fn types<T>() -> String {
    format!("List<{}>", std::any::type_name::<T>())
}

impl<T> List<T> {
    /// An empty vector, in the server of this manager.
    ///
    /// # Errors
    ///
    /// The server is gone: [`Error::is_manager_lost`]. So for all methods.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// let manager = Manager::start()?;
    /// assert!(List::<u32>::new(&manager)?.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(manager: &Manager) -> Result<Self> {
        Ok(Self { store: ListStoreProxy::new(manager, &types::<T>())?, items: PhantomData })
    }

    /// The vector that was [published](Manager::publish) by this name.
    ///
    /// # Errors
    ///
    /// Nothing was published by this name, or something else, such as a vector of another type.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// manager.publish("hits", &List::<u32>::new(&manager)?)?;
    /// assert!(List::<u32>::open(&manager, "hits")?.is_empty()?);
    /// assert!(List::<f64>::open(&manager, "hits").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(manager: &Manager, name: &str) -> Result<Self> {
        let store = ListStoreProxy::open(manager, name)?;
        let (found, wanted) = (store.types()?, types::<T>());
        match found == wanted {
            true => Ok(Self { store, items: PhantomData }),
            false => Err(Error::invalid(format!(
                "what is published as `{}` is a `{}`, and is opened as a `{wanted}`",
                name.escape_debug(),
                crate::foreign::line(&found)
            ))),
        }
    }

    /// How many items there are.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert_eq!(list.len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> Result<usize> {
        self.store.len()
    }

    /// Whether there is no item.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// assert!(List::<u32>::new(&manager)?.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.store.len()? == 0)
    }

    /// Removes all items.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// list.clear()?;
    /// assert!(list.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.store.clear()
    }

    /// Removes all items but the first ones, this many. A shorter vector stays as it is.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend(0..5)?;
    /// list.truncate(2)?;
    /// assert_eq!(list.to_vec()?, [0, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate(&self, len: usize) -> Result<()> {
        self.store.truncate(len)
    }

    /// Reverses the order of the items.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend(0..3)?;
    /// list.reverse()?;
    /// assert_eq!(list.to_vec()?, [2, 1, 0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reverse(&self) -> Result<()> {
        self.store.reverse()
    }
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Appends an item.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// let names = List::<String>::new(&manager)?;
    /// names.push("bob")?;
    /// names.push(&"eve".to_string())?;
    /// assert_eq!(names.to_vec()?, ["bob", "eve"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn push<B: SameEncoding<T> + Serialize + ?Sized>(&self, item: &B) -> Result<()> {
        self.store.push(enclosed("item", item)?)
    }

    /// Removes the last item, and returns it.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert_eq!((list.pop()?, list.pop()?), (Some(1), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn pop(&self) -> Result<Option<T>> {
        self.store.pop()?.map(|item| item.open("item")).transpose()
    }

    /// The item at an index.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert_eq!((list.get(0)?, list.get(1)?), (Some(1), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, index: usize) -> Result<Option<T>> {
        self.store.get(index)?.map(|item| item.open("item")).transpose()
    }

    /// Replaces the item at an index, and returns the one that was there. `None`: there is no such index, and nothing has
    /// changed.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert_eq!((list.set(0, &2)?, list.set(1, &3)?), (Some(1), None));
    /// assert_eq!(list.to_vec()?, [2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<B: SameEncoding<T> + Serialize + ?Sized>(&self, index: usize, item: &B) -> Result<Option<T>> {
        self.store.set(index, enclosed("item", item)?)?.map(|item| item.open("item")).transpose()
    }

    /// Inserts an item before the one at an index; at the end, if there is none, as Python does.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.insert(0, &1)?;
    /// list.insert(0, &0)?;
    /// list.insert(99, &2)?;
    /// assert_eq!(list.to_vec()?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert<B: SameEncoding<T> + Serialize + ?Sized>(&self, index: usize, item: &B) -> Result<()> {
        self.store.insert(index, enclosed("item", item)?)
    }

    /// Removes the item at an index, and returns it. `None`: there is no such index.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert_eq!((list.remove(0)?, list.remove(0)?), (Some(1), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&self, index: usize) -> Result<Option<T>> {
        self.store.remove(index)?.map(|item| item.open("item")).transpose()
    }

    /// All items, as they are at one moment.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend(0..3)?;
    /// assert_eq!(list.to_vec()?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.store.to_vec()?.iter().map(|item| item.open("item")).collect()
    }

    /// The items of a range of indices, as they are at one moment. What is beyond the end is left out, as Python does
    /// with a slice.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend(0..5)?;
    /// assert_eq!(list.range(1..3)?, [1, 2]);
    /// assert_eq!(list.range(3..)?, [3, 4]);
    /// assert!(list.range(7..9)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn range(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => usize::MAX,
        };
        self.store.range(start, end)?.iter().map(|item| item.open("item")).collect()
    }

    /// The index of the first item that is encoded as this one is.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend([1, 2, 1])?;
    /// assert_eq!((list.index_of(&1)?, list.index_of(&3)?), (Some(0), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn index_of<B: SameEncoding<T> + Serialize + ?Sized>(&self, item: &B) -> Result<Option<usize>> {
        self.store.index_of(enclosed("item", item)?)
    }

    /// Whether there is an item that is encoded as this one is.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.push(&1)?;
    /// assert!(list.contains(&1)? && !list.contains(&2)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains<B: SameEncoding<T> + Serialize + ?Sized>(&self, item: &B) -> Result<bool> {
        Ok(self.index_of(item)?.is_some())
    }

    /// Appends all of these, in one request: others see none of them or all, one after the other.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend([1, 2])?;
    /// assert_eq!(list.len()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let items = items.into_iter().map(|item| enclosed("item", &item));
        self.store.extend(items.collect::<Result<_>>()?)
    }

    /// Iterates over the items, as they are at this moment: the vector may change meanwhile.
    ///
    /// ```
    /// # use pool_runtime::{List, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let list = List::new(&manager)?;
    /// list.extend([1, 2])?;
    /// for item in list.iter()? {
    ///     list.push(&(10 * item))?;
    /// }
    /// assert_eq!(list.to_vec()?, [1, 2, 10, 20]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Result<std::vec::IntoIter<T>> {
        Ok(self.to_vec()?.into_iter())
    }
}

impl<T> Proxy for List<T> {
    fn object(&self) -> &ObjectRef {
        self.store.object()
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), items: PhantomData }
    }
}

/// The same vector, whatever is in it.
impl<T> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.store == other.store
    }
}

impl<T> Eq for List<T> {}

impl<T> Hash for List<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.store.hash(state);
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({:?})", self.object())
    }
}

impl<T> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.store.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { store: Deserialize::deserialize(deserializer)?, items: PhantomData })
    }
}
