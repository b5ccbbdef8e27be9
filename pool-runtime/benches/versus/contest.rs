//! Measures several contenders in turns, for a given time.
//!
//! How often something is repeated follows from how long it takes, never from a constant: a contender that gets a
//! hundred times faster is repeated a hundred times more often, and its row takes as long as before.

use crate::Result;
use std::time::{Duration, Instant};

/// Does something so many times; returns how long that took, without what had to be prepared for it.
type Act<'a> = Box<dyn FnMut(u64) -> Result<Duration> + 'a>;

struct Contender<'a> {
    name: &'static str,
    /// It is never asked to do more than this at once.
    most: u64,
    act: Act<'a>,
    /// How many times it is asked to do it in a round; found by calibration.
    times: u64,
    /// Seconds for one time, of each round.
    seconds: Vec<f64>,
}

/// Those who do the same thing in different ways.
pub struct Contest<'a> {
    /// How long each contender is to be busy in a round.
    slice: Duration,
    /// How long all rounds together may take. To have three, they may take twice that.
    budget: Duration,
    contenders: Vec<Contender<'a>>,
}

impl<'a> Contest<'a> {
    /// `slice` milliseconds a round for each, `budget` seconds in all.
    pub fn new(slice: u64, budget: f64) -> Self {
        Self { slice: Duration::from_millis(slice), budget: Duration::from_secs_f64(budget), contenders: Vec::new() }
    }

    /// A contender who can do it as often as there is time for.
    pub fn add(&mut self, name: &'static str, act: impl FnMut(u64) -> Result<Duration> + 'a) {
        self.add_limited(name, u64::MAX, act);
    }

    /// A contender who is asked to do it at most so many times at once.
    pub fn add_limited(&mut self, name: &'static str, most: u64, act: impl FnMut(u64) -> Result<Duration> + 'a) {
        let act = Box::new(act);
        self.contenders.push(Contender { name, most, act, times: 1, seconds: Vec::new() });
    }

    /// Calibrates, which warms everybody up, and then measures rounds in which each has its turn, so that what else the
    /// machine does hits all.
    pub fn run(mut self) -> Result<Figures> {
        for contender in &mut self.contenders {
            contender.calibrate(self.slice)?;
        }
        let begun = Instant::now();
        for round in 0.. {
            let enough = if round < 3 { 2 * self.budget } else { self.budget };
            if round > 0 && begun.elapsed() >= enough {
                break;
            }
            for contender in &mut self.contenders {
                contender.take_turn()?;
            }
        }
        Ok(Figures(self.contenders.into_iter().map(|it| (it.name, median(it.seconds))).collect()))
    }
}

impl Contender<'_> {
    fn calibrate(&mut self, slice: Duration) -> Result<()> {
        let first = (self.act)(1)?;
        if first > 10 * slice {
            return Ok(());
        }
        loop {
            let time = (self.act)(self.times)?;
            let ratio = slice.as_secs_f64() / time.as_secs_f64().max(1e-9);
            let enough = ratio < 2.0 || self.times == self.most;
            // Not more than 16 times as many: what takes long only from the second time on must not run away.
            self.times = ((self.times as f64 * ratio.min(16.0)) as u64).clamp(1, self.most);
            if enough {
                return Ok(());
            }
        }
    }

    fn take_turn(&mut self) -> Result<()> {
        // While the others had their turns, its processes fell asleep and its memory left the caches.
        if self.times >= 8 {
            (self.act)(self.times / 8)?;
        }
        let time = (self.act)(self.times)?;
        self.seconds.push(time.as_secs_f64() / self.times as f64);
        Ok(())
    }
}

/// How long each contender took for one time: the median of its rounds, in seconds.
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    pub fn of(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, seconds)| *seconds)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.0.iter().copied()
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
