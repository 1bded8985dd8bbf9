//! The suite: a list of cases, each a sentence about the runtime-spec that a runtime keeps or does not.
//!
//! A case is a function that panics where the runtime is wrong. It runs in a process of its own ([`child`]), so it may
//! change its umask, leak descriptors or hang; the [`runner`] starts these processes, ends them in time and takes away
//! what they leave.

pub mod child;
pub mod host;
pub mod known;
pub mod payload;
pub mod report;
pub mod runner;
pub mod sweep;

use serde::{Deserialize, Serialize};

use crate::Test;
use host::Need;

/// What a case is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It says whether the runtime keeps the specification.
    Conformance,
    /// It says whether the runtime withstands an attack.
    Attack,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The sentence is true.
    Pass,
    /// It is not, and why.
    Fail(String),
    /// It cannot be tried here, and why.
    Skip(String),
}

type Work = Box<dyn Fn(&Test) + Send + Sync>;

/// One sentence about a runtime.
pub struct Case {
    /// Conformance or attack.
    pub kind: Kind,
    /// The part of the suite.
    pub section: &'static str,
    /// The sentence.
    pub name: String,
    /// Where it is written: a file and heading of the runtime-spec, or the runc command line, or an advisory.
    pub spec: &'static str,
    /// What the host must have.
    pub needs: Vec<Need>,
    run: Work,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("section", &self.section)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Case {
    /// Tries it; panics where it is not true.
    pub fn run(&self, test: &Test) {
        (self.run)(test);
    }

    /// Adds what it needs of the host.
    pub fn needs(&mut self, need: Need) -> &mut Self {
        self.needs.push(need);
        self
    }

    /// Names another place where it is written than its section does.
    pub fn at(&mut self, spec: &'static str) -> &mut Self {
        self.spec = spec;
        self
    }

    /// What `--filter` looks at.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.section, self.name)
    }
}

/// The cases of a section, being listed.
#[derive(Debug)]
pub struct Section<'l> {
    list: &'l mut Vec<Case>,
    kind: Kind,
    name: &'static str,
    spec: &'static str,
}

impl<'l> Section<'l> {
    /// Begins a section whose cases are written down at `spec`, if they do not say otherwise.
    #[must_use]
    pub fn new(
        list: &'l mut Vec<Case>,
        kind: Kind,
        name: &'static str,
        spec: &'static str,
    ) -> Self {
        Self { list, kind, name, spec }
    }

    /// Says where the cases from here on are written down.
    pub fn section_at(&mut self, spec: &'static str) {
        self.spec = spec;
    }

    /// Adds a case.
    pub fn case(
        &mut self,
        name: impl Into<String>,
        run: impl Fn(&Test) + Send + Sync + 'static,
    ) -> &mut Case {
        self.list.push(Case {
            kind: self.kind,
            section: self.name,
            name: name.into(),
            spec: self.spec,
            needs: Vec::new(),
            run: Box::new(run),
        });
        self.list.last_mut().expect("just pushed")
    }
}

/// What a case panics with where it finds that it cannot be tried here.
#[derive(Debug)]
pub struct Skipped(pub String);

/// Ends the case: it cannot be tried here.
///
/// # Panics
/// Always: that is how it ends.
pub fn skip(reason: impl Into<String>) -> ! {
    std::panic::panic_any(Skipped(reason.into()))
}
