//! `delete`: removes all that is left of a container.

use orlop::{Container, ErrorKind};

use super::id;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::launch;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "delete",
    about: "delete a container that has ended",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[Flag::switch("force", "kill the container first if it still runs").short("f")],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let force = parsed.is_on("force");
    let id = id(parsed)?;
    match Container::load(&context.root, &id) {
        Ok(container) => {
            let mut container = container.with_hook_environment(launch::environment());
            Ok(container.delete(force).map(|()| 0)?)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // What a create that was killed has left goes with or without force.
            Container::clean_up(&context.root, &id, launch::environment())?;
            // Callers force what may never have been there.
            if force { Ok(0) } else { Err(error.into()) }
        }
        Err(error) => Err(error.into()),
    }
}
