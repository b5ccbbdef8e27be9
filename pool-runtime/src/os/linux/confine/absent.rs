//! In place of `confine.rs`, where the program is built without the feature `sandbox`: nothing can be denied.

use crate::os::{Abilities, Confinement};

impl Abilities {
    pub(crate) fn here() -> Self {
        Self { landlock: 0, seccomp: false }
    }
}

impl Confinement {
    /// Refuses whatever it is, so that nothing runs without a sandbox that was to run in one.
    pub(crate) fn apply(&self, _: Abilities, _: bool) -> Result<(), String> {
        Err("this program is built without the feature `sandbox` of pool-runtime".into())
    }
}
