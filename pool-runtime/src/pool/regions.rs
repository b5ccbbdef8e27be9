//! Which calls of a batch refer to which shared memory.
//!
//! A worker is given the memory of the calls that are sent to it, and of no others: one in a sandbox must not see what
//! another one works on.

use crate::memory::Region;
use std::ops::Range;
use std::sync::Arc;

/// A batch is full when its arguments refer to so many regions.
pub(super) const BATCH_REGIONS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct RegionsOfCalls {
    regions: Vec<Arc<Region>>,
    /// The calls that refer to each of them, in ascending order. Most are used by one call, or by all.
    users: Vec<Vec<Range<u32>>>,
}

impl RegionsOfCalls {
    pub(super) fn all(&self) -> &[Arc<Region>] {
        &self.regions
    }

    pub(super) fn len(&self) -> usize {
        self.regions.len()
    }

    /// Notes that this call, which is the latest, refers to the region. It is looked for among the latest, as many as a batch
    /// has; one call may bring more. A file is sent once for each time that a call refers to it, as each takes it out of
    /// what was sent.
    pub(super) fn add(&mut self, call: u32, region: &Arc<Region>) {
        let latest = if region.memory().is_file() { 0 } else { BATCH_REGIONS };
        let held = self.regions.iter().zip(&mut self.users).rev().take(latest);
        let found = held.into_iter().find(|(held, _)| Arc::ptr_eq(held, region));
        match found.map(|(_, users)| (users.last().map_or(0, |latest| latest.end), users)) {
            None => {
                self.regions.push(region.clone());
                self.users.push(std::iter::once(call..call + 1).collect());
            }
            Some((end, users)) if end < call => users.push(call..call + 1),
            Some((_, users)) => users.iter_mut().last().into_iter().for_each(|latest| latest.end = call + 1),
        }
    }

    /// Shows those that these calls refer to, if they do.
    pub(super) fn with_those_of(&self, calls: Range<u32>, see: &mut dyn FnMut(&[Arc<Region>])) {
        let is_used = |users: &Vec<Range<u32>>| {
            // The first that does not end before.
            let at = users.partition_point(|used| used.end <= calls.start);
            users.get(at).is_some_and(|used| used.start < calls.end)
        };
        if self.users.iter().all(is_used) {
            return see(&self.regions);
        }
        let used = self.regions.iter().zip(&self.users).filter(|(_, users)| is_used(users));
        let used: Vec<_> = used.map(|(region, _)| region.clone()).collect();
        see(&used);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::region;
    use crate::os::Memory;

    #[test]
    fn each_call_has_its_own() {
        let [all, even, last, twice] = [(); 4].map(|()| region::register(Memory::reusable(1).unwrap()));
        let mut regions = RegionsOfCalls::default();
        for call in 0..10 {
            regions.add(call, &all);
            if call % 2 == 0 {
                regions.add(call, &even);
            }
            if call == 3 {
                regions.add(call, &twice);
                regions.add(call, &twice);
            }
        }
        regions.add(9, &last);
        let names = [(&all, "all"), (&even, "even"), (&last, "last"), (&twice, "twice")];
        let of = |calls: Range<u32>| {
            let mut shown = Vec::new();
            regions.with_those_of(calls, &mut |regions| {
                for region in regions {
                    shown.extend(names.iter().filter(|(named, _)| Arc::ptr_eq(named, region)).map(|(_, name)| *name));
                }
            });
            shown
        };
        assert_eq!(of(0..1), ["all", "even"]);
        assert_eq!(of(1..2), ["all"]);
        assert_eq!(of(3..4), ["all", "twice"]);
        assert_eq!(of(3..5), ["all", "even", "twice"]);
        assert_eq!(of(9..10), ["all", "last"]);
        assert_eq!(of(0..u32::MAX), ["all", "even", "twice", "last"]);
        assert_eq!(of(10..20), [""; 0]);
        assert_eq!((regions.len(), regions.all().len()), (4, 4));
    }

    #[test]
    fn a_file_is_sent_once_for_each_use() {
        let file = region::register(Memory::file(std::io::pipe().unwrap().0.into()).unwrap());
        let mut regions = RegionsOfCalls::default();
        for call in [0, 0, 1, 3] {
            regions.add(call, &file);
        }
        let count = |calls: Range<u32>| {
            let mut count = 0;
            regions.with_those_of(calls, &mut |regions| count = regions.len());
            count
        };
        assert_eq!([0..1, 1..2, 2..3, 3..4, 0..4].map(count), [2, 1, 0, 1, 4]);
    }
}
