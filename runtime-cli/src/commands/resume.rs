//! `resume`: lets a paused container run on.

use super::container;
use crate::args::{Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "resume",
    about: "let the processes of a paused container run again",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    container(context, parsed)?.resume()?;
    Ok(0)
}
