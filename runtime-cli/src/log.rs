//! The log: one line an event, in the two forms that callers of runtimes read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::Location;
use std::time::{SystemTime, UNIX_EPOCH};

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where events go.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Opens the log: a file, which is created and never truncated, or standard error.
    pub(crate) fn open(path: Option<&OsStr>, debug: bool) -> Result<Self, io::Error> {
        let file = match path {
            // A log line must survive what it reports, hence O_SYNC.
            Some(path) if !path.is_empty() => Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o644)
                    .custom_flags(nix::libc::O_SYNC)
                    .open(path)?,
            ),
            _ => None,
        };
        Ok(Self { file, format: Format::Text, debug })
    }

    /// Sets the form of the lines.
    pub(crate) fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Records a failure; where the log is not standard error, its bare text goes there too.
    #[track_caller]
    pub(crate) fn failure(&self, message: &str) {
        self.write("error", message, Location::caller());
        if self.file.is_some() {
            let _: io::Result<()> = io::stderr().write_all(format!("{message}\n").as_bytes());
        }
    }

    /// Records a failure that does not change the command's outcome.
    #[track_caller]
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message, Location::caller());
    }

    /// Records a warning, but never on standard error: callers read that together with the output.
    #[track_caller]
    pub(crate) fn warning(&self, message: &str) {
        if self.file.is_some() || self.debug {
            self.write("warning", message, Location::caller());
        }
    }

    /// Records what only `--debug` shows.
    #[track_caller]
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message, Location::caller());
        }
    }

    fn write(&self, level: &str, message: &str, caller: &Location<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let caller = self.debug.then(|| format!("{}:{}", caller.file(), caller.line()));
        let line = line(self.format, &rfc3339(now), level, message, caller.as_deref());
        // There is nowhere left to report a log that cannot be written.
        let _: io::Result<()> = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// One line of the log, with its end.
fn line(format: Format, time: &str, level: &str, message: &str, caller: Option<&str>) -> String {
    // The keys of the JSON form are sorted, and those of the text form are not.
    let mut line = match format {
        Format::Json => {
            let mut fields = BTreeMap::from([("level", level), ("msg", message), ("time", time)]);
            if let Some(caller) = caller {
                fields.insert("file", caller);
                fields.insert("func", env!("CARGO_BIN_NAME"));
            }
            serde_json::to_string(&fields).unwrap_or_default()
        }
        Format::Text => {
            let mut text = format!("time=\"{time}\" level={level} msg={}", text_value(message));
            if let Some(caller) = caller {
                let _: std::fmt::Result =
                    write!(text, " func={} file={}", env!("CARGO_BIN_NAME"), text_value(caller));
            }
            text
        }
    };
    line.push('\n');
    line
}

/// A value of the text form: quoted where it holds anything unusual.
fn text_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { quote(value) }
}

/// A text as Go's `%q` shows it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => {
                let _: std::fmt::Result = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _: std::fmt::Result = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Seconds since 1970 as `2026-11-21T23:25:34Z`.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", days + 1, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T23:25:03Z";

    #[test]
    fn the_text_form_quotes_only_what_needs_it() {
        assert_eq!(
            line(Format::Text, TIME, "error", "container not running", None),
            "time=\"2026-11-21T23:25:03Z\" level=error msg=\"container not running\"\n"
        );
        assert_eq!(
            line(Format::Text, TIME, "warning", "plain/word-1", None),
            "time=\"2026-11-21T23:25:03Z\" level=warning msg=plain/word-1\n"
        );
        assert_eq!(
            line(Format::Text, TIME, "error", "a \"b\"\n\x01", None),
            "time=\"2026-11-21T23:25:03Z\" level=error msg=\"a \\\"b\\\"\\n\\x01\"\n"
        );
    }

    #[test]
    fn the_json_form_is_one_object_with_sorted_keys() {
        assert_eq!(
            line(Format::Json, TIME, "error", "exec: \"x\": é\n", None),
            "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": é\\n\",\"time\":\"2026-11-21T23:25:03Z\"}\n"
        );
    }

    #[test]
    fn debugging_adds_the_caller_in_both_forms() {
        assert_eq!(
            line(Format::Json, TIME, "debug", "m", Some("a.rs:1")),
            "{\"file\":\"a.rs:1\",\"func\":\"orlop\",\"level\":\"debug\",\"msg\":\"m\",\"time\":\"2026-11-21T23:25:03Z\"}\n"
        );
        assert_eq!(
            line(Format::Text, TIME, "debug", "m", Some("a.rs:1")),
            "time=\"2026-11-21T23:25:03Z\" level=debug msg=m func=orlop file=\"a.rs:1\"\n"
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
