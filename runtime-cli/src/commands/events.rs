//! `events`: what a container uses, at intervals, and what happens to it.

use std::time::{Duration, Instant};

use orlop::{Container, Event, Stats, Status};
use serde::Serialize;

use super::container;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::output;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "events",
    about: "show what a container uses, and when it runs out of memory",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value("interval", "time between two statistics, as 500ms or 1m30s (default: 5s)"),
        Flag::switch("stats", "show the statistics once, and end"),
    ],
    options: Options::Everywhere,
};

/// One line of the output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let interval = match parsed.value("interval") {
        Some(text) => interval(&text.to_string_lossy())?,
        None => Duration::from_secs(5),
    };
    let container = container(context, parsed)?;
    if container.status()? == Status::Stopped {
        return Err(Failure::new(format!("container with id {} is not running", container.id())));
    }
    if parsed.is_on("stats") {
        return line(&container, "stats", Some(&container.stats()?));
    }
    follow(context, &container, interval)
}

fn follow(context: &Context<'_>, container: &Container, interval: Duration) -> Outcome {
    let mut watch = container.watch()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        match watch.wait(Some(left))? {
            Some(Event::OomKill) => {
                line(container, "oom", None)?;
            }
            // Also events that a later version of the library may tell.
            Some(_) => return Ok(0),
            None => {
                match container.stats() {
                    Ok(stats) => {
                        line(container, "stats", Some(&stats))?;
                    }
                    Err(_) if watch.wait(Some(Duration::ZERO))? == Some(Event::Ended) => {}
                    Err(error) => context.log.error(&error.to_string()),
                }
                // Not in a burst where the machine was too slow.
                next = (next + interval).max(Instant::now());
            }
        }
    }
}

fn line(container: &Container, kind: &'static str, data: Option<&Stats>) -> Outcome {
    let line = Line { r#type: kind, id: container.id(), data };
    let text = serde_json::to_string(&line).map_err(|error| Failure::new(error.to_string()))?;
    output::text(&(text + "\n"))
}

fn interval(text: &str) -> Result<Duration, Failure> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let duration = duration(unsigned).ok_or_else(|| {
        let message = format!("time: invalid duration {text:?}");
        Failure::new(format!("invalid value {text:?} for flag -interval: {message}"))
    })?;
    if text.starts_with('-') || duration.is_zero() {
        return Err(Failure::new("duration interval must be greater than 0"));
    }
    Ok(duration)
}

/// A duration as Go writes it, without a sign: `1h15m30.5s`, `500ms`, `0`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0u64;
    loop {
        let (number, after) = split(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split(after, |c| c.is_ascii_digit() || c == '.');
        let unit = match unit {
            "ns" => 1,
            // The micro sign, and the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanoseconds = nanoseconds.checked_add(times(number, unit)?)?;
        rest = after;
        if rest.is_empty() {
            return Some(Duration::from_nanos(nanoseconds));
        }
    }
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// A decimal number, perhaps with a fraction, times a unit.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        value = value.checked_add(place.checked_mul(u64::from(digit.to_digit(10)?))?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            (".5s", 500),
            ("2.s", 2000),
            ("250ms", 250),
            ("1500us", 1),
            ("3000\u{b5}s", 3),
            ("+1s", 1000),
        ] {
            assert_eq!(interval(text).unwrap().as_millis(), milliseconds, "{text}");
        }
    }

    #[test]
    fn an_interval_without_a_unit_or_number_is_refused() {
        for text in ["", "5", "s", "1.2.3s", ".s", "5 s", "5x", "--1s", "99999999999h"] {
            let message = interval(text).unwrap_err().message;
            assert!(message.contains("time: invalid duration"), "{text}: {message}");
        }
    }

    #[test]
    fn an_interval_that_is_not_positive_is_refused_in_the_words_of_runc() {
        for text in ["0", "0s", "-1s", "-0"] {
            let message = interval(text).unwrap_err().message;
            assert_eq!(message, "duration interval must be greater than 0", "{text}");
        }
    }

    #[test]
    fn an_event_is_one_line_in_the_keys_of_runc() {
        let oom = Line { r#type: "oom", id: "c1", data: None };
        assert_eq!(serde_json::to_string(&oom).unwrap(), r#"{"type":"oom","id":"c1"}"#);
        let stats = Stats::default();
        let text = Line { r#type: "stats", id: "c1", data: Some(&stats) };
        let text = serde_json::to_string(&text).unwrap();
        assert!(text.starts_with(r#"{"type":"stats","id":"c1","data":{"cpu":{"#), "{text}");
    }
}
