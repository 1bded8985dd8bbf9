//! `linux.sysctl`: which namespace a parameter belongs to, and where it is written.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxNamespaceType;
use orlop_init::plan::Op;

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::Bytes;

/// The parameters of the IPC namespace; all of `fs.mqueue` is too.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// The namespace whose own copy a parameter (path below `/proc/sys`) is.
fn namespace_of(path: &str) -> Option<LinuxNamespaceType> {
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Some(LinuxNamespaceType::Ipc)
    } else if path.starts_with("net/") {
        Some(LinuxNamespaceType::Network)
    } else if path == "kernel/domainname" {
        Some(LinuxNamespaceType::Uts)
    } else if path.starts_with("user/") {
        Some(LinuxNamespaceType::User)
    } else {
        None
    }
}

/// The path of a parameter below `/proc/sys`, as sysctl(8) reads names: the first separator of the
/// name separates, and the other of `.` and `/` is a `.` inside of a component.
fn path_of(key: &str) -> Option<String> {
    let swapped = key.find(['.', '/']).is_some_and(|at| key.get(at..=at) == Some("."));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = if swapped { key.chars().map(swap).collect() } else { key.to_owned() };
    let name = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && path.len() < 256 && path.split('/').all(name)).then_some(path)
}

/// The parameters in the order of their names, which config.json does not keep.
fn sorted<'a>(config: &Config<'a>) -> BTreeMap<&'a str, &'a str> {
    let all = config.linux.and_then(|linux| linux.sysctl().as_ref());
    all.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Whether a parameter of this kind of namespace is written.
pub(super) fn writes_in(config: &Config<'_>, kind: LinuxNamespaceType) -> bool {
    sorted(config).keys().any(|key| path_of(key).and_then(|path| namespace_of(&path)) == Some(kind))
}

/// The writes, checked.
pub(super) fn writes(config: &Config<'_>) -> Result<Vec<(String, Op<Bytes>)>> {
    sorted(config).into_iter().map(|(key, value)| write(config, key, value)).collect()
}

fn write(config: &Config<'_>, key: &str, value: &str) -> Result<(String, Op<Bytes>)> {
    let field = format!("linux.sysctl[{key:?}]");
    let Some(path) = path_of(key) else {
        return Err(Error::config(field, format!("{key:?} is not a name of a sysctl")));
    };
    if path == "kernel/hostname" {
        let text = format!(
            "sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field"
        );
        return Err(Error::config(field, text));
    }
    let domainname = config.spec.domainname().as_deref();
    if path == "kernel/domainname" && domainname.is_some_and(|other| other != value) {
        let text = format!("sysctl {key:?} contradicts the field \"domainname\"");
        return Err(Error::config(field, text));
    }
    let kind = namespace_of(&path);
    if !kind.is_some_and(|kind| config.namespaces.separate(kind)) {
        let text = format!("sysctl {key:?} is not in a separate kernel namespace");
        let error = Error::config(field, text);
        return Err(match kind.map(super::namespaces::name) {
            Some(kind) => error.hint(format!("linux.namespaces has none of type {kind}")),
            None => error,
        });
    }
    // A newline would end the value, and what follows it would be lost.
    if value.contains(['\0', '\n']) {
        return Err(Error::config(field, "the value contains a NUL or a line break"));
    }
    let op = Op::Sysctl { path: Bytes::c_string(&path, &field)?, value: Bytes::blob(value) };
    Ok((field, op))
}

/// Adds the writes.
pub(super) fn emit(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    for (field, op) in writes(config)? {
        out.child(field, op);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_separator_names_a_parameter() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("kernel/../kernel/core_pattern", None),
            ("kernel.//.kernel", None),
            ("net..x", None),
            (".net", None),
            ("net.", None),
            ("", None),
            ("net.a b", None),
        ] {
            assert_eq!(path_of(key).as_deref(), path, "{key}");
        }
    }
}
