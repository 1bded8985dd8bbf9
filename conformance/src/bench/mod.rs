//! Measures runtimes side by side, from outside, in the way engines use them.
//!
//! Every round runs each runtime once, in turn and beginning with another one each time, so that a machine that gets
//! slower or faster meanwhile does so for all. Medians are compared, never means: one late wake-up must not count.

mod budgets;
mod chart;
mod config;
mod host;
mod least_memory;
mod measure;
pub mod meter;
mod report;
mod stage;

use std::path::PathBuf;

use nix::sys::prctl;

use crate::run::in_path;
use crate::suite::host::{CGROUPS, enter_view};
use crate::suite::report::Runtime;
use crate::tmp::TempDir;
use measure::Subject;
use report::Results;
use stage::Stage;

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// The runtimes. The first is what the others are compared with.
    pub runtimes: Vec<Runtime>,
    /// Rounds that count; in all stages but the first a quarter of it.
    pub rounds: usize,
    /// How many containers at a time: the first for the stages that differ in something else.
    pub jobs: Vec<usize>,
    /// How many mounts the host has in addition; likewise.
    pub host_mounts: Vec<usize>,
    /// Whether to measure with dropped caches, too.
    pub cold: bool,
    /// The directory with a config.json, or a config file; Docker's default config if none.
    pub bundle: Option<PathBuf>,
    /// Whether `strace` counts system calls.
    pub strace: bool,
}

/// What was measured, as documents.
#[derive(Debug)]
pub struct Report {
    /// Tables in Markdown.
    pub markdown: String,
    /// A picture in SVG.
    pub chart: String,
}

/// Rounds that only warm the caches.
const WARM_UP: usize = 2;

/// Measures, in a mount namespace of its own.
///
/// # Errors
/// Where a runtime fails: the message has its command and what it said.
pub fn bench(options: &Options) -> Result<Report, String> {
    enter_view()?;
    prctl::set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
    let dir = TempDir::new("orlop-bench");
    let slots = options.jobs.iter().copied().max().unwrap_or(1);
    let bundles = config::bundles(dir.path(), options.bundle.as_deref(), slots)?;
    let mut subjects = Vec::new();
    for runtime in &options.runtimes {
        config::holder(&bundles, dir.path(), &runtime.label)?;
        subjects.push(Subject::runtime(runtime, dir.path(), &bundles));
    }
    subjects.extend(Subject::floor(dir.path(), &bundles)?);
    let (stages, mut notes) = stage::all(options);
    let mut mounts = host::Mounts::new(dir.path())?;
    let measured = all(&mut subjects, &stages, &mut mounts, options);
    // Also after a failure: nothing may stay.
    let gone = subjects.iter_mut().map(Subject::let_go).fold(Ok(()), Result::and);
    drop(mounts);
    let cgroup = format!("{CGROUPS}{}", config::cgroup_parent());
    let swept = std::fs::remove_dir(&cgroup);
    measured.and(gone)?;
    swept.map_err(|e| format!("{cgroup}: {e}"))?;
    notes.push(format!("peak RSS is blind below {} KiB", meter::floor(dir.path())?));
    let results = Results { stages, subjects, rounds: options.rounds, notes };
    Ok(Report { markdown: report::markdown(&results), chart: chart::svg(&results) })
}

fn all(
    subjects: &mut [Subject],
    stages: &[Stage],
    mounts: &mut host::Mounts,
    options: &Options,
) -> Result<(), String> {
    subjects.iter_mut().try_for_each(Subject::hold)?;
    for (index, stage) in stages.iter().enumerate() {
        mounts.grow(stage.mounts)?;
        let rounds = if index == 0 { options.rounds } else { options.rounds.div_ceil(4) };
        for round in 0..WARM_UP + rounds {
            for i in 0..subjects.len() {
                let turn = (round + i) % subjects.len();
                subjects[turn].round(index, stage, round >= WARM_UP)?;
            }
        }
        if index == 0 {
            for subject in subjects.iter_mut() {
                once(subject, options)?;
            }
        }
    }
    Ok(())
}

/// What does not vary with the load: it is measured in the first stage.
fn once(subject: &mut Subject, options: &Options) -> Result<(), String> {
    subject.memory()?;
    // Without strace it is said as of a budget that was not measured.
    if options.strace && in_path("strace").is_some() {
        subject.system_calls()?;
    }
    least_memory::find(subject)
}
