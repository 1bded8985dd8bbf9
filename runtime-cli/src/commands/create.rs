//! `create`: all of a container but its program.

use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch::{Launch, Manner};

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "create",
    about: "create a container",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value("bundle", "the bundle's directory (default: the current directory)").short("b"),
        Flag::value("console-socket", "AF_UNIX socket that takes the master of the terminal"),
        Flag::value("pidfd-socket", "AF_UNIX socket that takes a pidfd of the container's init"),
        Flag::value("pid-file", "file to write the pid to"),
        Flag::switch("no-pivot", "do not use pivot_root(2): move the root over /"),
        Flag::switch("no-new-keyring", "keep the caller's session keyring"),
        Flag::number("preserve-fds", "how many descriptors after 0, 1, 2 to pass on (default: 0)"),
    ],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    create(context, parsed)
        .map_err(|failure| failure.prefixed(format_args!("{} create failed: ", context.program)))
}

fn create(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let Launch { builder, report, .. } = Launch::prepare(context, parsed, Manner::Detached)?;
    let mut container = builder.create().map_err(|error| Failure::launch(&error))?;
    report.deliver(context, &mut container)?;
    Ok(0)
}
