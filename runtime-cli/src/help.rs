//! The help texts.

use std::fmt::Write as _;

use crate::args::{Flag, Grammar, Kind};
use crate::commands::COMMANDS;
use crate::global;

/// The help of the program.
pub(crate) fn program(program: &str) -> String {
    let Grammar { about, operands, flags, .. } = global::GRAMMAR;
    let mut text = format!(
        "NAME:\n   {program} - {about}\n\nUSAGE:\n   {program} [global options] {operands}\n\nCOMMANDS:\n"
    );
    let commands = COMMANDS.iter().map(|c| (c.grammar.name.to_owned(), c.grammar.about));
    let help = ("help, h".to_owned(), "shows a list of commands or help for one command");
    table(&mut text, commands.chain([help]).collect());
    text.push_str("\nGLOBAL OPTIONS:\n");
    options(&mut text, flags);
    text
}

/// The help of one command.
pub(crate) fn command(program: &str, grammar: &Grammar) -> String {
    let Grammar { name, about, operands, flags, .. } = grammar;
    let mut text = format!(
        "NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name} [command options] {operands}\n\nOPTIONS:\n"
    );
    options(&mut text, flags);
    text
}

fn options(text: &mut String, flags: &[Flag]) {
    let shown = flags.iter().filter(|flag| !flag.about.is_empty());
    let mut rows: Vec<_> = shown.map(|flag| (names(flag), flag.about)).collect();
    rows.push(("--help, -h".to_owned(), "show help"));
    table(text, rows);
}

fn names(flag: &Flag) -> String {
    let value = if flag.kind == Kind::Switch { "" } else { " value" };
    let mut names = format!("--{}{value}", flag.name);
    if !flag.short.is_empty() {
        let _: std::fmt::Result = write!(names, ", -{}{value}", flag.short);
    }
    names
}

fn table(text: &mut String, rows: Vec<(String, &str)>) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in rows {
        let _: std::fmt::Result = writeln!(text, "   {name:width$}  {about}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_those_that_scripts_look_for() {
        let text = program("orlop");
        assert!(
            text.starts_with("NAME:\n   orlop - Open Container Initiative runtime\n"),
            "{text}"
        );
        assert!(!text.contains("VERSION"));
        for entry in COMMANDS {
            let name = entry.grammar.name;
            let text = command("runc", entry.grammar);
            assert!(text.starts_with(&format!("NAME:\n   runc {name} - ")), "{text}");
        }
    }

    #[test]
    fn hidden_flags_are_not_shown() {
        assert!(!program("orlop").contains("criu"));
    }
}
