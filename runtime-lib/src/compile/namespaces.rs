//! `linux.namespaces`, and what lives in the UTS namespace: `hostname` and `domainname`.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use orlop_init::plan::Op;

use super::{Columns, Config, kernel_path};
use crate::error::{Error, Result};
use crate::plan::{Bytes, HostOp, Slot};

/// `__NEW_UTS_LEN` of the kernel: the longest host name and domain name, in bytes.
const LONGEST_NAME: usize = 64;

/// Those that clone3(2) makes. The network is the init's, so that its making runs beside the
/// creator's work; the cgroup namespace too, since clone3 would root it at the creator's cgroup.
const BORN_INTO: [LinuxNamespaceType; 4] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Ipc,
];

/// The namespaces of `linux.namespaces`, checked.
pub(super) struct Namespaces<'a>(Vec<Namespace<'a>>);

struct Namespace<'a> {
    kind: LinuxNamespaceType,
    index: usize,
    /// One that exists; else a new one.
    path: Option<&'a Path>,
}

impl Namespace<'_> {
    fn field(&self) -> String {
        format!("linux.namespaces[{}]", self.index)
    }
}

impl<'a> Namespaces<'a> {
    pub(super) fn new(spec: &'a Spec) -> Result<Self> {
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        let mut all: Vec<Namespace<'a>> = Vec::new();
        for (index, namespace) in list.unwrap_or_default().iter().enumerate() {
            let kind = namespace.typ();
            let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
            let new = Namespace { kind, index, path };
            check_one(&new)?;
            if all.iter().any(|other| other.kind == kind) {
                let text = format!("a second {} namespace", name(kind));
                return Err(Error::config(format!("{}.type", new.field()), text));
            }
            all.push(new);
        }
        if !all.iter().any(|namespace| namespace.kind == LinuxNamespaceType::Mount) {
            return Err(Error::unsupported(
                "linux.namespaces",
                "a container without a mount namespace of its own is not supported by this version of orlop",
            ));
        }
        Ok(Self(all))
    }

    fn find(&self, kind: LinuxNamespaceType) -> Option<&Namespace<'a>> {
        self.0.iter().find(|namespace| namespace.kind == kind)
    }

    /// A new or joined namespace of this kind: not the runtime's, as far as config.json says.
    pub(super) fn separate(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some()
    }

    fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some_and(|namespace| namespace.path.is_none())
    }

    /// The field of a new namespace of this kind.
    pub(super) fn new_field(&self, kind: LinuxNamespaceType) -> Option<String> {
        self.find(kind).filter(|namespace| namespace.path.is_none()).map(Namespace::field)
    }

    pub(super) fn clone_flags(&self) -> u32 {
        BORN_INTO
            .iter()
            .filter(|kind| self.is_new(**kind))
            .fold(0, |flags, kind| flags | *kind as u32)
    }

    pub(super) fn own_pid(&self) -> bool {
        self.is_new(LinuxNamespaceType::Pid)
    }

    /// The field of a pid namespace that config.json names by path.
    pub(super) fn joined_pid(&self) -> Option<String> {
        let namespace = self.find(LinuxNamespaceType::Pid)?;
        namespace.path.map(|_| namespace.field())
    }
}

fn check_one(namespace: &Namespace<'_>) -> Result<()> {
    let field = namespace.field();
    if namespace.kind == LinuxNamespaceType::User {
        return Err(Error::unsupported(
            format!("{field}.type"),
            format!(
                "{} namespaces are not supported by this version of orlop",
                name(namespace.kind)
            ),
        ));
    }
    let Some(path) = namespace.path else { return Ok(()) };
    let field = format!("{field}.path");
    if !path.is_absolute() {
        return Err(Error::config(field, format!("{} is not absolute", path.display())));
    }
    kernel_path(path, &field).map(|_| ())
}

/// The specification's word for a kind.
pub(crate) fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// Joins the namespaces that config.json names by path; a pid namespace for the init's children
/// only ([`reborn`]).
pub(super) fn join(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    for namespace in &config.namespaces.0 {
        let Some(path) = namespace.path else { continue };
        let field = format!("{}.path", namespace.field());
        let flag = namespace.kind as u32;
        let foreign = super::sysctl::writes_in(config, namespace.kind);
        let slot =
            out.slot(field.clone(), Slot::Namespace { path: path.to_owned(), flag, foreign })?;
        out.child(field, Op::JoinNamespace { slot, flag });
    }
    Ok(())
}

/// Goes on inside a joined pid namespace: as late as can be, as others live there.
pub(super) fn reborn(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(field) = config.namespaces.joined_pid() {
        let terminal = config.process.terminal().unwrap_or(false);
        out.child(field, Op::Reborn { terminal });
    }
    Ok(())
}

/// The creator's side of [`reborn`].
pub(super) fn adopt(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(field) = config.namespaces.joined_pid() {
        out.host(field, HostOp::Adopt);
    }
    Ok(())
}

/// Whether the init is reborn.
pub(super) fn is_reborn(config: &Config<'_>) -> bool {
    config.request.joins_pid || config.namespaces.joined_pid().is_some()
}

pub(super) fn unshare_network(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    unshare(config, out, LinuxNamespaceType::Network);
    Ok(())
}

pub(super) fn unshare_cgroup(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    unshare(config, out, LinuxNamespaceType::Cgroup);
    Ok(())
}

fn unshare(config: &Config<'_>, out: &mut Columns, kind: LinuxNamespaceType) {
    if let Some(namespace) = config.namespaces.find(kind)
        && namespace.path.is_none()
    {
        out.child(namespace.field(), Op::Unshare { flags: kind as u32 });
    }
}

/// `lo` of a new network namespace is down, and programs expect it up.
pub(super) fn loopback(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(namespace) = config.namespaces.find(LinuxNamespaceType::Network)
        && namespace.path.is_none()
    {
        out.child(namespace.field(), Op::LoopbackUp);
    }
    Ok(())
}

pub(super) fn hostname(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(name) = uts_name(config, config.spec.hostname().as_deref(), "hostname")? {
        out.child("hostname", Op::Hostname { name });
    }
    Ok(())
}

pub(super) fn domainname(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(name) = uts_name(config, config.spec.domainname().as_deref(), "domainname")? {
        out.child("domainname", Op::Domainname { name });
    }
    Ok(())
}

fn uts_name(config: &Config<'_>, name: Option<&str>, field: &'static str) -> Result<Option<Bytes>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if !config.namespaces.separate(LinuxNamespaceType::Uts) {
        let text = format!("unable to set {field} without a private UTS namespace");
        return Err(Error::config(field, text).hint("linux.namespaces has none of type uts"));
    }
    if name.len() > LONGEST_NAME {
        return Err(Error::config(field, format!("is longer than {LONGEST_NAME} bytes")));
    }
    if name.contains('\0') {
        return Err(Error::config(field, "contains a NUL byte"));
    }
    Ok(Some(Bytes::blob(name)))
}
