//! The picture: a panel of bars for each thing that was measured, as SVG that suits light and dark pages.

use std::fmt::Write;

use super::measure::{EVERYWHERE, Subject};
use super::report::{Results, number};
use crate::suite::report::escaped;

/// Colours by CSS, which is asked for the page's scheme where the picture is shown; no background of its own.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:12px;fill:#57606a}\
.title{font-size:13px;font-weight:600;fill:#1f2328}.head{font-size:16px;font-weight:600;fill:#1f2328}\
.own{font-weight:600;fill:#1f2328}.value{font-variant-numeric:tabular-nums}.axis{stroke:#d0d7de}\
.bar{fill:#afb8c1}.bar.own{fill:#0b7a75}.bar.floor{fill:none;stroke:#afb8c1;stroke-dasharray:3 2}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}.title,.head,.own{fill:#f0f6fc}.axis{stroke:#3d444d}\
.bar{fill:#656c76}.bar.own{fill:#2bb8ae}.bar.floor{fill:none;stroke:#656c76}}";

/// Pixels.
const WIDTH: usize = 840;
const MARGIN: usize = 24;
const GAP: usize = 28;
const COLUMNS: usize = 3;
const LABEL: usize = 84;
const VALUE: usize = 46;
const LINE: usize = 20;

/// A thing that was measured, and by whom how much.
struct Panel<'a> {
    title: String,
    unit: &'static str,
    bars: Vec<(&'a Subject, f64)>,
}

fn panels(results: &Results) -> Vec<Panel<'_>> {
    let panel = |stage: usize, column: &str, title: String, unit| {
        let values = results.subjects.iter().filter_map(|s| Some((s, s.median(stage, column)?)));
        Panel { title, unit, bars: values.collect() }
    };
    let mut all: Vec<Panel<'_>> =
        EVERYWHERE.iter().map(|column| panel(0, column, (*column).to_owned(), "ms")).collect();
    for (index, stage) in results.stages.iter().enumerate().skip(1) {
        all.push(panel(index, "run", format!("run, {}", stage.name()), "ms"));
    }
    for (column, unit) in [
        ("system calls of run", ""),
        ("peak RSS of run", "MiB"),
        ("held by a created container (PSS)", "MiB"),
        ("least memory", "KiB"),
    ] {
        all.push(panel(0, column, column.to_owned(), unit));
    }
    all.retain(|panel| !panel.bars.is_empty());
    all
}

/// The picture.
pub(super) fn svg(results: &Results) -> String {
    let panels = panels(results);
    let panel_width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;
    let most = panels.iter().map(|p| p.bars.len()).max().unwrap_or(0);
    let panel_height = 30 + most * LINE + 18;
    let height = 64 + panels.len().div_ceil(COLUMNS) * panel_height + 8;
    let names: Vec<String> = results
        .subjects
        .iter()
        .map(|s| {
            if s.is_floor() || s.name == s.version {
                s.name.clone()
            } else {
                format!("{}: {}", s.name, s.version)
            }
        })
        .collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"t d\">\n<title id=\"t\">Container runtimes side by side</title>\n\
         <desc id=\"d\">{}</desc>\n<style>{STYLE}</style>\n\
         <text class=\"head\" x=\"{MARGIN}\" y=\"28\">Container runtimes side by side</text>\n\
         <text x=\"{MARGIN}\" y=\"47\">Medians; shorter is better. {}</text>\n",
        escaped(&description(&panels)),
        escaped(&names.join(" · "))
    );
    for (index, panel) in panels.iter().enumerate() {
        let x = MARGIN + index % COLUMNS * (panel_width + GAP);
        let y = 64 + index / COLUMNS * panel_height;
        // Writing to a string cannot fail.
        let _: std::fmt::Result = draw(panel, (x, y), panel_width, &results.subjects, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

/// The figures in words, for those who cannot see the picture.
fn description(panels: &[Panel<'_>]) -> String {
    let words = |panel: &Panel<'_>| {
        let bars = panel.bars.iter().map(|(s, v)| format!("{} {}", s.name, number(*v)));
        format!("{} ({}): {}.", panel.title, panel.unit, bars.collect::<Vec<_>>().join(", "))
    };
    panels.iter().map(words).collect::<Vec<_>>().join(" ").replace(" ()", "")
}

fn draw(
    panel: &Panel<'_>,
    (x, y): (usize, usize),
    width: usize,
    subjects: &[Subject],
    out: &mut String,
) -> std::fmt::Result {
    let unit = if panel.unit.is_empty() { String::new() } else { format!(", {}", panel.unit) };
    writeln!(
        out,
        "<text class=\"title\" x=\"{x}\" y=\"{}\">{}{unit}</text>",
        y + 18,
        escaped(&panel.title)
    )?;
    let longest = panel.bars.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    let room = f64::from(u16::try_from(width - LABEL - VALUE).unwrap_or(u16::MAX));
    let top = y + 28;
    for (index, (subject, value)) in panel.bars.iter().enumerate() {
        let line = top + index * LINE;
        let own = subjects.first().is_some_and(|first| std::ptr::eq(first, *subject));
        let class = if own {
            " own"
        } else if subject.is_floor() {
            " floor"
        } else {
            ""
        };
        let length = if longest > 0.0 { (value / longest * room).max(1.0) } else { 1.0 };
        writeln!(
            out,
            "<text class=\"label{class}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar{class}\" x=\"{}\" y=\"{}\" width=\"{length:.1}\" height=\"12\" rx=\"2\"/>\
             <text class=\"value{class}\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x + LABEL - 8,
            line + 13,
            escaped(&shortened(&subject.name)),
            x + LABEL,
            line + 3,
            f64::from(u16::try_from(x + LABEL + 5).unwrap_or(u16::MAX)) + length,
            line + 13,
            number(*value)
        )?;
    }
    let bottom = top + panel.bars.len() * LINE;
    writeln!(
        out,
        "<line class=\"axis\" x1=\"{0}\" y1=\"{top}\" x2=\"{0}\" y2=\"{bottom}\"/>",
        x + LABEL
    )
}

/// A name that has room beside its bar.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 13 {
        name.to_owned()
    } else {
        name.chars().take(12).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::made_up;
    use super::*;

    /// The numbers of an attribute.
    fn attribute(text: &str, name: &str) -> Vec<f64> {
        let start = format!(" {name}=\"");
        let parts = text.split(start.as_str()).skip(1);
        parts.map(|p| p.split('"').next().expect("a value").parse().expect("a number")).collect()
    }

    #[test]
    fn every_tag_is_closed_and_names_are_escaped() {
        let text = svg(&made_up());
        let (mut open, mut rest) = (Vec::new(), text.as_str());
        while let Some((_, after)) = rest.split_once('<') {
            let (tag, after) = after.split_once('>').expect("the end of a tag");
            let name = tag.split([' ', '/']).next().expect("a name");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "in {text}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            rest = after;
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(text.contains("a &lt;peer&gt;") && !text.contains("<peer>"));
    }

    #[test]
    fn bars_are_as_long_as_their_values_and_stay_in_the_picture() {
        let text = svg(&made_up());
        let lengths: Vec<f64> = attribute(&text, "width").into_iter().skip(1).collect();
        // The first panel: own, peer, floor.
        assert!((lengths[0] / lengths[1] - 7.654 / 59.43).abs() < 0.01, "{lengths:?}");
        let ends = attribute(&text, "x").into_iter().fold(0.0, f64::max);
        assert!(ends < 840.0 - 20.0, "{ends}");
    }

    #[test]
    fn each_stage_has_a_panel_and_both_schemes_have_colours() {
        let text = svg(&made_up());
        assert!(text.contains("run, 10,000 more host mounts, ms"));
        assert!(text.contains("prefers-color-scheme:dark"));
    }
}
