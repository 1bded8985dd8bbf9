//! What came out, as text, JSON, JUnit's XML and HTML.

mod html;
mod junit;
mod text;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use html::html;
pub(crate) use junit::escaped;
pub use junit::junit;
pub use text::{line, text};

/// A runtime that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Runtime {
    /// What the report calls it.
    pub label: String,
    /// The program.
    pub path: PathBuf,
    /// Its name and version.
    pub version: String,
}

/// What is said of a case with a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The sentence is true.
    Pass,
    /// It is not.
    Fail,
    /// It is not, which is known, with a reason why the sentence is right.
    Known,
    /// It could not be tried.
    Skip,
}

/// A case with a runtime.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The word.
    pub verdict: Verdict,
    /// Why, where it is not a pass.
    pub text: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A case with all runtimes.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The part of the suite.
    pub section: &'static str,
    /// The sentence.
    pub name: String,
    /// Where it is written.
    pub spec: &'static str,
    /// One for each runtime.
    pub cells: Vec<Cell>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When, in UTC (RFC 3339).
    pub date: String,
    /// The kernel's version.
    pub kernel: String,
    /// The runtimes, in the order of the cells.
    pub runtimes: Vec<Runtime>,
    /// The cases.
    pub rows: Vec<Row>,
}

/// Counts of verdicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How many sentences are true.
    pub pass: usize,
    /// How many are not.
    pub fail: usize,
    /// How many are not, as is known.
    pub known: usize,
    /// How many could not be tried.
    pub skip: usize,
}

impl Report {
    /// The report of what was run just now.
    #[must_use]
    pub fn new(runtimes: Vec<Runtime>, rows: Vec<Row>) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { date: now(), kernel: kernel.trim().to_owned(), runtimes, rows }
    }

    /// The sections in order.
    #[must_use]
    pub fn sections(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.section) {
                names.push(row.section);
            }
        }
        names
    }

    /// Counts for a runtime, of one section or of all.
    #[must_use]
    pub fn counts(&self, runtime: usize, section: Option<&str>) -> Counts {
        let mut counts = Counts::default();
        for row in self.rows.iter().filter(|r| section.is_none_or(|s| s == r.section)) {
            match row.cells[runtime].verdict {
                Verdict::Pass => counts.pass += 1,
                Verdict::Fail => counts.fail += 1,
                Verdict::Known => counts.known += 1,
                Verdict::Skip => counts.skip += 1,
            }
        }
        counts
    }

    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// The time in UTC, to the second.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut rest) = (1970, days);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    format!(
        "{year}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        rest + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
