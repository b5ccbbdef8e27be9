//! `Shared<str>`: the bytes of a string, which are looked at before they are one.

use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::region::{Region, register};
use crate::objects::shared::{Shared, ToShared, made, receive, send};
use crate::os::Memory;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Arc;

impl Shared<str> {
    fn of_text(region: Arc<Region>) -> Result<Self, String> {
        let view = View::new(region, |region| std::str::from_utf8(region.memory().as_bytes()));
        Ok(Self { view: view.map_err(|error| format!("shared memory does not hold a string: {error}"))? })
    }
}

impl ToShared for str {
    type Content = Self;

    fn to_shared(&self) -> Result<Shared<Self>> {
        let memory = made(self.len(), Memory::copy(self.as_bytes()))?;
        Shared::of_text(register(memory)).map_err(Error::invalid)
    }
}

impl TryFrom<&str> for Shared<str> {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for Shared<str> {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

/// Shows the length, not the text.
impl fmt::Debug for Shared<str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared<str>({} bytes)", self.len())
    }
}

/// The text.
impl fmt::Display for Shared<str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

/// Only where handles travel: writes which memory it is, not the text.
impl Serialize for Shared<str> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        send(self.view.holder(), size_of::<u8>(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de> Deserialize<'de> for Shared<str> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_text(receive::<u8, D>(deserializer)?).map_err(de::Error::custom)
    }
}
