//! `pause`: freezes a container's processes.

use super::container;
use crate::args::{Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "pause",
    about: "stop all processes of a container, until it is resumed",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    container(context, parsed)?.pause()?;
    Ok(0)
}
