//! The report as text.

use std::fmt::Write;

use super::{Report, Row, Runtime, Verdict};

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Known => "known",
        Verdict::Skip => "skip",
    }
}

/// One result, for those who watch.
#[must_use]
pub fn line(row: &Row, runtime: &Runtime) -> String {
    let Some(cell) = row.cells.first() else { return String::new() };
    let mut text =
        format!("{:5} {}: {}: {}", word(cell.verdict), runtime.label, row.section, row.name);
    if cell.verdict == Verdict::Skip {
        let _: std::fmt::Result = write!(text, " ({})", cell.text);
    }
    text
}

/// The summary: counts by section, then each failure with what was seen, known deviations, and why cases were skipped;
/// at the end one line about the runtime that is judged.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    write_all(report, &mut out).unwrap_or_default();
    out
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{} on Linux {}", report.date, report.kernel)?;
    for (index, runtime) in report.runtimes.iter().enumerate() {
        writeln!(out, "\n{} ({}, {})", runtime.label, runtime.version, runtime.path.display())?;
        table(report, index, out)?;
        details(report, index, out)?;
    }
    let c = report.counts(0, None);
    let word = if c.fail == 0 { "ok" } else { "FAILED" };
    // As libtest says it, so that who adds up those lines adds up this one, too.
    writeln!(
        out,
        "\ntest result: {word}. {} passed; {} failed; {} deviations with a reason; {} skipped",
        c.pass, c.fail, c.known, c.skip
    )
}

fn table(report: &Report, runtime: usize, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {:20} {:>5} {:>5} {:>5} {:>5}", "section", "pass", "fail", "known", "skip")?;
    let sections = report.sections();
    let rows = sections.iter().map(|s| (*s, Some(*s))).chain([("all", None)]);
    for (name, section) in rows {
        let c = report.counts(runtime, section);
        writeln!(out, "  {name:20} {:>5} {:>5} {:>5} {:>5}", c.pass, c.fail, c.known, c.skip)?;
    }
    Ok(())
}

fn details(report: &Report, runtime: usize, out: &mut String) -> std::fmt::Result {
    for verdict in [Verdict::Fail, Verdict::Known, Verdict::Skip] {
        for row in report.rows.iter().filter(|r| r.cells[runtime].verdict == verdict) {
            let text = row.cells[runtime].text.trim_end().replace('\n', "\n        ");
            writeln!(
                out,
                "  {} {}: {} [{}]\n        {text}",
                word(verdict),
                row.section,
                row.name,
                row.spec
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;

    #[test]
    fn last_line_counts_the_judged_runtime_alone_as_libtest_does() {
        let cell = |verdict| Cell { verdict, text: String::new(), millis: 0 };
        let row = |first| Row {
            section: "s",
            name: "n".into(),
            spec: "",
            cells: vec![cell(first), cell(Verdict::Fail)],
        };
        let runtime = || Runtime { label: "x".into(), path: "/x".into(), version: "x 1".into() };
        let rows = [Verdict::Pass, Verdict::Pass, Verdict::Known, Verdict::Skip].map(row).into();
        let text = text(&Report::new(vec![runtime(), runtime()], rows));
        assert_eq!(
            text.lines().last(),
            Some("test result: ok. 2 passed; 0 failed; 1 deviations with a reason; 1 skipped")
        );
    }
}
