//! How a handle of writable memory is sent: which memory it is, and never what is in it.

use crate::memory::referred::{find_writable, found, take_file};
use crate::memory::region::Region;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::sync::Arc;

#[derive(Deserialize, Serialize)]
struct Reference<'r> {
    /// The type of the handle, without its parameter.
    what: &'r str,
    id: u64,
    bytes: u64,
    /// The size of what it holds.
    element: u64,
}

/// That a handle cannot go where these bytes go.
pub(super) fn out_of_place<E: ser::Error>(what: &str) -> E {
    let why = "can be an argument of a task, its result, or a message to another process of this program, and nothing else: \
               store what it holds";
    E::custom(format!("a handle of type `{what}` {why}"))
}

/// For a `what` that holds values of type `T`.
pub(super) fn send<T, S: Serializer>(what: &str, region: &Arc<Region>, serializer: S) -> Result<S::Ok, S::Error> {
    if !found(region) {
        return Err(out_of_place(what));
    }
    let bytes = region.memory().length() as u64;
    Reference { what, id: region.id(), bytes, element: size_of::<T>() as u64 }.serialize(serializer)
}

/// Finds the memory of a `what` that holds values of type `T`.
pub(super) fn receive<'de, T, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<Arc<Region>, D::Error> {
    let sent = Reference::deserialize(deserializer)?;
    let (size, name) = (size_of::<T>(), std::any::type_name::<T>());
    if sent.what != what {
        return Err(de::Error::custom(format!("a handle of type `{}` is read as one of type `{what}`", sent.what)));
    }
    if sent.element != size as u64 {
        let why = format!("values of {} bytes each in a `{what}` are read as `{name}`, which has {size}", sent.element);
        return Err(de::Error::custom(why));
    }
    let region = find_writable(sent.id).map_err(de::Error::custom)?;
    let found = region.memory().length() as u64;
    if found != sent.bytes {
        let why = format!("shared memory has {found} bytes, and {} were written", sent.bytes);
        return Err(de::Error::custom(why));
    }
    Ok(region)
}

/// For a `what` of memory, and open files that belong to it.
pub(super) fn send_with_files<'r, S: Serializer>(
    what: &str,
    region: &Arc<Region>,
    files: impl IntoIterator<Item = &'r Arc<Region>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut ids = Vec::with_capacity(2);
    let mut is_in_place = found(region);
    for file in files {
        is_in_place &= found(file);
        ids.push(file.id());
    }
    if !is_in_place {
        return Err(out_of_place(what));
    }
    (what, region.id(), ids).serialize(serializer)
}

/// Memory, and open files that belong to it.
pub(super) struct WithFiles {
    pub(super) region: Arc<Region>,
    pub(super) files: Vec<Arc<Region>>,
}

/// Finds the memory of a `what`, and the open files that belong to it.
pub(super) fn receive_with_files<'de, D: Deserializer<'de>>(
    what: &str,
    deserializer: D,
) -> Result<WithFiles, D::Error> {
    let (sent, id, files) = <(&str, u64, Vec<u64>)>::deserialize(deserializer)?;
    if sent != what {
        return Err(de::Error::custom(format!("a handle of type `{sent}` is read as one of type `{what}`")));
    }
    let region = find_writable(id).map_err(de::Error::custom)?;
    let files = files.into_iter().map(take_file).collect::<Result<_, _>>();
    Ok(WithFiles { region, files: files.map_err(de::Error::custom)? })
}
