//! A row of the table, whether it meets its target, and how it is printed.

use crate::contest::Figures;

/// The contender that is compared with all others.
pub const OURS: &str = "ours";

/// The columns for peers; what else a row has stands below it, or in a column of its own in Markdown.
const COLUMNS: [&str; 4] = ["multiprocessing", "concurrent.futures", "procspawn", "rayon"];

#[derive(Clone, Copy)]
pub enum Bound {
    AtMost,
    AtLeast,
}

/// What is compared with what.
#[derive(Clone, Copy)]
enum Against {
    /// So many times a peer's figure, in the same run.
    Peer(&'static str),
    /// The figure itself.
    Absolute,
}

/// A part of a target.
#[derive(Clone, Copy)]
pub struct Check {
    bound: Bound,
    value: f64,
    against: Against,
}

/// At most so many times what the peer takes.
pub fn at_most(value: f64, peer: &'static str) -> Check {
    Check { bound: Bound::AtMost, value, against: Against::Peer(peer) }
}

/// At least so many times what the peer reaches.
pub fn at_least(value: f64, peer: &'static str) -> Check {
    Check { bound: Bound::AtLeast, value, against: Against::Peer(peer) }
}

/// A bound in the unit of the row. Where there are ratios too, these decide.
pub fn absolute(bound: Bound, value: f64) -> Check {
    Check { bound, value, against: Against::Absolute }
}

impl Check {
    fn text(&self, unit: &str) -> String {
        let sign = match self.bound {
            Bound::AtMost => '≤',
            Bound::AtLeast => '≥',
        };
        match self.against {
            Against::Absolute => format!("{sign} {} {unit}", self.value),
            Against::Peer(peer) if self.value < 0.2 => format!("{sign} 1/{:.0} of {peer}", 1.0 / self.value),
            Against::Peer(peer) => format!("{sign} {}× {peer}", self.value),
        }
    }

    fn holds(&self, row: &Row) -> Option<bool> {
        let measured = self.measured(row)?;
        Some(match self.bound {
            Bound::AtMost => measured <= self.value,
            Bound::AtLeast => measured >= self.value,
        })
    }

    /// What is held against the bound; none if the peer was not there.
    fn measured(&self, row: &Row) -> Option<f64> {
        match self.against {
            Against::Absolute => Some(row.ours),
            Against::Peer(peer) => Some(row.ours / row.of(peer)?),
        }
    }
}

/// What was measured, and what was wanted.
pub struct Row {
    unit: &'static str,
    ours: f64,
    peers: Vec<(&'static str, f64)>,
    limit: Option<(&'static str, f64)>,
    target: Vec<Check>,
    /// Parts of the target that do not decide.
    wishes: Vec<Check>,
    /// Something else that has to be, such as that no descriptors are used.
    condition: Option<(String, bool)>,
}

impl Row {
    pub fn new(unit: &'static str, ours: f64) -> Self {
        let (peers, target, wishes) = (Vec::new(), Vec::new(), Vec::new());
        Self { unit, ours, peers, limit: None, target, wishes, condition: None }
    }

    /// From seconds per time, with what makes the unit of them. The contender of the name `limit` is the limit.
    pub fn of_contest(
        unit: &'static str,
        figures: &Figures,
        limit: Option<&'static str>,
        convert: impl Fn(f64) -> f64,
    ) -> Self {
        let mut row = Self::new(unit, f64::NAN);
        for (name, seconds) in figures.iter() {
            let value = convert(seconds);
            match name {
                OURS => row.ours = value,
                _ if Some(name) == limit => row.limit = Some((name, value)),
                _ => row.peers.push((name, value)),
            }
        }
        row
    }

    pub fn peer(mut self, name: &'static str, value: Option<f64>) -> Self {
        self.peers.extend(value.map(|value| (name, value)));
        self
    }

    pub fn limit(mut self, name: &'static str, value: f64) -> Self {
        self.limit = Some((name, value));
        self
    }

    /// All of it has to be.
    pub fn target(mut self, checks: impl IntoIterator<Item = Check>) -> Self {
        self.target.extend(checks);
        self
    }

    /// What is reported and does not decide.
    pub fn wish(mut self, check: Check) -> Self {
        self.wishes.push(check);
        self
    }

    pub fn condition(mut self, text: impl Into<String>, holds: bool) -> Self {
        self.condition = Some((text.into(), holds));
        self
    }

    fn of(&self, peer: &str) -> Option<f64> {
        self.peers.iter().chain(&self.limit).find(|(name, _)| *name == peer).map(|(_, value)| *value)
    }

    /// Ratios decide, and absolute bounds where there is no ratio, or nobody to compare with. None if there is neither.
    fn holds(&self) -> Option<bool> {
        let results = |wanted: fn(&Against) -> bool| -> Vec<bool> {
            let checks = self.target.iter().filter(|check| wanted(&check.against));
            checks.filter_map(|check| check.holds(self)).collect()
        };
        let mut decisive = results(|against| matches!(against, Against::Peer(_)));
        if decisive.is_empty() {
            decisive = results(|against| matches!(against, Against::Absolute));
        }
        decisive.extend(self.condition.as_ref().map(|(_, holds)| *holds));
        (!decisive.is_empty()).then(|| decisive.into_iter().all(|holds| holds))
    }

    fn target_text(&self) -> String {
        let checks = self.target.iter().map(|check| check.text(self.unit));
        let wishes = self.wishes.iter().map(|check| format!("wished: {}", check.text(self.unit)));
        let condition = self.condition.iter().map(|(text, _)| text.clone());
        checks.chain(condition).chain(wishes).collect::<Vec<_>>().join(", ")
    }

    /// The target with what was measured.
    fn findings(&self) -> String {
        let finding = |check: &Check| {
            let found = match (check.measured(self), check.holds(self)) {
                (Some(measured), Some(holds)) => {
                    let measured = match check.against {
                        Against::Peer(_) if measured < 0.2 => format!("1/{}", figure(1.0 / measured)),
                        Against::Peer(_) => format!("{}×", figure(measured)),
                        Against::Absolute => figure(measured),
                    };
                    format!("{measured}{}", if holds { "" } else { ", missed" })
                }
                _ => "not measured here".to_owned(),
            };
            format!("{} ({found})", check.text(self.unit))
        };
        let checks = self.target.iter().map(&finding);
        let wishes = self.wishes.iter().map(|check| format!("wished: {}", finding(check)));
        let condition = self
            .condition
            .iter()
            .map(|(text, holds)| format!("{text} ({})", if *holds { "so it is" } else { "missed" }));
        checks.chain(condition).chain(wishes).collect::<Vec<_>>().join(", ")
    }

    /// The peers that have no column.
    fn others(&self) -> String {
        let others = self.peers.iter().filter(|(name, _)| !COLUMNS.contains(name));
        others.map(|(name, value)| format!("{name} {}", figure(*value))).collect::<Vec<_>>().join(", ")
    }
}

/// Three digits, whatever the size: more are noise.
pub fn figure(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-3).log10().floor() as i32;
    if digits > 0 {
        let text = format!("{value:.*}", digits as usize);
        // Zeros at the end say nothing.
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return text.to_owned();
    }
    let unit = 10f64.powi(-digits);
    format!("{:.0}", (value / unit).round() * unit)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Markdown,
}

impl Format {
    pub fn print_head(self) {
        match self {
            Self::Json => {}
            Self::Text => {
                let names = COLUMNS.map(|name| format!("{name:>20}")).concat();
                println!("{:<34} {:<9} {:>9} {names} {:>9}  holds", "measure", "unit", OURS, "limit");
            }
            Self::Markdown => {
                println!(
                    "| measure | unit | {OURS} | {} | others | limit | target (here) | holds |",
                    COLUMNS.join(" | ")
                );
                println!("|---|---|{}|---|---|---|---|", vec!["---:"; 1 + COLUMNS.len()].join("|"));
            }
        }
    }

    pub fn print(self, measure: &str, row: &Row) {
        let holds = match row.holds() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        let cells = COLUMNS.map(|name| row.of(name).map_or_else(String::new, figure));
        match self {
            Self::Text => {
                let cells = cells.map(|cell| format!("{cell:>20}")).concat();
                let limit = row.limit.map_or_else(String::new, |(_, value)| figure(value));
                println!("{measure:<34} {:<9} {:>9} {cells} {limit:>9}  {holds}", row.unit, figure(row.ours));
                println!("    target: {}", row.findings());
                let limit = row.limit.map(|(name, _)| format!("limit: {name}"));
                let others = Some(row.others()).filter(|others| !others.is_empty());
                let rest: Vec<_> = others.map(|others| format!("also: {others}")).into_iter().chain(limit).collect();
                if !rest.is_empty() {
                    println!("    {}", rest.join("; "));
                }
            }
            Self::Markdown => {
                let limit = row.limit.map_or_else(String::new, |(name, value)| format!("{} ({name})", figure(value)));
                let (unit, ours, others) = (row.unit, figure(row.ours), row.others());
                let (cells, findings) = (cells.join(" | "), row.findings());
                println!("| {measure} | {unit} | {ours} | {cells} | {others} | {limit} | {findings} | {holds} |");
            }
            Self::Json => {
                // None of the texts has anything to escape, and Rust's notation of a number is JSON's.
                let peers = row.peers.iter().map(|(name, value)| format!("\"{name}\": {}", figure(*value)));
                let peers = peers.collect::<Vec<_>>().join(", ");
                let limit = row.limit.map_or("null".to_owned(), |(_, value)| figure(value));
                let holds = row.holds().map_or("null".to_owned(), |holds| holds.to_string());
                let (unit, ours, target) = (row.unit, figure(row.ours), row.target_text());
                println!(
                    "{{\"measure\": \"{measure}\", \"unit\": \"{unit}\", \"ours\": {ours}, \"peers\": {{{peers}}}, \
                     \"limit\": {limit}, \"target\": \"{target}\", \"holds\": {holds}}}"
                );
            }
        }
    }
}
