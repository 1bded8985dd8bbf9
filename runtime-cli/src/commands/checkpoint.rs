//! `checkpoint` and `restore`: not there. What engines send is understood, so that they are told so.
//!
//! Engines ask by `checkpoint --help`: as long as it fails, there are no checkpoints.

use crate::args::{Flag, Grammar, Options};
use crate::failure::Failure;

pub(super) const CHECKPOINT: Grammar = Grammar {
    name: "checkpoint",
    about: "checkpoint a container (not supported)",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value("image-path", "directory for the images"),
        Flag::value("work-path", "directory for logs"),
        Flag::value("parent-path", "directory of an earlier checkpoint"),
        Flag::switch("leave-running", "leave the container running"),
        Flag::switch("tcp-established", "take TCP connections"),
        Flag::switch("tcp-skip-in-flight", "pass over TCP connections that are being made"),
        Flag::switch("ext-unix-sk", "take sockets that lead outside"),
        Flag::switch("shell-job", "take shell jobs"),
        Flag::switch("lazy-pages", "transfer memory later"),
        Flag::number("status-fd", "descriptor that is told when that can begin"),
        Flag::value("page-server", "address of a page server"),
        Flag::switch("file-locks", "take file locks"),
        Flag::switch("link-remap", "take files that have no name any more"),
        Flag::switch("pre-dump", "take memory only"),
        Flag::value("manage-cgroups-mode", "what of cgroups is taken"),
        Flag::list("empty-ns", "a namespace whose content is not taken"),
        Flag::switch("auto-dedup", "remove pages that later images have"),
    ],
    options: Options::Everywhere,
};

pub(super) const RESTORE: Grammar = Grammar {
    name: "restore",
    about: "restore a container from a checkpoint (not supported)",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value("bundle", "the bundle's directory (default: the current directory)").short("b"),
        Flag::value("console-socket", "AF_UNIX socket that takes the master of the terminal"),
        Flag::value("image-path", "directory of the images"),
        Flag::value("work-path", "directory for logs"),
        // runc refuses the next one and three further ones; its callers send them all the same.
        Flag::value("parent-path", "directory of an earlier checkpoint"),
        Flag::switch("tcp-established", "restore TCP connections"),
        Flag::switch("tcp-close", "close TCP connections"),
        Flag::switch("ext-unix-sk", "restore sockets that lead outside"),
        Flag::switch("shell-job", "restore shell jobs"),
        Flag::switch("file-locks", "restore file locks"),
        Flag::value("manage-cgroups-mode", "what of cgroups is restored"),
        Flag::value("pid-file", "file to write the pid to"),
        Flag::switch("detach", "return once the program runs").short("d"),
        Flag::switch("no-subreaper", "do not adopt orphans of the container"),
        Flag::switch("no-pivot", "do not use pivot_root(2): move the root over /"),
        Flag::switch("no-new-keyring", "keep the caller's session keyring"),
        Flag::number("preserve-fds", "how many descriptors after 0, 1, 2 to pass on (default: 0)"),
        Flag::list("empty-ns", "a namespace whose content is not restored"),
        Flag::switch("auto-dedup", "remove pages that later images have"),
        Flag::switch("lazy-pages", "transfer memory later"),
        Flag::value("lsm-profile", "profile or label to restore with"),
        Flag::value("lsm-mount-context", "label to mount with"),
    ],
    options: Options::Everywhere,
};

/// A grammar of a command that is not there.
#[derive(Debug)]
pub(crate) struct Missing(pub(super) &'static Grammar);

impl Missing {
    /// What it would be called with.
    pub(crate) fn grammar(&self) -> &'static Grammar {
        self.0
    }

    /// What is said instead of doing it, or of its help.
    pub(crate) fn refuse(&self) -> Failure {
        let name = self.0.name;
        Failure::new(format!("{name} is not supported by this version of orlop"))
    }
}
