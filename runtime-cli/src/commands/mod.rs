//! The commands, one file each.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;
pub(crate) mod version;

use std::ffi::OsStr;

pub(crate) use checkpoint::Missing;

use orlop::Container;

use crate::args::{Grammar, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch;

/// The version of the runtime-spec that is implemented.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// A command: what it is called with, and what it does.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its arguments.
    pub(crate) grammar: &'static Grammar,
    /// What it does.
    pub(crate) run: fn(&Context<'_>, &Parsed) -> Outcome,
}

/// All commands, in the order of the help.
pub(crate) const COMMANDS: &[Command] = &[
    Command { grammar: &create::GRAMMAR, run: create::run },
    Command { grammar: &delete::GRAMMAR, run: delete::run },
    Command { grammar: &events::GRAMMAR, run: events::run },
    Command { grammar: &exec::GRAMMAR, run: exec::run },
    Command { grammar: &explain::GRAMMAR, run: explain::run },
    Command { grammar: &features::GRAMMAR, run: features::run },
    Command { grammar: &kill::GRAMMAR, run: kill::run },
    Command { grammar: &list::GRAMMAR, run: list::run },
    Command { grammar: &pause::GRAMMAR, run: pause::run },
    Command { grammar: &ps::GRAMMAR, run: ps::run },
    Command { grammar: &resume::GRAMMAR, run: resume::run },
    Command { grammar: &run::GRAMMAR, run: run::run },
    Command { grammar: &spec::GRAMMAR, run: spec::run },
    Command { grammar: &start::GRAMMAR, run: start::run },
    Command { grammar: &state::GRAMMAR, run: state::run },
    Command { grammar: &update::GRAMMAR, run: update::run },
];

/// Commands of runc that are not there: understood, and refused.
pub(crate) const MISSING: &[Missing] =
    &[Missing(&checkpoint::CHECKPOINT), Missing(&checkpoint::RESTORE)];

/// The missing command of this name.
pub(crate) fn find_missing(name: &OsStr) -> Option<&'static Missing> {
    MISSING.iter().find(|missing| missing.grammar().name == name)
}

/// The command of this name.
pub(crate) fn find(name: &OsStr) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.grammar.name == name)
}

/// The container's id: the first argument.
fn id(parsed: &Parsed) -> Result<String, Failure> {
    let id = parsed.operand(0);
    if id.is_empty() { Err(Failure::new("container id cannot be empty")) } else { Ok(id) }
}

/// The container that the first argument names.
fn container(context: &Context<'_>, parsed: &Parsed) -> Result<Container, Failure> {
    let container = Container::load(&context.root, &id(parsed)?)?;
    Ok(container.with_hook_environment(launch::environment()))
}
