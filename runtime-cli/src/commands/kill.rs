//! `kill`: sends a signal to a container's init.

use orlop::ErrorKind;

use super::container;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::signals;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "kill",
    about: "send a signal (default: SIGTERM) to a container's init",
    operands: "<container-id> [signal]",
    count: (1, 2),
    // Obsolete: it only makes a container that has ended no error.
    flags: &[Flag::switch("all", "").short("a")],
    options: Options::Known,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let container = container(context, parsed)?;
    let name = parsed.operand(1);
    let name = if name.is_empty() { "SIGTERM" } else { &name };
    match container.kill(signals::parse(name)?) {
        Err(error) if parsed.is_on("all") && error.kind() == ErrorKind::InvalidState => Ok(0),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(0),
    }
}
