//! In place of `sandbox.rs`, where the program is built without the feature `sandbox`: nobody can have one.

use crate::error::{Error, Result};
use crate::os::Confinement;

/// There are none.
#[derive(Clone, Debug)]
pub(crate) enum NoSandbox {}

pub(crate) use NoSandbox as Sandbox;

impl NoSandbox {
    pub(crate) fn inherits_env(&self) -> bool {
        match *self {}
    }

    pub(crate) fn inherits_output(&self) -> bool {
        match *self {}
    }

    pub(crate) fn inherits_authkey(&self) -> bool {
        match *self {}
    }

    pub(crate) fn resolve(&self) -> Result<Confinement> {
        match *self {}
    }
}

/// How many bytes a result may have by default: any number, as no worker is confined.
pub(crate) fn default_max_result(_: Option<&Confinement>) -> u64 {
    u64::MAX
}

/// A strict sandbox is refused, so that nothing runs without it that was to run in one.
pub(crate) fn strict() -> Result<Confinement> {
    Err(Error::invalid(
        "this program is built without the feature `sandbox` of pool-runtime: build it with that feature",
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_absent_sandbox_is_refused() {
        assert!(super::strict().unwrap_err().to_string().contains("the feature `sandbox`"));
    }
}
