//! The tables.

use super::measure::{COLUMNS, Subject};

fn cells(subject: &Subject, base: Option<&Subject>) -> Vec<String> {
    COLUMNS
        .iter()
        .map(|(column, _)| {
            let value = subject.median(column);
            let divisor = base.map_or(Some(1.0), |b| b.median(column));
            match (value, divisor) {
                (Some(v), Some(d)) if base.is_some() && d > 0.0 => format!("{:.2}", v / d),
                (Some(v), _) if *column == "syscalls" && base.is_none() => format!("{v:.0}"),
                (Some(v), _) if base.is_none() => format!("{v:.2}"),
                _ => "-".to_owned(),
            }
        })
        .collect()
}

fn heading() -> Vec<String> {
    COLUMNS
        .iter()
        .map(
            |(name, unit)| if unit.is_empty() { (*name).into() } else { format!("{name}, {unit}") },
        )
        .collect()
}

/// Prints medians and ratios as text, then the same as markdown.
pub(super) fn print(subjects: &[Subject], rounds: usize, meter_floor: u64) {
    let Some(base) = subjects.first() else { return };
    let ratio = format!("ratio to {}", base.name);
    println!("medians of {rounds} interleaved rounds; peak RSS is blind below {meter_floor} KiB");
    text("median", &heading(), subjects, None);
    text(&ratio, &heading(), subjects, Some(base));
    let floor = subjects.iter().find(|s| s.is_floor());
    let to_floor = "ratio to the floor";
    if floor.is_some() {
        text(to_floor, &heading(), subjects, floor);
    }
    println!();
    markdown("median", &heading(), subjects, None);
    println!();
    markdown(&ratio, &heading(), subjects, Some(base));
    if floor.is_some() {
        println!();
        markdown(to_floor, &heading(), subjects, floor);
    }
}

fn text(title: &str, heading: &[String], subjects: &[Subject], base: Option<&Subject>) {
    let row = |name: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|c| format!("{c:>14}")).collect();
        println!("{name:<22}{cells}");
    };
    row(title, heading);
    subjects.iter().for_each(|s| row(&s.name, &cells(s, base)));
}

fn markdown(title: &str, heading: &[String], subjects: &[Subject], base: Option<&Subject>) {
    println!("| {title} | {} |", heading.join(" | "));
    println!("|---|{}", "---:|".repeat(heading.len()));
    subjects.iter().for_each(|s| println!("| {} | {} |", s.name, cells(s, base).join(" | ")));
}
