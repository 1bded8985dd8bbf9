//! `ps`: a container's processes.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use super::container;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::output;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "ps",
    about: "show the processes of a container",
    operands: "<container-id> [ps options]",
    count: (1, usize::MAX),
    flags: &[Flag::value("format", "\"table\" or \"json\" (default: \"table\")").short("f")],
    // The rest is for the host's ps.
    options: Options::First,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let pids = container(context, parsed)?.pids()?;
    match parsed.value("format").map(|format| format.to_str().unwrap_or_default()) {
        None | Some("table") => {
            let options = parsed.operands.get(1..).unwrap_or_default();
            let options: Vec<&OsStr> = options.iter().map(AsRef::as_ref).collect();
            let everything = [OsStr::new("-ef")];
            let text = host_ps(if options.is_empty() { &everything } else { &options })?;
            output::text(&filtered(&text, &pids)?)
        }
        Some("json") => output::text(&json(&pids)),
        Some(_) => Err(Failure::new("invalid format option")),
    }
}

fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".to_owned();
    }
    let mut text = String::from("[");
    for (index, pid) in pids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _: std::fmt::Result = write!(text, "{comma}{pid}");
    }
    text + "]\n"
}

/// What the host's `ps` says, found by the caller's PATH.
fn host_ps(options: &[&OsStr]) -> Result<String, Failure> {
    let output = Command::new("ps").args(options).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new("exec: \"ps\": executable file not found in $PATH")
        }
        _ => Failure::io("exec: \"ps\"", &error),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let status = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    Err(Failure::new(format!("ps: {status}: {text}{said}").trim_end()))
}

/// The header and the lines of these processes, by the column `PID`.
fn filtered(text: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let is_wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(header).chain(lines.filter(is_wanted));
    Ok(lines.fold(String::new(), |text, line| text + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_and_null_when_empty() {
        assert_eq!(json(&[]), "null\n");
        assert_eq!(json(&[7]), "[7]\n");
        assert_eq!(json(&[1, 22, 333]), "[1,22,333]\n");
    }

    #[test]
    fn lines_are_chosen_by_the_column_named_pid() {
        let text = "UID          PID    PPID CMD\n\
                    root           7       1 a b 42\n\
                    root          42       7 sh\n\
                    root           1      42 init\n";
        let want = "UID          PID    PPID CMD\nroot          42       7 sh\n";
        assert_eq!(filtered(text, &[42]).unwrap(), want);
        assert_eq!(filtered("PID CMD\n", &[42]).unwrap(), "PID CMD\n");
    }

    #[test]
    fn output_without_the_column_is_an_error() {
        for text in ["", "PPID CMD\n1 x\n"] {
            let message = filtered(text, &[1]).unwrap_err().message;
            assert_eq!(message, "couldn't find PID field in ps output");
        }
    }
}
