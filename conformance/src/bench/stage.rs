//! The circumstances that runtimes are measured in.

use super::{Options, host};

/// One of them. The first of a run is the one that the others differ from in one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    /// How many containers at a time.
    pub(super) jobs: usize,
    /// How many mounts the host has in addition.
    pub(super) mounts: usize,
    /// Whether the kernel's caches are dropped before each command.
    pub(super) cold: bool,
}

/// 10000 as 10,000.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Stage {
    /// What it is called in tables.
    pub(super) fn name(&self) -> String {
        let mut parts = Vec::new();
        if self.jobs > 1 {
            parts.push(format!("{} at a time, each", self.jobs));
        }
        if self.mounts > 0 {
            parts.push(format!("{} more host mounts", grouped(self.mounts)));
        }
        if self.cold {
            parts.push("caches dropped".to_owned());
        }
        if parts.is_empty() { "one at a time, warm".to_owned() } else { parts.join(", ") }
    }
}

/// The stages that a command line asks for, with more and more mounts, and what of it cannot be had here.
pub(super) fn all(options: &Options) -> (Vec<Stage>, Vec<String>) {
    let jobs = options.jobs.first().copied().unwrap_or(1);
    let mut counts = options.host_mounts.clone();
    counts.sort_unstable();
    counts.dedup();
    let mounts = counts.first().copied().unwrap_or(0);
    let base = Stage { jobs, mounts, cold: false };
    let mut notes = Vec::new();
    let mut stages = vec![base.clone()];
    for jobs in options.jobs.iter().skip(1) {
        stages.push(Stage { jobs: *jobs, ..base.clone() });
    }
    if options.cold {
        match host::drop_caches() {
            Ok(()) => stages.push(Stage { cold: true, ..base.clone() }),
            Err(text) => notes.push(format!("not measured with dropped caches: {text}")),
        }
    }
    for mounts in counts.iter().skip(1) {
        stages.push(Stage { mounts: *mounts, ..base.clone() });
    }
    (stages, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_differ_from_the_first_in_one_thing_and_mounts_only_grow() {
        let options = Options {
            runtimes: Vec::new(),
            rounds: 1,
            jobs: vec![1, 8],
            host_mounts: vec![10_000, 0, 1_000],
            cold: false,
            bundle: None,
            strace: false,
        };
        let names: Vec<String> = all(&options).0.iter().map(Stage::name).collect();
        assert_eq!(
            names,
            [
                "one at a time, warm",
                "8 at a time, each",
                "1,000 more host mounts",
                "10,000 more host mounts"
            ]
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }
}
