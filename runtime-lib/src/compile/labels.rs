//! Security modules: `process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`.

use orlop_init::plan::Op;

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::Bytes;

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";
const MOUNT: &str = "linux.mountLabel";

/// The attribute that holds the AppArmor profile of the next program (below
/// `/proc/thread-self/attr`; since Linux 5.8).
///
/// `attr/exec` alone would be that of whichever module the process has chosen to see there.
pub(super) const APPARMOR_EXEC: &str = "apparmor/exec";

/// The attribute that holds the SELinux label of the next program.
pub(super) const SELINUX_EXEC: &str = "exec";

/// The attribute that holds the SELinux label of new keys.
const SELINUX_KEYS: &str = "keycreate";

/// The name of no profile at all.
const UNCONFINED: &str = "unconfined";

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The profile, where there is a host to apply it.
fn profile<'a>(config: &Config<'a>) -> Result<Option<&'a str>> {
    match filled(config.process.apparmor_profile()) {
        // Without AppArmor every program is.
        Some(UNCONFINED) if !config.facts.apparmor => Ok(None),
        Some(_) if !config.facts.apparmor => Err(Error::unsupported(
            APPARMOR,
            "apparmor failed to apply profile: apparmor: config provided but apparmor not supported",
        )
        .hint("the host runs without AppArmor")),
        profile => Ok(profile),
    }
}

/// The label of the program, where there is a host to apply it.
fn label<'a>(config: &Config<'a>) -> Result<Option<&'a str>> {
    let label = filled(config.process.selinux_label());
    if label.is_some() && !config.facts.selinux {
        return Err(no_selinux(SELINUX));
    }
    Ok(label)
}

/// The label of the filesystems that the container gets, where there is a host to apply it.
pub(super) fn mount_label<'a>(config: &Config<'a>) -> Result<Option<&'a str>> {
    let label = config.linux.and_then(|linux| filled(linux.mount_label()));
    match label {
        Some(_) if !config.facts.selinux => Err(no_selinux(MOUNT)),
        // It is put in quotes.
        Some(label) if label.contains(['"', '\0']) => {
            Err(Error::config(MOUNT, "contains a quote or a NUL byte"))
        }
        label => Ok(label),
    }
}

/// The error of a label on a host without SELinux.
fn no_selinux(field: &'static str) -> Error {
    let text = "selinux label is specified in config, but selinux is disabled or not supported";
    Error::unsupported(field, text)
}

/// The procfs that the attributes are written through.
pub(super) fn open_procfs(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    // Whether or not there is a mount to take it.
    mount_label(config)?;
    let profile = profile(config)?.map(|_| APPARMOR);
    if let Some(field) = profile.or(label(config)?.map(|_| SELINUX)) {
        out.child(field, Op::OpenProcfs);
    }
    Ok(())
}

fn attribute(field: &'static str, name: &str, value: String, out: &mut Columns) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::config(field, "contains a NUL byte"));
    }
    out.child(field, Op::Attribute { name: Bytes::blob(name), value: Bytes::blob(value) });
    Ok(())
}

/// The profile that the next execve(2) changes to. After the hooks of `createContainer`, which are
/// the host's programs; those of `startContainer` are the container's, and run under it as with
/// runc.
pub(super) fn apparmor(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    match profile(config)? {
        Some(name) => attribute(APPARMOR, APPARMOR_EXEC, format!("exec {name}"), out),
        None => Ok(()),
    }
}

/// The label that the next execve(2) changes to.
pub(super) fn selinux(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    match label(config)? {
        Some(label) => attribute(SELINUX, SELINUX_EXEC, label.to_owned(), out),
        None => Ok(()),
    }
}

/// The label of a session keyring that is about to be made: without it the program could not use
/// its own. execve(2) resets it.
pub(super) fn keys(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    match label(config)? {
        Some(label) => attribute(SELINUX, SELINUX_KEYS, label.to_owned(), out),
        None => Ok(()),
    }
}

/// The label of a directory in the container, for a filesystem that takes no label as an option.
pub(super) fn relabel(config: &Config<'_>, target: Bytes, out: &mut Columns) -> Result<()> {
    if let Some(label) = mount_label(config)? {
        out.child(MOUNT, Op::Relabel { target, label: Bytes::blob(label) });
    }
    Ok(())
}
