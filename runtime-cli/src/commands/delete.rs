//! `delete`: removes all that is left of a container.

use orlop::{Container, ErrorKind};

use super::id;
use crate::args::{Flag, Grammar, Parsed};
use crate::failure::Outcome;
use crate::global::Context;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "delete",
    about: "delete a container that has ended",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[Flag::switch("force", "kill the container first if it still runs").short("f")],
    options_first: false,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let force = parsed.is_on("force");
    let deleted = Container::load(&context.root, &id(parsed)?)
        .and_then(|mut container| container.delete(force));
    match deleted {
        // Callers force what may never have been there.
        Err(error) if force && error.kind() == ErrorKind::NotFound => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}
