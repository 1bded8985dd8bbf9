//! `delete`: removes all that is left of a container.

use orlop::ErrorKind;

use super::container;
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
    let deleted = container(context, parsed);
    match deleted {
        Ok(mut container) => match container.delete(force) {
            Err(error) if force && error.kind() == ErrorKind::NotFound => Ok(0),
            other => Ok(other.map(|()| 0)?),
        },
        // Callers force what may never have been there.
        Err(_) if force && is_missing(context, parsed) => Ok(0),
        Err(failure) => Err(failure),
    }
}

fn is_missing(context: &Context<'_>, parsed: &Parsed) -> bool {
    let id = parsed.operand(0);
    !id.is_empty()
        && orlop::Container::load(&context.root, &id)
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
}
