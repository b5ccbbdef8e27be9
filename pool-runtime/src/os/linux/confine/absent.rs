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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::ResourceLimits;

    #[test]
    fn what_an_absent_sandbox_would_deny_is_an_error() {
        // Even if it denies nothing, and if less were enough.
        let (files, limits) = (None, ResourceLimits::default());
        let nothing =
            Confinement { files, network: true, processes: true, limits, best_effort: true, inherits_env: true };
        assert!(nothing.apply(Abilities::here(), false).unwrap_err().contains("the feature `sandbox`"));
    }
}
