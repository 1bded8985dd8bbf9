//! The commands, one file each.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;
pub(crate) mod version;

use std::ffi::OsStr;

pub(crate) use checkpoint::Missing;

use orlop::Container;

use crate::args::{Grammar, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch;

/// The version of the runtime-spec that is implemented.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// A command: what it is called with, and what it does.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its arguments.
    pub(crate) grammar: &'static Grammar,
    /// What it does.
    pub(crate) run: fn(&Context<'_>, &Parsed) -> Outcome,
}

/// All commands, in the order of the help.
pub(crate) const COMMANDS: &[Command] = &[
    Command { grammar: &create::GRAMMAR, run: create::run },
    Command { grammar: &delete::GRAMMAR, run: delete::run },
    Command { grammar: &events::GRAMMAR, run: events::run },
    Command { grammar: &exec::GRAMMAR, run: exec::run },
    Command { grammar: &explain::GRAMMAR, run: explain::run },
    Command { grammar: &features::GRAMMAR, run: features::run },
    Command { grammar: &kill::GRAMMAR, run: kill::run },
    Command { grammar: &list::GRAMMAR, run: list::run },
    Command { grammar: &pause::GRAMMAR, run: pause::run },
    Command { grammar: &ps::GRAMMAR, run: ps::run },
    Command { grammar: &resume::GRAMMAR, run: resume::run },
    Command { grammar: &run::GRAMMAR, run: run::run },
    Command { grammar: &spec::GRAMMAR, run: spec::run },
    Command { grammar: &start::GRAMMAR, run: start::run },
    Command { grammar: &state::GRAMMAR, run: state::run },
    Command { grammar: &update::GRAMMAR, run: update::run },
];

/// Commands of runc that are not there: understood, and refused.
pub(crate) const MISSING: &[Missing] =
    &[Missing(&checkpoint::CHECKPOINT), Missing(&checkpoint::RESTORE)];

/// The missing command of this name.
pub(crate) fn find_missing(name: &OsStr) -> Option<&'static Missing> {
    MISSING.iter().find(|missing| missing.grammar().name == name)
}

/// The command of this name.
pub(crate) fn find(name: &OsStr) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.grammar.name == name)
}

/// The container's id: the first argument.
fn id(parsed: &Parsed) -> Result<String, Failure> {
    let id = parsed.operand(0);
    if id.is_empty() { Err(Failure::new("container id cannot be empty")) } else { Ok(id) }
}

/// The container that the first argument names.
fn container(context: &Context<'_>, parsed: &Parsed) -> Result<Container, Failure> {
    let container = Container::load(&context.root, &id(parsed)?)?;
    Ok(container.with_hook_environment(launch::environment()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::global;

    /// What runc has, by command.
    const RUNC: &[(&str, &str)] = &[
        ("", "root log log-format systemd-cgroup rootless debug version criu"),
        (
            "create",
            "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds",
        ),
        (
            "run",
            "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds \
             detach keep no-subreaper",
        ),
        (
            "exec",
            "process console-socket pidfd-socket pid-file detach tty cwd env user additional-gids \
             process-label apparmor no-new-privs cap preserve-fds cgroup ignore-paused",
        ),
        ("start", ""),
        ("kill", "all"),
        ("delete", "force"),
        ("state", ""),
        ("list", "format quiet"),
        ("ps", "format"),
        ("pause", ""),
        ("resume", ""),
        (
            "update",
            "resources blkio-weight cpu-period cpu-quota cpu-burst cpu-rt-period cpu-rt-runtime \
             cpu-share cpuset-cpus cpuset-mems cpu-idle memory memory-reservation memory-swap \
             kernel-memory kernel-memory-tcp pids-limit l3-cache-schema mem-bw-schema",
        ),
        ("events", "stats interval"),
        (
            "checkpoint",
            "image-path work-path parent-path leave-running tcp-established file-locks pre-dump \
             ext-unix-sk shell-job empty-ns manage-cgroups-mode page-server lazy-pages status-fd \
             link-remap tcp-skip-in-flight auto-dedup",
        ),
        (
            "restore",
            "bundle console-socket image-path work-path pid-file detach no-subreaper no-pivot \
             tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode empty-ns \
             auto-dedup lazy-pages lsm-profile lsm-mount-context",
        ),
        ("spec", "bundle rootless"),
        ("features", ""),
    ];

    fn grammars() -> Vec<&'static Grammar> {
        let there = COMMANDS.iter().map(|command| command.grammar);
        let missing = MISSING.iter().map(Missing::grammar);
        there.chain(missing).chain([&global::GRAMMAR]).collect()
    }

    /// Commands, their options and the short names of these, as `run --detach` and `run -d`.
    fn known() -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for grammar in grammars() {
            known.insert(grammar.name.to_owned());
            for flag in grammar.flags {
                known.insert(format!("{} --{}", grammar.name, flag.name));
                if !flag.short.is_empty() {
                    known.insert(format!("{} -{}", grammar.name, flag.short));
                }
            }
        }
        known
    }

    /// The same, from the tables of the document.
    fn documented() -> BTreeSet<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runc-compat.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = |title: &str| {
            let from = text.split_once(&format!("\n## {title}\n")).unwrap().1;
            from.split("\n## ").next().unwrap()
        };
        let mut documented = BTreeSet::from([String::new()]);
        for (title, global) in [("Global options", true), ("Commands and options", false)] {
            for row in section(title).lines().filter(|line| line.starts_with("| `")) {
                let cells: Vec<&str> = row.split(" | ").collect();
                assert!(["same", "differs", "missing", "new"].contains(&cells[1]), "{row}");
                let mut command = "";
                for span in cells[0].split('`').skip(1).step_by(2) {
                    if !span.starts_with('-') {
                        command = span.split(' ').next().unwrap();
                        documented.insert(span.to_owned());
                    } else if !(global && ["--help", "-h"].contains(&span)) {
                        documented.insert(format!("{command} {span}"));
                    }
                }
            }
        }
        documented
    }

    #[test]
    fn every_command_and_option_is_in_the_document_and_no_other() {
        let (known, documented) = (known(), documented());
        let missing: Vec<_> = known.difference(&documented).collect();
        let invented: Vec<_> = documented.difference(&known).collect();
        assert!(missing.is_empty() && invented.is_empty(), "{missing:?}, {invented:?}");
    }

    #[test]
    fn whatever_runc_takes_is_understood() {
        let known = known();
        for (command, flags) in RUNC {
            assert!(known.contains(*command), "{command}");
            for flag in flags.split_whitespace() {
                assert!(known.contains(&format!("{command} --{flag}")), "{command} --{flag}");
            }
        }
    }
}
