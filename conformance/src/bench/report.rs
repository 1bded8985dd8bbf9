//! The tables.

use std::fmt::Write;

use super::budgets;
use super::measure::{COLUMNS, EVERYWHERE, Subject};
use super::stage::{Stage, grouped};

/// What was measured, and where.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) stages: Vec<Stage>,
    /// The first is the runtime that is judged.
    pub(super) subjects: Vec<Subject>,
    pub(super) rounds: usize,
    pub(super) notes: Vec<String>,
}

/// A number with about three digits that count.
pub(super) fn number(value: f64) -> String {
    if value >= 1000.0 {
        // Whole numbers of this size are exact.
        format!("{value:.0}").parse().map_or_else(|_| format!("{value:.0}"), grouped)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

fn row(out: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    // Writing to a string cannot fail.
    let _: std::fmt::Result = writeln!(out, "| {} |", cells.join(" | "));
}

fn head(out: &mut String, first: &str, rest: impl IntoIterator<Item = String>) {
    let rest: Vec<String> = rest.into_iter().collect();
    let rule = "---:|".repeat(rest.len());
    row(out, std::iter::once(first.to_owned()).chain(rest));
    let _: std::fmt::Result = writeln!(out, "|---|{rule}");
}

/// The processor, as the kernel names it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|l| l.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned()
}

/// All tables, in Markdown.
pub(super) fn markdown(results: &Results) -> String {
    let mut out = circumstances(results);
    out.push('\n');
    promises(results, &mut out);
    out.push('\n');
    first_stage(results, None, &mut out);
    out.push('\n');
    if results.subjects.len() > 1 {
        first_stage(results, results.subjects.first(), &mut out);
        out.push('\n');
    }
    if results.stages.len() > 1 {
        EVERYWHERE.iter().for_each(|column| all_stages(results, column, &mut out));
    }
    out
}

fn circumstances(results: &Results) -> String {
    let report = crate::suite::report::Report::new(Vec::new(), Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let others = results.rounds.div_ceil(4);
    let mut out = format!(
        "{}, Linux {}, {} processors ({}); medians of {} interleaved rounds",
        report.date,
        report.kernel,
        processors,
        processor(),
        results.rounds
    );
    if results.stages.len() > 1 {
        let _: std::fmt::Result = write!(out, ", {others} where circumstances differ");
    }
    let versions: Vec<String> = results
        .subjects
        .iter()
        .filter(|s| !s.is_floor())
        .map(|s| {
            if s.name == s.version {
                s.name.clone()
            } else {
                format!("{} is {}", s.name, s.version)
            }
        })
        .collect();
    let _: std::fmt::Result = writeln!(out, "; {}.", versions.join(", "));
    for note in &results.notes {
        let _: std::fmt::Result = writeln!(out, "\n{note}.");
    }
    out
}

fn promises(results: &Results, out: &mut String) {
    let name = results.subjects.first().map_or("", |s| s.name.as_str());
    head(out, &format!("budget of {name}"), ["at most", "measured", "kept"].map(str::to_owned));
    for budget in budgets::of(&results.subjects) {
        let kept = budget.kept.map_or("not measured", |kept| if kept { "yes" } else { "**no**" });
        row(out, [budget.what.to_owned(), budget.most, cell(budget.measured), kept.to_owned()]);
    }
}

/// A runtime in each row: medians, or ratios to `base`. Columns without any value are left out.
fn first_stage(results: &Results, base: Option<&Subject>, out: &mut String) {
    let measured = |c: &&(&'static str, &'static str)| {
        results.subjects.iter().any(|s| s.median(0, c.0).is_some())
    };
    let columns: Vec<_> = COLUMNS.iter().filter(measured).collect();
    let title = base.map_or("median".to_owned(), |b| format!("ratio to {}", b.name));
    let heading = |c: &&(&'static str, &'static str)| match (base, c.1) {
        (None, unit) if !unit.is_empty() => format!("{}, {unit}", c.0),
        _ => c.0.to_owned(),
    };
    head(out, &title, columns.iter().map(heading));
    for subject in &results.subjects {
        let value = |c: &&(&'static str, &'static str)| {
            let value = subject.median(0, c.0)?;
            match base {
                None => Some(value),
                Some(base) => base.median(0, c.0).filter(|b| *b > 0.0).map(|b| value / b),
            }
        };
        let cells = columns.iter().map(|c| cell(value(c)));
        row(out, std::iter::once(subject.name.clone()).chain(cells));
    }
}

/// A stage in each row, a runtime in each column.
fn all_stages(results: &Results, column: &'static str, out: &mut String) {
    let subjects: Vec<&Subject> =
        results.subjects.iter().filter(|s| s.median(0, column).is_some()).collect();
    head(out, &format!("{column}, ms"), subjects.iter().map(|s| s.name.clone()));
    for (index, stage) in results.stages.iter().enumerate() {
        let cells = subjects.iter().map(|s| cell(s.median(index, column)));
        row(out, std::iter::once(stage.name()).chain(cells));
    }
    out.push('\n');
}

#[cfg(test)]
pub(super) fn made_up() -> Results {
    let mut own = Subject::made_up("own", false);
    let mut peer = Subject::made_up("a <peer>", false);
    let mut floor = Subject::made_up("kernel floor", true);
    for (stage, factor) in [(0, 1.0), (1, 2.0)] {
        own.put(stage, "run", 7.654 * factor);
        peer.put(stage, "run", 59.43 * factor);
        floor.put(stage, "run", 3.5 * factor);
        own.put(stage, "exec", 3.8 * factor);
        peer.put(stage, "exec", 7.6 * factor);
    }
    peer.put(0, "system calls of run", 2941.0);
    own.put(0, "system calls of run", 375.0);
    let base = Stage { jobs: 1, mounts: 0, cold: false };
    let stages = vec![base.clone(), Stage { mounts: 10_000, ..base }];
    Results { stages, subjects: vec![own, peer, floor], rounds: 8, notes: vec!["a note".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_medians_ratios_and_each_stage() {
        let text = markdown(&made_up());
        for line in [
            "| own | 7.65 | 3.80 | 375 |",
            "| a <peer> | 59.4 | 7.60 | 2,941 |",
            "| kernel floor | 3.50 | - | - |",
            "| a <peer> | 7.76 | 2.00 | 7.84 |",
            "| 10,000 more host mounts | 15.3 | 119 | 7.00 |",
            "| run | 1.3 x the kernel floor | 2.19 | **no** |",
            "a note.",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
