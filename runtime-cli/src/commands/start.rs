//! `start`: lets the program of a created container run.

use super::container;
use crate::args::{Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::notify;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "start",
    about: "run the program of a created container",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    notify::start(context, &mut container(context, parsed)?)?;
    Ok(0)
}
