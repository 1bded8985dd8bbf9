//! `orlop`: the command line of runc, on top of the library.
#![cfg_attr(not(test), no_main)]

mod args;
mod attach;
mod commands;
mod failure;
mod global;
mod help;
mod launch;
mod log;
mod notify;
mod output;
mod pump;
mod signals;
mod sys;
mod terminal;

use std::ffi::OsString;

use crate::args::{Grammar, Misuse, Parsed};
use crate::commands::{Command, Missing};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::log::Log;

/// Runs the program; its exit code.
#[cfg_attr(test, allow(dead_code))]
fn entry(arguments: Vec<OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let argv0 = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
    let mut log = Log::default();
    let outcome = command_line(&argv0, arguments.as_slice(), &mut log);
    outcome.unwrap_or_else(|failure| {
        log.failure(&failure.message);
        failure.code
    })
}

/// Runs what the arguments ask for. `log` is where a failure is to be reported.
fn command_line(argv0: &str, arguments: &[OsString], log: &mut Log) -> Outcome {
    let program = global::program_name(argv0);
    let global = match global::GRAMMAR.parse(arguments) {
        Ok(global) => global,
        Err(misuse) => return misused(misuse, &help::program(program)),
    };
    if global.is_on("version") {
        return commands::version::run(program);
    }
    *log = global::open_log(&global)?;
    let mut operands = global.operands.iter();
    let Some(name) = operands.next() else {
        return output::text(&help::program(program));
    };
    let context = Context::new(program, &global, log)?;
    if name == "help" || name == "h" {
        return explain_usage(program, operands.next());
    }
    if let Some(missing) = commands::find_missing(name) {
        return refuse(&context, argv0, missing, operands.as_slice());
    }
    let command = commands::find(name).ok_or_else(|| unknown(name))?;
    run(&context, argv0, command, operands.as_slice())
}

/// Runs one command.
fn run(context: &Context<'_>, argv0: &str, command: &Command, arguments: &[OsString]) -> Outcome {
    let grammar: &Grammar = command.grammar;
    let parsed: Parsed = match grammar.parse(arguments) {
        Ok(parsed) => parsed,
        Err(misuse) => return misused(misuse, &help::command(context.program, grammar)),
    };
    check_count(context, argv0, grammar, &parsed)?;
    context.log.debug(&format!("{} {arguments:?}", grammar.name));
    (command.run)(context, &parsed)
}

/// Refuses a command that is not there, and help for it too: callers ask by that what is there.
fn refuse(
    context: &Context<'_>,
    argv0: &str,
    missing: &Missing,
    arguments: &[OsString],
) -> Outcome {
    let grammar = missing.grammar();
    match grammar.parse(arguments) {
        Ok(parsed) => check_count(context, argv0, grammar, &parsed)?,
        Err(Misuse::Help) => {}
        Err(misuse) => return misused(misuse, &help::command(context.program, grammar)),
    }
    Err(missing.refuse())
}

fn check_count(
    context: &Context<'_>,
    argv0: &str,
    grammar: &Grammar,
    parsed: &Parsed,
) -> Result<(), Failure> {
    grammar.check_count(argv0, parsed).or_else(|message| {
        let usage = help::command(context.program, grammar);
        output::text(&format!("Incorrect Usage.\n\n{usage}"))?;
        Err(Failure::new(message))
    })
}

fn misused(misuse: Misuse, help: &str) -> Outcome {
    match misuse {
        Misuse::Help => output::text(help),
        Misuse::Wrong(message) => {
            output::text(&format!("Incorrect Usage: {message}\n\n{help}"))?;
            Err(Failure::new(message))
        }
    }
}

fn explain_usage(program: &str, topic: Option<&OsString>) -> Outcome {
    let of_help = |topic: &OsString| ["help", "h", "-h", "--help"].iter().any(|name| topic == name);
    let Some(topic) = topic.filter(|topic| !of_help(topic)) else {
        return output::text(&help::program(program));
    };
    if let Some(missing) = commands::find_missing(topic) {
        return Err(missing.refuse());
    }
    let command = commands::find(topic).ok_or_else(|| unknown(topic))?;
    output::text(&help::command(program, command.grammar))
}

fn unknown(name: &OsString) -> Failure {
    Failure { message: format!("No help topic for '{}'", name.to_string_lossy()), code: 3 }
}
