//! How long calls of each task take, as moving averages.

use crate::pool::dispatcher::Time;

#[derive(Debug, Default)]
pub(super) struct Durations {
    averages: Vec<(&'static str, Time)>,
    /// The index found last: most look-ups are for the same task as the one before.
    latest: usize,
}

impl Durations {
    fn find(&mut self, task: &'static str) -> Option<&mut Time> {
        // By address, which is faster. A name at several addresses has several averages, which does no harm.
        let is_it = |entry: &(&'static str, Time)| std::ptr::eq(entry.0, task);
        if !self.averages.get(self.latest).is_some_and(is_it) {
            self.latest = self.averages.iter().position(is_it)?;
        }
        self.averages.get_mut(self.latest).map(|(_, time)| time)
    }

    pub(super) fn get(&mut self, task: &'static str) -> Option<Time> {
        self.find(task).copied()
    }

    pub(super) fn add(&mut self, task: &'static str, time: Time) {
        match self.find(task) {
            Some(average) => *average = (*average * 7 + time) / 8,
            None => self.averages.push((task, time)),
        }
    }
}
