//! The limits of a call: declared with the task, or set for the pool or for one call.
//!
//! The call's own limits take precedence over the task's, and those over the pool's. A [`Wish`] is what one of the
//! three says; a [`Policy`] is the result, which the dispatcher acts upon.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

/// The limits that a call, a task or a pool sets.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub timeout: Option<Duration>,
    pub soft_timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub memory: Option<u64>,
    pub max_result: Option<u64>,
}

impl Wish {
    #[doc(hidden)]
    pub const NONE: Self = Self { timeout: None, soft_timeout: None, retries: None, memory: None, max_result: None };

    /// These limits, and where they say nothing, the `other`.
    fn or(self, other: Self) -> Self {
        Self {
            timeout: self.timeout.or(other.timeout),
            soft_timeout: self.soft_timeout.or(other.soft_timeout),
            retries: self.retries.or(other.retries),
            memory: self.memory.or(other.memory),
            max_result: self.max_result.or(other.max_result),
        }
    }
}

/// The limits of a call. Times are in nanoseconds; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// When the worker is killed, counted from when it starts the call.
    pub(crate) timeout: u64,
    /// When the task is told, counted likewise.
    pub(crate) soft_timeout: u64,
    /// How often the call is retried after its worker was lost, or killed for the timeout.
    pub(crate) retries: u32,
    /// How many bytes the worker may use.
    pub(crate) memory: u64,
    /// How many bytes the result may have. None: as the worker's sandbox has it.
    pub(crate) max_result: Option<u64>,
}

impl Policy {
    /// No limits and no retries.
    pub(crate) const NONE: Self =
        Self { timeout: u64::MAX, soft_timeout: u64::MAX, retries: 0, memory: u64::MAX, max_result: None };

    pub(crate) fn of(call: Option<&Wish>, task: &Wish, pool: &Wish) -> Self {
        let wish = call.copied().unwrap_or_default().or(*task).or(*pool);
        let nanos =
            |time: Option<Duration>| time.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Self {
            timeout: nanos(wish.timeout),
            soft_timeout: nanos(wish.soft_timeout),
            retries: wish.retries.unwrap_or(0),
            memory: wish.memory.unwrap_or(u64::MAX),
            max_result: wish.max_result,
        }
    }

    /// Whether the worker has to be sampled while the call runs.
    pub(crate) fn is_watched(&self) -> bool {
        self.timeout != u64::MAX || self.memory != u64::MAX
    }

    pub(crate) fn timing(&self) -> Timing {
        let rounded = |nanos: u64| match nanos {
            u64::MAX => None,
            nanos => NonZero::new(u32::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)),
        };
        Timing { timeout: rounded(self.timeout), soft_timeout: rounded(self.soft_timeout) }
    }
}

/// A policy that calls share; None is [`Policy::NONE`], which most calls have.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedPolicy(Option<Arc<Policy>>);

impl SharedPolicy {
    pub(crate) fn new(policy: Policy) -> Self {
        Self((policy != Policy::NONE).then(|| Arc::new(policy)))
    }

    #[inline]
    pub(crate) fn get(&self) -> &Policy {
        self.0.as_deref().unwrap_or(&Policy::NONE)
    }
}

/// The times that the worker is told: milliseconds, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Timing {
    pub(crate) timeout: Option<NonZero<u32>>,
    pub(crate) soft_timeout: Option<NonZero<u32>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(timeout: u64) -> Option<Duration> {
        Some(Duration::from_secs(timeout))
    }

    #[test]
    fn the_call_goes_before_the_task_and_the_task_before_the_pool() {
        let pool = Wish {
            timeout: seconds(1),
            soft_timeout: seconds(1),
            retries: Some(1),
            memory: Some(1),
            max_result: Some(1),
        };
        let task = Wish { timeout: seconds(2), retries: Some(2), max_result: Some(2), ..Wish::NONE };
        let call = Wish { timeout: seconds(3), ..Wish::NONE };
        let policy = Policy::of(Some(&call), &task, &pool);
        let second = 1_000_000_000;
        let expected = Policy { timeout: 3 * second, soft_timeout: second, retries: 2, memory: 1, max_result: Some(2) };
        assert_eq!(policy, expected);
        assert_eq!(Policy::of(None, &Wish::NONE, &Wish::NONE), Policy::NONE);
    }

    #[test]
    fn the_longest_of_all_times_is_no_limit() {
        let call = Wish { timeout: Some(Duration::MAX), memory: Some(u64::MAX), ..Wish::NONE };
        let pool = Wish { timeout: seconds(1), memory: Some(1), ..Wish::NONE };
        assert_eq!(Policy::of(Some(&call), &Wish::NONE, &pool), Policy::NONE);
    }

    #[test]
    fn a_short_time_is_not_rounded_to_none() {
        let told = |timeout| Policy { timeout, ..Policy::NONE }.timing().timeout.map(NonZero::get);
        assert_eq!(told(0), Some(1));
        assert_eq!(told(1_000_001), Some(2));
        assert_eq!(told(u64::MAX), None);
        assert_eq!(told(u64::MAX - 1), Some(u32::MAX));
    }
}
