//! Measures runtimes side by side, from outside, in the way engines use them.
//!
//! Every round runs each runtime once, in turn and beginning with another one each time, so that a machine that gets
//! slower or faster meanwhile does so for all. Medians are compared, never means: one late wake-up must not count.

mod config;
mod measure;
pub mod meter;
mod report;

use std::path::{Path, PathBuf};

use nix::sys::prctl;

use crate::tmp::TempDir;
use measure::Subject;

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// Names and programs. The first is what the others are compared with.
    pub runtimes: Vec<(String, PathBuf)>,
    /// The program that does the bare kernel work, given a root filesystem.
    pub floor: Option<PathBuf>,
    /// Rounds that count.
    pub rounds: usize,
    /// The directory with a config.json, or a config file; Docker's default config if none.
    pub bundle: Option<PathBuf>,
    /// Whether `strace` counts system calls.
    pub strace: bool,
}

/// Rounds that only warm the caches.
const WARM_UP: usize = 3;

/// Measures, and prints a table of text and one of markdown.
///
/// # Errors
/// Where a runtime fails: the message has its command and what it said.
pub fn bench(options: &Options) -> Result<(), String> {
    prctl::set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
    let dir = TempDir::new("orlop-bench");
    let bundle = config::bundle(dir.path(), options.bundle.as_deref())?;
    let mut subjects: Vec<Subject> = options
        .runtimes
        .iter()
        .map(|(name, program)| Subject::runtime(name, program, dir.path(), &bundle))
        .collect();
    if let Some(program) = &options.floor {
        subjects.push(Subject::floor(program, dir.path(), &bundle));
    }
    for (name, _) in &options.runtimes {
        config::holder(&bundle, dir.path(), name)?;
    }
    let measured = rounds(&mut subjects, options.rounds);
    // Also after a failure: nothing may stay.
    let gone = subjects.iter_mut().map(Subject::let_go).fold(Ok(()), Result::and);
    measured.and(gone)?;
    for subject in &mut subjects {
        subject.memory()?;
        if options.strace {
            subject.system_calls()?;
        }
    }
    let meter_floor = meter::floor(dir.path())?;
    report::print(&subjects, options.rounds, meter_floor);
    cleanup(&bundle);
    Ok(())
}

fn rounds(subjects: &mut [Subject], count: usize) -> Result<(), String> {
    subjects.iter_mut().try_for_each(Subject::hold)?;
    for round in 0..WARM_UP + count {
        let first = round % subjects.len();
        for i in 0..subjects.len() {
            let index = (first + i) % subjects.len();
            subjects[index].round(round >= WARM_UP)?;
        }
    }
    Ok(())
}

/// Removes the empty directory above the containers' cgroups.
fn cleanup(bundle: &Path) {
    let _: std::io::Result<()> = std::fs::remove_dir(config::CGROUP_PARENT);
    debug_assert!(bundle.exists());
}
