//! `delete`: removes all that is left of a container.

use orlop::{Container, ErrorKind};

use super::container;
use crate::args::{Flag, Grammar, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch;

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
    let id = parsed.operand(0);
    if !id.is_empty() && is_missing(context, &id)? {
        // What a create that was killed has left goes with or without force.
        Container::clean_up(&context.root, &id, launch::environment())?;
        // Callers force what may never have been there.
        if force {
            return Ok(0);
        }
    }
    Ok(container(context, parsed)?.delete(force).map(|()| 0)?)
}

fn is_missing(context: &Context<'_>, id: &str) -> Result<bool, Failure> {
    match Container::load(&context.root, id) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}
