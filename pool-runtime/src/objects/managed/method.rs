//! The table of what a manager's clients may call: the methods and constructors of every `#[managed]` of the program and
//! its dependencies, which `inventory` collects before `main`. What is not in it cannot be called.

use crate::hash::Fnv;
use crate::run::{Fault, Run};
use std::any::Any;
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An object in a server, whatever its type: a [`ManagedObject`].
pub type AnyObject = dyn Any + Send + Sync;

/// What a method or a constructor runs in the server.
pub enum MethodBody {
    /// Leaves the result.
    Method(fn(&AnyObject, &mut Run<'_>) -> Result<(), Fault>),
    /// Returns the object; or leaves the error with which the constructor has refused to make one.
    Constructor(fn(&mut Run<'_>) -> Result<Option<Box<AnyObject>>, Fault>),
}

/// The table's entry for a method or a constructor.
pub struct MethodInfo {
    /// The type's name.
    pub(super) kind: &'static str,
    /// The type's name, `::`, the method's.
    pub(super) name: &'static str,
    place: (&'static str, u32),
    pub(super) signature: &'static str,
    pub(super) body: MethodBody,
}

impl MethodInfo {
    #[doc(hidden)]
    pub const fn new(
        kind: &'static str,
        name: &'static str,
        place: (&'static str, u32),
        signature: &'static str,
        body: MethodBody,
    ) -> Self {
        Self { kind, name, place, signature, body }
    }

    /// Client and server must agree in it.
    pub(super) fn signature_hash(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.write(self.signature.as_bytes());
        hash.finish()
    }
}

impl fmt::Debug for MethodInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MethodInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What `#[managed]` submits.
#[derive(Debug)]
pub struct MethodRegistration(pub &'static MethodInfo);

inventory::collect!(MethodRegistration);

static TABLE: LazyLock<Vec<&'static MethodInfo>> = LazyLock::new(|| {
    let mut table: Vec<_> = inventory::iter::<MethodRegistration>.into_iter().map(|entry| entry.0).collect();
    table.sort_by_key(|method| (method.name, method.place));
    table
});

pub(super) fn find(name: &str) -> Option<&'static MethodInfo> {
    TABLE.binary_search_by_key(&name, |method| method.name).ok().map(|at| TABLE[at])
}

/// Refuses a table with two methods of one name.
pub(crate) fn check() -> Result<(), String> {
    let twice = TABLE.windows(2).find(|pair| pair[0].name == pair[1].name);
    let Some([first, second]) = twice else { return Ok(()) };
    let place = |method: &MethodInfo| format!("{}:{}", method.place.0, method.place.1);
    Err(format!(
        "two methods of managed objects are named `{}`: one at {}, one at {}; give one of the types another name with \
         `#[managed(name = \"…\")]`",
        first.name,
        place(first),
        place(second)
    ))
}

/// What can be an object of a manager.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a managed object",
    label = "this type is not `Send`, not `Sync`, or borrows something",
    note = "several clients use an object at once, each on a thread of its server: use `Arc` for `Rc`, and `Mutex` or \
            atomics for `Cell` and `RefCell`"
)]
pub trait Manageable: Send + Sync + 'static {}
// Reports the trait itself, once, instead of what is missing of it.
#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> Manageable for T {}

/// An object in its server: methods with `&self` may run at once, those with `&mut self` run alone.
///
/// After a panic it is used as it is: a client of Python's managers would expect the same.
#[derive(Debug)]
pub struct ManagedObject<T>(RwLock<T>);

/// Compiles if objects of the type can be managed, and returns what makes one. Whatever is expanded uses this alone, so
/// that the compiler reports it once.
pub fn can_be_managed<T: Manageable>() -> fn(T) -> Box<AnyObject> {
    |value| Box::new(ManagedObject(RwLock::new(value)))
}

impl<T: 'static> ManagedObject<T> {
    /// The object of this type.
    #[doc(hidden)]
    pub fn of(object: &AnyObject) -> Result<&Self, Fault> {
        let wanted = std::any::type_name::<T>();
        object
            .downcast_ref()
            .ok_or_else(|| Fault::State(format!("is a method of `{wanted}`, and this object is another")))
    }

    /// For a method with `&self`.
    #[doc(hidden)]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a method with `&mut self`.
    #[doc(hidden)]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
