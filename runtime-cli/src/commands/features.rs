//! `features`: what this build can do (runtime-spec, features.md).

use crate::args::{Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::output;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "features",
    about: "show what is supported, as JSON",
    operands: "",
    count: (0, 0),
    flags: &[],
    options: Options::Everywhere,
};

pub(super) fn run(_context: &Context<'_>, _parsed: &Parsed) -> Outcome {
    let text = output::pretty_json(&orlop::features::features(), "    ")?;
    output::text(&format!("{text}\n"))
}
