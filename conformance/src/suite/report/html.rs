//! The report as one HTML page: a table with a column for each runtime.

use std::fmt::Write;

use super::junit::escaped;
use super::{Report, Verdict};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}\
table{border-collapse:collapse;width:100%;margin:1em 0}th,td{border:1px solid #ddd;padding:.25em .6em;text-align:left;\
vertical-align:top}th{background:#f4f4f4}td.pass{background:#e3f4e3}td.fail{background:#f9d6d5}td.known{background:#fdf0cf}\
td.skip{background:#eee;color:#555}details{max-width:28em}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px}\
small{color:#666}";

/// The report.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>OCI runtime conformance</title>\
         <style>{STYLE}</style></head><body>\n<h1>OCI runtime conformance</h1>\n<p>{} on Linux {}.</p>\n",
        escaped(&report.date),
        escaped(&report.kernel)
    );
    write_all(report, &mut out).unwrap_or_default();
    out.push_str("</body></html>\n");
    out
}

fn head(report: &Report, first: &str, out: &mut String) -> std::fmt::Result {
    write!(out, "<table><tr><th>{first}</th>")?;
    for runtime in &report.runtimes {
        let (label, version) = (escaped(&runtime.label), escaped(&runtime.version));
        write!(out, "<th>{label}")?;
        if label != version {
            write!(out, "<br><small>{version}</small>")?;
        }
        write!(out, "</th>")?;
    }
    writeln!(out, "</tr>")
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    head(report, "Section", out)?;
    let sections = report.sections();
    for (name, section) in sections.iter().map(|s| (*s, Some(*s))).chain([("all", None)]) {
        write!(
            out,
            "<tr><td>{}</td>",
            section
                .map_or_else(|| escaped(name), |s| format!("<a href=\"#{0}\">{0}</a>", escaped(s)))
        )?;
        for index in 0..report.runtimes.len() {
            let c = report.counts(index, section);
            let class = if c.fail > 0 {
                "fail"
            } else if c.known > 0 {
                "known"
            } else if c.pass > 0 {
                "pass"
            } else {
                "skip"
            };
            write!(out, "<td class=\"{class}\">{} pass", c.pass)?;
            for (count, word) in [(c.fail, "fail"), (c.known, "known"), (c.skip, "skipped")] {
                if count > 0 {
                    write!(out, ", {count} {word}")?;
                }
            }
            write!(out, "</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")?;
    sections.iter().try_for_each(|section| detail(report, section, out))
}

fn detail(report: &Report, section: &str, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h2 id=\"{0}\">{0}</h2>", escaped(section))?;
    head(report, "Case", out)?;
    for row in report.rows.iter().filter(|r| r.section == section) {
        write!(out, "<tr><td>{}<br><small>{}</small></td>", escaped(&row.name), escaped(row.spec))?;
        for cell in &row.cells {
            let (class, word) = match cell.verdict {
                Verdict::Pass => ("pass", "pass"),
                Verdict::Fail => ("fail", "fail"),
                Verdict::Known => ("known", "known deviation"),
                Verdict::Skip => ("skip", "skipped"),
            };
            write!(out, "<td class=\"{class}\">")?;
            if cell.text.is_empty() {
                write!(out, "{word}")?;
            } else {
                let text = escaped(&cell.text);
                write!(out, "<details><summary>{word}</summary><pre>{text}</pre></details>")?;
            }
            write!(out, "</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")
}
