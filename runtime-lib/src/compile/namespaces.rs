//! `linux.namespaces`, and what lives in the UTS namespace: `hostname` and `domainname`.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use orlop_init::plan::{Message, Op};

use super::{Columns, Config, kernel_path};
use crate::error::{Error, Result};
use crate::plan::{Bytes, HostOp, Slot};

const USER: &str = "linux.namespaces";

/// `__NEW_UTS_LEN` of the kernel: the longest host name and domain name, in bytes.
const LONGEST_NAME: usize = 64;

/// Those that clone3(2) makes. The network is the init's, so that its making runs beside the
/// creator's work; the cgroup namespace too, since clone3 would root it at the creator's cgroup.
/// With a new user namespace, so is the IPC namespace: before the maps are written its mqueue
/// filesystem would belong to nobody. With a joined one, all are: they shall belong to it.
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
        let of = |kind| all.iter().find(|namespace| namespace.kind == kind);
        if let (Some(user), Some(mount)) =
            (of(LinuxNamespaceType::User), of(LinuxNamespaceType::Mount))
            && user.path.is_none()
            && mount.path.is_some()
        {
            let text = "a new user namespace has no rights over a mount namespace that is joined";
            return Err(Error::config(format!("{}.path", mount.field()), text));
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

    pub(super) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some_and(|namespace| namespace.path.is_none())
    }

    /// The field of a new namespace of this kind.
    pub(super) fn new_field(&self, kind: LinuxNamespaceType) -> Option<String> {
        self.find(kind).filter(|namespace| namespace.path.is_none()).map(Namespace::field)
    }

    fn joined(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some_and(|namespace| namespace.path.is_some())
    }

    fn born_into(&self) -> u32 {
        let new = BORN_INTO.iter().filter(|kind| self.is_new(**kind));
        new.fold(0, |flags, kind| flags | *kind as u32)
    }

    fn clone_flags(&self) -> u32 {
        if self.joined(LinuxNamespaceType::User) {
            return 0;
        }
        if self.is_new(LinuxNamespaceType::User) {
            let early = self.born_into() & !(LinuxNamespaceType::Ipc as u32);
            return early | LinuxNamespaceType::User as u32;
        }
        self.born_into()
    }

    /// Whether a new pid namespace is made in a user namespace that is joined.
    fn is_born_again(&self) -> bool {
        self.late_flags() & LinuxNamespaceType::Pid as u32 != 0
    }

    /// Those that clone3(2) makes only where there is no user namespace.
    fn late_flags(&self) -> u32 {
        if self.separate(LinuxNamespaceType::User) {
            self.born_into() & !self.clone_flags()
        } else {
            0
        }
    }

    pub(super) fn own_pid(&self) -> bool {
        self.is_new(LinuxNamespaceType::Pid)
    }

    /// The field of a pid namespace that config.json names by path, and that the init enters late.
    /// From a new user namespace it could not: it is born there.
    pub(super) fn joined_pid(&self) -> Option<String> {
        if self.is_new(LinuxNamespaceType::User) {
            return None;
        }
        let namespace = self.find(LinuxNamespaceType::Pid)?;
        namespace.path.map(|_| namespace.field())
    }
}

/// The namespaces that clone3(2) makes.
pub(super) fn clone_flags(config: &Config<'_>) -> u32 {
    let network = if is_network_born(config) { LinuxNamespaceType::Network as u32 } else { 0 };
    config.namespaces.clone_flags() | network
}

/// Whether clone3(2) makes the network as well: what a process allocates counts in its own cgroup,
/// and that of a network namespace would leave little of a small limit.
fn is_network_born(config: &Config<'_>) -> bool {
    config.namespaces.is_new(LinuxNamespaceType::Network)
        && !config.namespaces.joined(LinuxNamespaceType::User)
        && super::cgroup::is_short_of_memory(config)
}

fn check_one(namespace: &Namespace<'_>) -> Result<()> {
    let field = namespace.field();
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

/// In a user namespace the init waits for what only its creator can do. In a new one it then becomes
/// the user that sets the container up.
pub(super) fn admission(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !config.user.is_some() {
        return Ok(());
    }
    out.child(USER, Op::Await(Message::Admitted));
    if config.user.is_new() {
        setter(config, out);
    }
    Ok(())
}

/// The creator's side of [`admission`]; what [`super::HOST`] has before, the init waits for.
pub(super) fn admit(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.user.is_some() {
        out.host(USER, HostOp::Notify(Message::Admitted));
    }
    Ok(())
}

/// `linux.uidMappings` and `linux.gidMappings` of a new user namespace.
pub(super) fn maps(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.user.is_new()
        && let Some(maps) = config.user.maps()
    {
        out.host("linux.uidMappings", HostOp::IdMaps(maps.clone()));
    }
    Ok(())
}

/// The process's own user is mapped, as it must become that.
pub(super) fn setter(config: &Config<'_>, out: &mut Columns) {
    let user = config.process.user();
    out.child(USER, Op::NamespaceUser { uid: user.uid(), gid: user.gid() });
}

/// Joins the namespaces that config.json names by path; a pid namespace for the init's children
/// only ([`reborn`]).
pub(super) fn join(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    // Joining takes rights over the namespace's owner. The caller's are lost with its user
    // namespace; a caller without any has only those over a user namespace of its own.
    let user_first = config.facts.unprivileged;
    let (user, others): (Vec<_>, Vec<_>) =
        config.namespaces.0.iter().partition(|one| one.kind == LinuxNamespaceType::User);
    if user_first {
        join_user(config, &user, out)?;
    }
    for namespace in others {
        let Some(path) = namespace.path else { continue };
        let field = format!("{}.path", namespace.field());
        let flag = namespace.kind as u32;
        let foreign = super::sysctl::writes_in(config, namespace.kind);
        let slot = Slot::Namespace { path: path.to_owned(), flag, foreign };
        if config.user.is_new() {
            out.born_in(field, slot);
        } else {
            let slot = out.slot(field.clone(), slot)?;
            out.child(field, Op::JoinNamespace { slot, flag });
        }
    }
    if !user_first {
        join_user(config, &user, out)?;
    }
    Ok(())
}

fn join_user(config: &Config<'_>, user: &[&Namespace<'_>], out: &mut Columns) -> Result<()> {
    let Some((namespace, path)) = user.iter().find_map(|one| one.path.map(|path| (one, path)))
    else {
        return Ok(());
    };
    let field = format!("{}.path", namespace.field());
    let flag = namespace.kind as u32;
    let foreign = super::sysctl::writes_in(config, namespace.kind);
    let slot = out.slot(field.clone(), Slot::Namespace { path: path.to_owned(), flag, foreign })?;
    out.child(field, Op::JoinNamespace { slot, flag });
    if let Some(maps) = config.user.maps() {
        out.warn(
            "linux.uidMappings",
            "has no effect: the namespace that is joined has them already",
        );
        let (uids, gids) = (maps.users.to_bytes(), maps.groups.to_bytes());
        out.child("linux.uidMappings", Op::CheckIdMaps { uids, gids });
    }
    setter(config, out);
    Ok(())
}

/// The namespaces that shall belong to the user namespace and could not be born with it. A pid
/// namespace is for children: the init goes on as its first process.
pub(super) fn unshare_late(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let flags = config.namespaces.late_flags();
    if flags != 0 {
        out.child("linux.namespaces", Op::Unshare { flags });
    }
    if config.namespaces.is_born_again() {
        out.child("linux.namespaces", Op::Reborn { terminal: false });
    }
    Ok(())
}

/// The creator's side of [`unshare_late`].
pub(super) fn adopt_early(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.namespaces.is_born_again() {
        out.host("linux.namespaces", HostOp::Adopt);
        out.host("linux.namespaces", HostOp::Release);
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

/// Whether the init is reborn.
pub(super) fn is_reborn(config: &Config<'_>) -> bool {
    config.request.joins_pid || config.namespaces.joined_pid().is_some()
}

pub(super) fn unshare_network(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !is_network_born(config) {
        unshare(config, out, LinuxNamespaceType::Network);
    }
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
