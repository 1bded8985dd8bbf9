//! The report as JUnit's XML: a test suite for each runtime.

use std::fmt::Write;

use super::{Report, Verdict};

/// Text for XML and HTML: what has a meaning there is escaped, and what may not be there is replaced.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The report.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    write_all(report, &mut out).unwrap_or_default();
    out.push_str("</testsuites>\n");
    out
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    for (index, runtime) in report.runtimes.iter().enumerate() {
        let c = report.counts(index, None);
        writeln!(
            out,
            "<testsuite name=\"{}\" timestamp=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(&runtime.label),
            report.date.trim_end_matches('Z'),
            report.rows.len(),
            c.fail,
            c.skip + c.known
        )?;
        for row in &report.rows {
            let cell = &row.cells[index];
            let (seconds, millis) = (cell.millis / 1000, cell.millis % 1000);
            write!(
                out,
                "<testcase classname=\"{}\" name=\"{}\" time=\"{seconds}.{millis:03}\">",
                escaped(row.section),
                escaped(&row.name)
            )?;
            let text = escaped(&cell.text);
            match cell.verdict {
                Verdict::Pass => {}
                Verdict::Fail => {
                    write!(out, "<failure message=\"{}\">{text}</failure>", escaped(row.spec))?
                }
                Verdict::Known => write!(out, "<skipped message=\"known deviation: {text}\"/>")?,
                Verdict::Skip => write!(out, "<skipped message=\"{text}\"/>")?,
            }
            writeln!(out, "</testcase>")?;
        }
        writeln!(out, "</testsuite>")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_markup_do_not_reach_the_document() {
        assert_eq!(escaped("a<b>&\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;\u{fffd}\n");
    }
}
