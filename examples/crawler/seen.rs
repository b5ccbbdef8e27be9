//! Which pages were found, and how far each has come: an object in a process of its own, which all others use.

use pool_runtime::managed;
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Found,
    Begun,
    Done,
}

/// The pages that were found.
pub struct Seen(HashMap<String, Progress>);

#[managed]
impl Seen {
    /// None yet.
    pub fn new() -> Self {
        Self(HashMap::new())
    }

    /// Adds pages, and returns those that nobody has found before: who adds them is to have them fetched.
    pub fn add(&mut self, urls: &[String]) -> Vec<String> {
        let mut new = Vec::new();
        for url in urls {
            if !self.0.contains_key(url) {
                self.0.insert(url.clone(), Progress::Found);
                new.push(url.clone());
            }
        }
        new
    }

    /// Somebody fetches this page.
    pub fn begin(&mut self, url: &str) {
        self.0.insert(url.to_owned(), Progress::Begun);
    }

    /// It is done.
    pub fn end(&mut self, url: &str) {
        self.0.insert(url.to_owned(), Progress::Done);
    }

    /// Those that were begun and are not done.
    pub fn begun(&self) -> Vec<String> {
        let begun = self.0.iter().filter(|(_, progress)| **progress == Progress::Begun);
        begun.map(|(url, _)| url.clone()).collect()
    }
}
