//! What a config.json must and must not hold, whatever else it asks for.

use oci_spec::runtime::{LinuxNamespaceType, Process, Root, Spec};

use super::{Columns, Config};
use crate::error::{Error, ErrorKind, Result};

/// Checks a container's id (runc's rule: letters, digits, `_`, `+`, `-`, `.`, and no name of a directory).
///
/// # Errors
/// The id is empty or malformed.
pub(crate) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "container id cannot be empty"));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    // 255: the id names a directory.
    if id == "." || id == ".." || id.len() > 255 || !id.chars().all(known) {
        return Err(Error::new(ErrorKind::InvalidArgument, "invalid container ID format"));
    }
    Ok(())
}

/// `ociVersion`: there, a version by semver.org, and of major version 1. Callers write any 1.x.
pub(super) fn version(spec: &Spec) -> Result<()> {
    let version = spec.version();
    if version.is_empty() {
        return Err(Error::config("ociVersion", "is missing"));
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if plain { part.parse::<u32>().ok() } else { None }
    };
    let numbers: Vec<_> = core.split('.').map(number).collect();
    match numbers.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(Error::unsupported(
            "ociVersion",
            format!("version {version:?} is not supported; 1.0.0 to 1.3.x are"),
        )),
        _ => Err(Error::config("ociVersion", format!("{version:?} is not a version"))),
    }
}

/// Without privileges there is nothing to contain a program with but a user namespace.
pub(super) fn caller(config: &Config<'_>) -> Result<()> {
    if config.facts.unprivileged && !config.user.is_some() {
        let text = "rootless container requires user namespaces";
        return Err(Error::unsupported("linux.namespaces", text)
            .hint("`spec --rootless` writes a configuration for a caller who is not root"));
    }
    Ok(())
}

/// In the runtime's own mount namespace a container has a root (chroot(2)), and that is all:
/// mounts would be the host's, made where others look names up, and nobody would take them away.
pub(super) fn mounts(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const FIELD: &str = "linux.namespaces";
    if config.namespaces.separate(LinuxNamespaceType::Mount) {
        return Ok(());
    }
    if config.user.is_some() {
        let text = "a container with a user namespace needs a mount namespace, too";
        return Err(Error::unsupported(FIELD, text));
    }
    let linux = config.linux;
    let any = |list: Option<&Vec<String>>| list.is_some_and(|list| !list.is_empty());
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_ref());
    let root = config.spec.root().as_ref();
    for (field, there) in [
        ("mounts", config.spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty())),
        ("linux.maskedPaths", any(linux.and_then(|linux| linux.masked_paths().as_ref()))),
        ("linux.readonlyPaths", any(linux.and_then(|linux| linux.readonly_paths().as_ref()))),
        ("linux.rootfsPropagation", propagation.is_some_and(|text| !text.is_empty())),
        ("root.readonly", root.and_then(Root::readonly).unwrap_or(false)),
        ("process.terminal", config.process.terminal().unwrap_or(false)),
        ("NOTIFY_SOCKET", config.request.notify.is_some()),
    ] {
        if there {
            let text = "takes a mount namespace: it would change the host's mounts";
            return Err(Error::unsupported(field, text).hint("linux.namespaces has none"));
        }
    }
    let text = "without a mount namespace the root is entered by chroot(2): the program sees the \
                host's mounts, and with CAP_SYS_CHROOT it can leave";
    out.warn(FIELD, text);
    Ok(())
}

/// Refuses what is for other platforms, so that nothing is ever ignored, and warns of what has no
/// effect on Linux.
pub(super) fn platforms(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let spec = config.spec;
    let sections = [
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    for (field, there) in sections {
        if there {
            return Err(Error::unsupported(field, "is for another platform; this is Linux"));
        }
    }
    for (field, there) in
        [("uidMappings", spec.uid_mappings()), ("gidMappings", spec.gid_mappings())]
    {
        if there.is_some() {
            out.warn(field, "has no effect here; its place is below linux");
        }
    }
    process(config.process, out)
}

pub(super) fn process(process: &Process, out: &mut Columns) -> Result<()> {
    let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if process.command_line().is_some() {
        out.warn("process.commandLine", "has no effect on Linux; process.args holds the program");
    }
    if filled(process.user().username()) {
        out.warn("process.user.username", "has no effect on Linux; process.user.uid says who");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_runcs_rule() {
        for good in ["a", "A_b+c-d.9", "...", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in [".", "..", "a/b", "a b", "a\n", "ä", &"x".repeat(256)] {
            assert_eq!(check_id(bad).unwrap_err().to_string(), "invalid container ID format");
        }
        assert_eq!(check_id("").unwrap_err().to_string(), "container id cannot be empty");
    }
}
