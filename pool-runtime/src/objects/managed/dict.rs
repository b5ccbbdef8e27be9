//! [`Dict`]: a map that lives in the server of a manager, as bytes.

use super::manager::Manager;
use super::reference::{ObjectRef, Proxy};
use super::value::{Enclosed, enclosed, encoded, of_bytes};
use crate::error::{Error, Result};
use crate::objects::SameEncoding;
use pool_macros::managed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// A map in the server of a [`Manager`]: Python's `manager.dict()`.
///
/// Keys and values are any values that can be sent to a task. The server has them encoded: two keys are equal if their
/// encodings are. So `0.0` and `-0.0` are two keys, a NaN is equal to itself, and maps or sets whose order is random are
/// no keys. Entries are in the order in which their keys were first inserted.
///
/// Each method is one request, and does what it does at once. A change that takes two requests, such as `get` and then
/// `insert`, can have another client's in between.
///
/// One request, or one reply, has at most 1 GiB.
///
/// ```
/// # use pool_runtime::{Dict, Manager, Result, enter};
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::start()?;
///     let ages: Dict<String, u32> = Dict::new(&manager)?;
///     assert_eq!(ages.insert("bob", &41)?, None);
///     assert_eq!(ages.insert("bob", &42)?, Some(41));
///     ages.update([("eve".to_string(), 7)])?;
///     for (name, age) in ages.iter()? {
///         // It is a copy: what is iterated may change meanwhile.
///         ages.insert(&name, &(age + 1))?;
///     }
///     assert_eq!(ages.items()?, [("bob".to_string(), 43), ("eve".to_string(), 8)]);
///     Ok(())
/// }
/// ```
pub struct Dict<K, V> {
    store: DictStoreProxy,
    types: PhantomData<fn((K, V)) -> K>,
}

/// What the server has: encoded keys and values, and in which order they came.
struct DictStore {
    types: String,
    places: HashMap<Arc<[u8]>, u64>,
    entries: BTreeMap<u64, (Arc<[u8]>, Enclosed)>,
    next: u64,
}

type Entries = Vec<(Vec<u8>, Enclosed)>;

#[managed(name = "pool_runtime::Dict")]
impl DictStore {
    pub(crate) fn new(types: &str) -> Self {
        Self { types: types.to_owned(), places: HashMap::new(), entries: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn types(&self) -> String {
        self.types.clone()
    }

    pub(crate) fn insert(&mut self, key: &[u8], value: Enclosed) -> Option<Enclosed> {
        if let Some(entry) = self.places.get(key).and_then(|place| self.entries.get_mut(place)) {
            return Some(std::mem::replace(&mut entry.1, value));
        }
        let key: Arc<[u8]> = key.into();
        self.places.insert(key.clone(), self.next);
        self.entries.insert(self.next, (key, value));
        self.next += 1;
        None
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Enclosed> {
        self.find(key).cloned()
    }

    pub(crate) fn get_or_insert(&mut self, key: &[u8], value: Enclosed) -> Enclosed {
        if let Some(found) = self.find(key) {
            return found.clone();
        }
        self.insert(key, value.clone());
        value
    }

    pub(crate) fn insert_new(&mut self, key: &[u8], value: Enclosed) -> bool {
        let is_new = !self.contains_key(key);
        if is_new {
            self.insert(key, value);
        }
        is_new
    }

    pub(crate) fn compare_exchange(
        &mut self,
        key: &[u8],
        current: Option<Enclosed>,
        new: Option<Enclosed>,
    ) -> Result<(), Option<Enclosed>> {
        let found = self.find(key);
        let is_as_said = match (found, &current) {
            (Some(found), Some(current)) => found.is_encoded_as(current),
            (found, current) => found.is_none() && current.is_none(),
        };
        if !is_as_said {
            return Err(found.cloned());
        }
        match new {
            Some(new) => drop(self.insert(key, new)),
            None => drop(self.remove(key)),
        }
        Ok(())
    }

    pub(crate) fn pop_first(&mut self) -> Option<(Vec<u8>, Enclosed)> {
        let (_, (key, value)) = self.entries.pop_first()?;
        self.places.remove(&key);
        Some((key.to_vec(), value))
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Enclosed> {
        let place = self.places.remove(key)?;
        self.entries.remove(&place).map(|(_, value)| value)
    }

    pub(crate) fn contains_key(&self, key: &[u8]) -> bool {
        self.places.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
    }

    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.entries.values().map(|(key, _)| key.to_vec()).collect()
    }

    pub(crate) fn values(&self) -> Vec<Enclosed> {
        self.entries.values().map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn items(&self) -> Entries {
        self.entries.values().map(|(key, value)| (key.to_vec(), value.clone())).collect()
    }

    pub(crate) fn update(&mut self, entries: Entries) {
        for (key, value) in entries {
            self.insert(&key, value);
        }
    }

    #[managed(skip)]
    fn find(&self, key: &[u8]) -> Option<&Enclosed> {
        self.places.get(key).and_then(|place| self.entries.get(place)).map(|(_, value)| value)
    }
}

/// What a dict of these types is called: two programs agree in it if they have the types from one library.
fn types<K, V>() -> String {
    format!("Dict<{}, {}>", std::any::type_name::<K>(), std::any::type_name::<V>())
}

impl<K, V> Dict<K, V> {
    /// An empty map, in the server of this manager.
    ///
    /// # Errors
    ///
    /// The server is gone: [`Error::is_manager_lost`]. So for all methods.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     assert!(Dict::<String, u32>::new(&manager)?.is_empty()?);
    ///     Ok(())
    /// }
    /// ```
    pub fn new(manager: &Manager) -> Result<Self> {
        Ok(Self { store: DictStoreProxy::new(manager, &types::<K, V>())?, types: PhantomData })
    }

    /// The map that was [published](Manager::publish) by this name.
    ///
    /// # Errors
    ///
    /// Nothing was published by this name, or something else, such as a map of other types.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     manager.publish("ages", &Dict::<String, u32>::new(&manager)?)?;
    ///     assert!(Dict::<String, u32>::open(&manager, "ages")?.is_empty()?);
    ///     assert!(Dict::<String, f64>::open(&manager, "ages").is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn open(manager: &Manager, name: &str) -> Result<Self> {
        let store = DictStoreProxy::open(manager, name)?;
        let (found, wanted) = (store.types()?, types::<K, V>());
        match found == wanted {
            true => Ok(Self { store, types: PhantomData }),
            false => Err(Error::invalid(format!(
                "what is published as `{}` is a `{}`, and is opened as a `{wanted}`",
                name.escape_debug(),
                crate::foreign::line(&found)
            ))),
        }
    }

    /// How many entries there are.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     let dict = Dict::new(&manager)?;
    ///     dict.insert(&1, &10)?;
    ///     assert_eq!(dict.len()?, 1);
    ///     Ok(())
    /// }
    /// ```
    pub fn len(&self) -> Result<usize> {
        self.store.len()
    }

    /// Whether there is no entry.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// let dict = Dict::<u32, u32>::new(&manager)?;
    /// assert!(dict.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.store.len()? == 0)
    }

    /// Removes all entries.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.insert(&1, &10)?;
    /// dict.clear()?;
    /// assert!(dict.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.store.clear()
    }

    /// Whether there is an entry with this key.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.insert(&1, &10)?;
    /// assert!(dict.contains_key(&1)? && !dict.contains_key(&2)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains_key<Q: SameEncoding<K> + Serialize + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.store.contains_key(&encoded("key", key)?)
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Dict<K, V> {
    /// Sets the value of a key, and returns the one that it had. The key of an entry that is there keeps its place.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// assert_eq!(dict.insert(&1, &10)?, None);
    /// assert_eq!(dict.insert(&1, &11)?, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert<Q, W>(&self, key: &Q, value: &W) -> Result<Option<V>>
    where
        Q: SameEncoding<K> + Serialize + ?Sized,
        W: SameEncoding<V> + Serialize + ?Sized,
    {
        let before = self.store.insert(&encoded("key", key)?, enclosed("value", value)?)?;
        before.map(|before| before.open("value")).transpose()
    }

    /// The value of a key.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.insert(&1, &10)?;
    /// assert_eq!((dict.get(&1)?, dict.get(&2)?), (Some(10), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get<Q: SameEncoding<K> + Serialize + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.store.get(&encoded("key", key)?)?.map(|value| value.open("value")).transpose()
    }

    /// The value of a key; this one, which it then has, if it had none. Of several clients that do so at once, one
    /// inserts its value, and all get that.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// assert_eq!(dict.get_or_insert(&1, &10)?, 10);
    /// assert_eq!(dict.get_or_insert(&1, &11)?, 10);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_insert<Q, W>(&self, key: &Q, value: &W) -> Result<V>
    where
        Q: SameEncoding<K> + Serialize + ?Sized,
        W: SameEncoding<V> + Serialize + ?Sized,
    {
        self.store.get_or_insert(&encoded("key", key)?, enclosed("value", value)?)?.open("value")
    }

    /// Inserts an entry, if there is none with this key. Returns whether it did: of several clients that do so at once,
    /// one does.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// assert!(dict.insert_new(&1, &10)? && !dict.insert_new(&1, &11)?);
    /// assert_eq!(dict.get(&1)?, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert_new<Q, W>(&self, key: &Q, value: &W) -> Result<bool>
    where
        Q: SameEncoding<K> + Serialize + ?Sized,
        W: SameEncoding<V> + Serialize + ?Sized,
    {
        self.store.insert_new(&encoded("key", key)?, enclosed("value", value)?)
    }

    /// Sets the value of a key to `new`, if it is `current`, in one step; `None` stands for no entry. So a value can be
    /// changed by what it was, without another client's change in between. Values are the same if their encodings are.
    ///
    /// The inner result is the value that was found, if it was another one.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.insert(&1, &10)?;
    /// assert_eq!(dict.compare_exchange(&1, Some(&10), Some(&11))?, Ok(()));
    /// assert_eq!(dict.compare_exchange(&1, Some(&10), None)?, Err(Some(11)));
    /// assert_eq!(dict.compare_exchange(&2, None, Some(&20))?, Ok(()));
    /// assert_eq!(dict.items()?, [(1, 11), (2, 20)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn compare_exchange<Q: SameEncoding<K> + Serialize + ?Sized>(
        &self,
        key: &Q,
        current: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V>>> {
        let [current, new] = [current, new].map(|value| value.map(|value| enclosed("value", value)).transpose());
        match self.store.compare_exchange(&encoded("key", key)?, current?, new?)? {
            Ok(()) => Ok(Ok(())),
            Err(found) => found.map(|value| value.open("value")).transpose().map(Err),
        }
    }

    /// Removes the entry that came first, and returns it: Python's `popitem` takes the last one. Of several clients
    /// that do so at once, each gets another.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.update([(2, 20), (1, 10)])?;
    /// assert_eq!(dict.pop_first()?, Some((2, 20)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn pop_first(&self) -> Result<Option<(K, V)>> {
        let Some((key, value)) = self.store.pop_first()? else { return Ok(None) };
        Ok(Some((of_bytes("key", &key)?, value.open("value")?)))
    }

    /// Removes an entry, and returns its value. Of several clients that remove the same one, one gets it.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.insert(&1, &10)?;
    /// assert_eq!((dict.remove(&1)?, dict.remove(&1)?), (Some(10), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove<Q: SameEncoding<K> + Serialize + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.store.remove(&encoded("key", key)?)?.map(|value| value.open("value")).transpose()
    }

    /// The keys, as they are at one moment.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.update([(2, 20), (1, 10)])?;
    /// assert_eq!(dict.keys()?, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self) -> Result<Vec<K>> {
        self.store.keys()?.iter().map(|key| of_bytes("key", key)).collect()
    }

    /// The values, as they are at one moment.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.update([(2, 20), (1, 10)])?;
    /// assert_eq!(dict.values()?, [20, 10]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn values(&self) -> Result<Vec<V>> {
        self.store.values()?.iter().map(|value| value.open("value")).collect()
    }

    /// The entries, as they are at one moment.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.update([(2, 20), (1, 10)])?;
    /// assert_eq!(dict.items()?, [(2, 20), (1, 10)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn items(&self) -> Result<Vec<(K, V)>> {
        let entries = self.store.items()?;
        entries.iter().map(|(key, value)| Ok((of_bytes("key", key)?, value.open("value")?))).collect()
    }

    /// Iterates over the [items](Self::items), as they are at this moment: the map may change meanwhile.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// # let dict = Dict::new(&manager)?;
    /// dict.update([(2, 20), (1, 10)])?;
    /// for (key, _) in dict.iter()? {
    ///     dict.remove(&key)?;
    /// }
    /// assert!(dict.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Result<std::vec::IntoIter<(K, V)>> {
        Ok(self.items()?.into_iter())
    }

    /// Inserts all of these, in one request: others see none of them or all.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Result, enter};
    /// # fn main() -> Result<()> {
    /// # enter();
    /// # let manager = Manager::start()?;
    /// let squares = Dict::new(&manager)?;
    /// squares.update((0..4).map(|n| (n, n * n)))?;
    /// assert_eq!(squares.get(&3)?, Some(9));
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let entries = entries.into_iter().map(|(key, value)| Ok((encoded("key", &key)?, enclosed("value", &value)?)));
        self.store.update(entries.collect::<Result<_>>()?)
    }
}

impl<K, V> Proxy for Dict<K, V> {
    fn object(&self) -> &ObjectRef {
        self.store.object()
    }
}

impl<K, V> Clone for Dict<K, V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), types: PhantomData }
    }
}

/// The same map, whatever is in it.
impl<K, V> PartialEq for Dict<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.store == other.store
    }
}

impl<K, V> Eq for Dict<K, V> {}

impl<K, V> Hash for Dict<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.store.hash(state);
    }
}

impl<K, V> fmt::Debug for Dict<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dict({:?})", self.object())
    }
}

impl<K, V> Serialize for Dict<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.store.serialize(serializer)
    }
}

impl<'de, K, V> Deserialize<'de> for Dict<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { store: Deserialize::deserialize(deserializer)?, types: PhantomData })
    }
}
