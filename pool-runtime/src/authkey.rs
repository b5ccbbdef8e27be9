//! `AuthKey`, and the one of this process.
//!
//! A process has one key. The first process draws it when it is first needed; each process that this library starts is
//! told its parent's in the greeting, and so are those that it starts in turn. It is never in the environment, in the
//! arguments, in a log or in a dossier. A worker in a sandbox gets it only if the sandbox says so: otherwise it draws
//! its own.

use crate::error::{Error, Result};
use crate::locks::lock;
use crate::secret::Secret;
use std::fmt;
use std::sync::{Arc, Mutex};

/// How many bytes a key has that is drawn.
const LENGTH: usize = 32;

/// The longest key, in bytes: a new process is told it before it reads, so that it has to fit into a socket.
const LONGEST: usize = 64 << 10;

/// The key of this process, once it has one.
static CURRENT: Mutex<Option<AuthKey>> = Mutex::new(None);

/// A secret that both sides of a [connection](crate::connection) have, by which they prove to each other who they are.
/// The key itself is never sent.
///
/// Each process has one ([`current`](Self::current)), which is random, and which the workers and processes that it
/// starts have too. So processes of one program need no key of their own. Different programs need one that both know:
/// from [`new`](Self::new), of 16 random bytes or more. A password that can be guessed is no key: who listens to a
/// connection, or has a client connect to it, can try guesses for as long as it likes.
///
/// Who can have a client connect to it can also be let in, in that client's place, by another listener with the same
/// key: see [`Client`](crate::connection::Client).
///
/// A clone is the same key. The memory that holds its bytes is overwritten when the last clone is dropped. That is all:
/// parts of a key can remain on the stack of a thread that has proved it, and what is in memory is in core dumps and
/// may be in swap space. It prints as `AuthKey(…)`, and cannot be serialized.
///
/// ```
/// use pool_runtime::connection::AuthKey;
///
/// let key = AuthKey::new(b"a secret of 16 bytes, or more");
/// assert_eq!(format!("{key:?}"), "AuthKey(…)");
/// assert_ne!(AuthKey::random()?.as_bytes(), AuthKey::random()?.as_bytes());
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthKey(Arc<Secret>);

impl AuthKey {
    /// A key of these bytes. A connection refuses one that has none but zeros, or more than 64 KiB.
    ///
    /// They are copied. If yours are not to stay in memory either, overwrite them, or give a `Vec<u8>` or a `String`
    /// away by [`from`](Self::from), which copies nothing.
    ///
    /// ```
    /// use pool_runtime::connection::AuthKey;
    ///
    /// assert_eq!(AuthKey::new("secret").as_bytes(), b"secret");
    /// ```
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(Arc::new(bytes.as_ref().to_vec().into()))
    }

    /// A key of 32 random bytes.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    ///
    /// ```
    /// use pool_runtime::connection::AuthKey;
    ///
    /// assert_eq!(AuthKey::random()?.as_bytes().len(), 32);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn random() -> Result<Self> {
        let mut bytes = vec![0; LENGTH];
        fill_randomly(&mut bytes, "draw a key")?;
        Ok(Self(Arc::new(bytes.into())))
    }

    /// The key of this process: Python's `current_process().authkey`. It is random, and drawn once, in the process that
    /// first needs it; its workers and processes have the same, as long as nobody [sets](Self::set_current) another.
    ///
    /// A worker in a sandbox has a key of its own instead, unless its sandbox
    /// [hands it on](crate::Sandbox::inherit_authkey).
    ///
    /// # Errors
    ///
    /// As [`random`](Self::random).
    ///
    /// ```
    /// use pool_runtime::connection::AuthKey;
    ///
    /// assert_eq!(AuthKey::current()?.as_bytes(), AuthKey::current()?.as_bytes());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn current() -> Result<Self> {
        let mut current = lock(&CURRENT);
        match &*current {
            Some(key) => Ok(key.clone()),
            None => Ok(current.insert(Self::random()?).clone()),
        }
    }

    /// Makes it the key of this process, and of those that it starts from now on. Processes that run already keep
    /// theirs, and so does a listener that was bound.
    ///
    /// # Errors
    ///
    /// It has no bytes but zeros, which is no secret, or more than 64 KiB.
    ///
    /// ```
    /// use pool_runtime::connection::AuthKey;
    ///
    /// AuthKey::new(b"known to another program").set_current()?;
    /// assert_eq!(AuthKey::current()?.as_bytes(), b"known to another program");
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn set_current(self) -> Result<()> {
        self.check()?;
        *lock(&CURRENT) = Some(self);
        Ok(())
    }

    /// Whether it is of any use.
    pub(crate) fn check(&self) -> Result<()> {
        let bytes = self.as_bytes();
        if bytes.is_empty() {
            return Err(Error::invalid(
                "cannot authenticate a connection with an empty key, which everybody has: give it bytes, or say \
                 `.no_authkey()`",
            ));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(Error::invalid(
                "cannot authenticate a connection with a key that has zeros only: HMAC fills keys up with zeros, so \
                 that it is the same as an empty one, which everybody has. Was it never filled in?",
            ));
        }
        if bytes.len() > LONGEST {
            return Err(Error::invalid(format!(
                "cannot use a key of {} bytes, which each new process is told: it may have {LONGEST} (64 KiB), and 32 \
                 random ones are enough",
                bytes.len()
            )));
        }
        Ok(())
    }

    /// The key itself, for a program to which it is handed in some other way, such as a pipe to a Python program.
    /// Arguments and environment variables are no such way: other processes of this user, and for arguments all others,
    /// can read them.
    ///
    /// ```
    /// use pool_runtime::connection::AuthKey;
    ///
    /// assert_eq!(AuthKey::new([1, 2, 3]).as_bytes(), [1, 2, 3]);
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Takes the bytes themselves: no copy is left.
impl From<Vec<u8>> for AuthKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes.into()))
    }
}

/// Takes the text itself: no copy is left.
impl From<String> for AuthKey {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(…)")
    }
}

/// What a new process is told. None if the system gives no random bytes: the process then finds that out itself, when
/// somebody asks for its key.
pub(crate) fn handed_on() -> Option<Secret> {
    AuthKey::current().ok().map(|key| Secret::clone(&key.0))
}

/// What this process was told when it started.
pub(crate) fn inherit(key: Secret) {
    *lock(&CURRENT) = Some(AuthKey(Arc::new(key)));
}

pub(crate) fn fill_randomly(bytes: &mut [u8], purpose: &str) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::os(format!("cannot {purpose}, as the system gives no random bytes"), std::io::Error::from(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_show_itself() {
        let key = AuthKey::new(b"hunter2");
        let shown = format!("{key:?} {:#?} {:?}", Some(key.clone()), key.0);
        assert_eq!(shown, "AuthKey(…) Some(\n    AuthKey(…),\n) Secret(…)");
    }

    #[test]
    fn bytes_that_are_given_away_are_not_copied() {
        let bytes = b"secret".to_vec();
        let place = bytes.as_ptr();
        assert_eq!(AuthKey::from(bytes).as_bytes().as_ptr(), place);
        let text = "secret".to_owned();
        let place = text.as_ptr();
        let key = AuthKey::from(text);
        assert_eq!((key.as_bytes().as_ptr(), key.as_bytes()), (place, &b"secret"[..]));
    }

    #[test]
    fn keys_are_drawn_once_and_at_random() {
        let [one, other] = [(); 2].map(|()| AuthKey::random().unwrap());
        assert!(one.as_bytes().len() == LENGTH && one.as_bytes() != other.as_bytes());
        assert_eq!(handed_on().unwrap().bytes(), AuthKey::current().unwrap().as_bytes());
    }
}
