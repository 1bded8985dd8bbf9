//! `explain`: what creating a container of this bundle would do.

use orlop::{Bundle, Container};

use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::{launch, output};

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "explain",
    about: "show what creating a container would do, step by step, without doing it",
    operands: "[container-id]",
    count: (0, 1),
    flags: &[
        Flag::value("bundle", "the bundle's directory (default: the current directory)").short("b"),
        Flag::switch("json", "as JSON"),
    ],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let bundle: Bundle = launch::enter_bundle(parsed)?;
    // Only names that follow from the id (the cgroup's) depend on it.
    let id = if parsed.operands.is_empty() { "ID".to_owned() } else { parsed.operand(0) };
    let builder = Container::builder(id, bundle).state_root(&context.root);
    let plan = builder.cgroup_driver(context.cgroup_driver()?).plan()?;
    if parsed.is_on("json") {
        let text = output::pretty_json(&plan.to_json(), "  ")?;
        return output::text(&format!("{text}\n"));
    }
    output::text(&plan.to_text())
}
