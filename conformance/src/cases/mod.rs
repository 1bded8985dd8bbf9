//! The cases: one file for each section, one line of a table or one small function for each case.

mod attacks;
mod capabilities;
mod cgroups;
mod devices;
mod errors;
mod exec;
mod features;
mod hooks;
mod labels;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod rlimits;
mod seccomp;
mod terminal;

use std::sync::OnceLock;
use std::time::Duration;

use crate::suite::host::CGROUPS;
use crate::suite::{Case, Kind, Section};

static RACE: OnceLock<u64> = OnceLock::new();

/// Says how long a race is run, in seconds.
pub fn race_for(seconds: u64) {
    // A second choice has no effect; the command line gives one.
    let _: Result<(), u64> = RACE.set(seconds);
}

/// How long a race is run.
#[must_use]
pub fn race_time() -> Duration {
    Duration::from_secs(RACE.get().copied().unwrap_or(3))
}

fn section<'l>(list: &'l mut Vec<Case>, name: &'static str, spec: &'static str) -> Section<'l> {
    Section::new(list, Kind::Conformance, name, spec)
}

/// All cases, in the order of the report.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut list = Vec::new();
    for add in [
        lifecycle::add,
        process::add,
        rlimits::add,
        capabilities::add,
        namespaces::add,
        mounts::add,
        mount_options::add,
        devices::add,
        paths::add,
        labels::add,
        hooks::add,
        seccomp::add,
        cgroups::add,
        terminal::add,
        exec::add,
        features::add,
        errors::add,
        attacks::add,
    ] {
        add(&mut list);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_differ() {
        let mut titles: Vec<String> = all().iter().map(Case::title).collect();
        let all = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), all);
    }
}
