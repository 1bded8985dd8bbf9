//! `run`: create and start, and stay with the container until it ends.

use crate::args::{Flag, Grammar, Options, Parsed};
use crate::attach;
use crate::failure::Outcome;
use crate::global::Context;
use crate::launch::{Launch, Manner};
use crate::notify;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "run",
    about: "create and run a container",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value("bundle", "the bundle's directory (default: the current directory)").short("b"),
        Flag::value("console-socket", "AF_UNIX socket that takes the master of the terminal"),
        Flag::value("pidfd-socket", "AF_UNIX socket that takes a pidfd of the container's init"),
        Flag::switch("detach", "return once the program runs").short("d"),
        Flag::switch("keep", "do not delete the container after it has ended"),
        Flag::value("pid-file", "file to write the pid to"),
        Flag::switch("no-subreaper", "do not adopt orphans of the container"),
        Flag::switch("no-pivot", "do not use pivot_root(2): move the root over /"),
        Flag::switch("no-new-keyring", "keep the caller's session keyring"),
        Flag::number("preserve-fds", "how many descriptors after 0, 1, 2 to pass on (default: 0)"),
    ],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let outcome = if parsed.is_on("detach") {
        detached(context, parsed)
    } else {
        attach::run(context, parsed)
    };
    outcome.map_err(|failure| failure.prefixed(format_args!("{} run failed: ", context.program)))
}

fn detached(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let Launch { builder, report, .. } = Launch::prepare(context, parsed, Manner::Detached)?;
    let (mut container, proxy) = notify::run(context, builder, Manner::Detached, report.keep)?;
    report.deliver(context, &mut container)?;
    if let (Some(proxy), Some(init)) = (proxy, container.pidfd()) {
        proxy.wait(context.log, init);
    }
    Ok(0)
}
