//! `mounts`, in order, and the sysctls between them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use orlop_init::plan::{Attributes, Bind, Filesystem, IdMap, Op, Special};

use super::mount_options::{Options, attr};
use super::{Columns, Config, clean, idmap, kernel_path, labels, sysctl};
use crate::error::{Error, Result};
use crate::plan::Bytes;

/// What may be mounted below `/proc`: files that tools like lxcfs provide.
const BELOW_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Filesystems without a disk. Their instance takes no `ro`, or shares it with the host's mounts.
const PSEUDO: [&str; 20] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// The flag of filesystems that fsconfig(2) has no name for: it goes by mount(2).
const IVERSION: &str = "iversion";

/// One mount with what its fields say.
struct Entry<'a> {
    mount: &'a Mount,
    field: String,
    /// Cleaned, and from the container's root on.
    target: PathBuf,
    options: Options<'a>,
}

impl<'a> Entry<'a> {
    fn read(index: usize, mount: &'a Mount, rootfs: &Path) -> Self {
        let escapes = mount.typ().as_deref() == Some("overlay");
        let options = Options::read(mount.options().as_deref().unwrap_or_default(), escapes);
        let field = format!("mounts[{index}]");
        let cleaned = clean(mount.destination());
        // runc's habit: a destination may have the root's place on the host before it.
        let target = match cleaned.strip_prefix(rootfs) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => cleaned,
        };
        Self { mount, field, target, options }
    }

    fn error(&self, leaf: &str, text: impl Into<String>) -> Error {
        Error::config(format!("{}.{leaf}", self.field), text.into())
    }

    fn target(&self) -> Result<Bytes> {
        kernel_path(&self.target, &format!("{}.destination", self.field))
    }

    fn source(&self) -> Option<&Path> {
        self.mount.source().as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The filesystem's name; "cgroup" means version 2.
    fn fstype(&self) -> Option<&str> {
        match self.mount.typ().as_deref() {
            None | Some("") => None,
            Some("cgroup") => Some("cgroup2"),
            known => known,
        }
    }
}

fn entries<'a>(spec: &'a Spec, rootfs: &Path) -> impl Iterator<Item = Entry<'a>> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().enumerate().map(move |(index, mount)| Entry::read(index, mount, rootfs))
}

/// Whether a bind mount brings the container's `/dev`.
pub(super) fn binds_dev(spec: &Spec, rootfs: &Path) -> bool {
    entries(spec, rootfs)
        .any(|entry| entry.options.bind.is_some() && entry.target == Path::new("/dev"))
}

/// The mounts; the sysctls follow the first proc mount through which they can be written, and end
/// the list where there is none.
pub(super) fn mounts_and_sysctls(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let mut procfs_wanted = !sysctl::writes(config)?.is_empty();
    for entry in entries(config.spec, &config.rootfs) {
        let mut op = compile(config, &entry, out)?;
        if let Op::Filesystem(filesystem) = &mut op
            && filesystem.fstype.to_text() == "proc"
            && config.namespaces.joined_pid().is_some()
        {
            filesystem.special = filesystem.special.with(Special::JOINED_PIDS);
        }
        let mut writable = false;
        if procfs_wanted && let Op::Filesystem(filesystem) = &mut op {
            writable = gives_procfs(filesystem);
            if writable {
                filesystem.special = filesystem.special.with(Special::PROCFS);
            }
        }
        let unlabelled = match &op {
            Op::Filesystem(filesystem) if filesystem.fstype.to_text() == "mqueue" => {
                Some(filesystem.target.clone())
            }
            _ => None,
        };
        out.child(entry.field, op);
        if let Some(target) = unlabelled {
            labels::relabel(config, target, out)?;
        }
        if writable {
            sysctl::emit(config, out)?;
            procfs_wanted = false;
        }
    }
    if procfs_wanted {
        sysctl::emit(config, out)?;
    }
    Ok(())
}

/// The directory of the socket for sd_notify(3), where programs of containers look for it.
pub(super) fn notify(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const FIELD: &str = "NOTIFY_SOCKET";
    let Some(directory) = &config.request.notify else { return Ok(()) };
    let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let bind = Bind {
        source: kernel_path(directory, FIELD)?,
        target: kernel_path("/run/notify", FIELD)?,
        recursive: false,
        attributes: Attributes { set, ..Attributes::default() },
        tree_attributes: Attributes::default(),
        map: None,
        propagation: Bytes::default(),
    };
    out.child(FIELD, Op::Bind(bind));
    Ok(())
}

/// A writable procfs that hides nothing (`subset=pid` hides `sys`).
fn gives_procfs(filesystem: &Filesystem<Bytes>) -> bool {
    let Filesystem { fstype, options, attributes, .. } = filesystem;
    fstype.0 == b"proc\0" && options.0.is_empty() && attributes & attr::RDONLY == 0
}

fn compile(config: &Config<'_>, entry: &Entry<'_>, out: &mut Columns) -> Result<Op<Bytes>> {
    check_target(entry, out)?;
    let options = &entry.options;
    if let Some(index) = options.silent {
        out.warn(format!("{}.options[{index}]", entry.field), "silent has no effect");
    }
    check_proc(entry)?;
    let map = idmap::of(config, &entry.field, entry.mount, options.idmap, out)?;
    if options.remount {
        match map {
            Some(_) => Err(entry.error("options", "a remount cannot map ids")),
            None => remount(entry),
        }
    } else if let Some(recursive) = options.bind {
        bind(config, entry, recursive, map, out)
    } else if entry.fstype() == Some("cgroup2") && shows_hosts_cgroups(config) {
        cgroup_of_the_host(entry, map)
    } else {
        check_ids(config, entry)?;
        filesystem(config, entry, map)
    }
}

/// `uid=` and `gid=` are ids of the container's user namespace.
fn check_ids(config: &Config<'_>, entry: &Entry<'_>) -> Result<()> {
    let field = format!("{}.options", entry.field);
    for option in &entry.options.data {
        let id = |name: &str| option.strip_prefix(name).and_then(|id| id.parse().ok());
        if let Some(uid) = id("uid=") {
            config.user.check_user(uid, &field)?;
        }
        if let Some(gid) = id("gid=") {
            config.user.check_group(gid, &field)?;
        }
    }
    Ok(())
}

/// Whether the container is in another user namespace than the host's.
fn is_namespaced(config: &Config<'_>) -> bool {
    config.user.is_some() || config.facts.in_user_namespace
}

/// Whether a cgroup filesystem would be the host's: mounting that is not for a user namespace.
fn shows_hosts_cgroups(config: &Config<'_>) -> bool {
    config.user.is_some() && !config.namespaces.separate(LinuxNamespaceType::Cgroup)
}

/// The host's tree of cgroups in place of one of the container's own; read-only as a whole if at
/// all (CVE-2023-25809).
fn cgroup_of_the_host(entry: &Entry<'_>, map: Option<IdMap>) -> Result<Op<Bytes>> {
    no_data(entry, CGROUP_DATA)?;
    no_copy_up(entry)?;
    let set = entry.options.of_new_mount();
    Ok(Op::Bind(Bind {
        source: kernel_path("/sys/fs/cgroup", &format!("{}.source", entry.field))?,
        target: entry.target()?,
        recursive: true,
        attributes: Attributes { set: set & !attr::ATIME, ..Attributes::default() },
        tree_attributes: Attributes { set: set & attr::RDONLY, ..Attributes::default() },
        map,
        propagation: Bytes::blob(entry.options.propagation.as_slice()),
    }))
}

fn check_target(entry: &Entry<'_>, out: &mut Columns) -> Result<()> {
    let text = entry.mount.destination();
    if text.as_os_str().is_empty() {
        return Err(entry.error("destination", "is empty"));
    }
    if !text.is_absolute() {
        let warning = format!("{} is not absolute; it is taken relative to /", text.display());
        out.warn(format!("{}.destination", entry.field), warning);
    }
    if entry.target == Path::new("/") && !entry.options.remount {
        return Err(entry.error("destination", "must be below the container's root"));
    }
    Ok(())
}

/// What lies over or in `/proc` could feign the kernel's answers to the container's programs, and
/// (CVE-2019-16884, CVE-2025-52881) to runtimes.
fn check_proc(entry: &Entry<'_>) -> Result<()> {
    if entry.options.remount || !entry.target.starts_with("/proc") {
        return Ok(());
    }
    let shown = entry.target.display();
    if entry.target == Path::new("/proc") {
        let is_proc = match entry.options.bind {
            Some(_) => entry.source() == Some(Path::new("/proc")),
            None => entry.fstype() == Some("proc"),
        };
        if is_proc {
            return Ok(());
        }
        let text = format!("\"{shown}\" cannot be mounted because it is not of type proc");
        return Err(entry.error("destination", text));
    }
    if BELOW_PROC.iter().any(|path| entry.target == Path::new(path)) {
        return Ok(());
    }
    let text = format!("\"{shown}\" cannot be mounted because it is inside /proc");
    Err(entry.error("destination", text))
}

/// Refuses options that only a filesystem of its own could have.
fn no_data(entry: &Entry<'_>, text: &str) -> Result<()> {
    match entry.options.data.first() {
        Some(option) => Err(entry.error("options", text).hint(format!("{option:?} is one"))),
        None => Ok(()),
    }
}

const CGROUP_DATA: &str = "a cgroup mount cannot have any filesystem-specific options applied";

const BIND_DATA: &str = "bind mounts cannot have any filesystem-specific options applied";

fn bind(
    config: &Config<'_>,
    entry: &Entry<'_>,
    recursive: bool,
    map: Option<IdMap>,
    out: &mut Columns,
) -> Result<Op<Bytes>> {
    no_data(entry, BIND_DATA)?;
    no_copy_up(entry)?;
    for flag in &entry.options.flags {
        let warning = format!("{flag} has no effect on a bind mount");
        out.warn(format!("{}.options", entry.field), warning);
    }
    let Some(source) = entry.source() else {
        return Err(entry.error("source", "a bind mount needs one"));
    };
    let source = config.request.bundle.join(source);
    let attributes = entry.options.of_bind();
    let mut tree_attributes = entry.options.of_tree();
    if source == Path::new("/sys") && is_namespaced(config) {
        // Below a read-only /sys nothing shall be writable either, such as cgroups (CVE-2023-25809).
        tree_attributes.set |= attributes.set & attr::RDONLY;
    }
    Ok(Op::Bind(Bind {
        source: kernel_path(source, &format!("{}.source", entry.field))?,
        target: entry.target()?,
        recursive,
        attributes,
        tree_attributes,
        map,
        propagation: Bytes::blob(entry.options.propagation.as_slice()),
    }))
}

fn remount(entry: &Entry<'_>) -> Result<Op<Bytes>> {
    no_data(
        entry,
        "a remount changes the mount only: options of the filesystem cannot be applied",
    )?;
    no_copy_up(entry)?;
    if let Some(flag) = entry.options.flags.first() {
        return Err(entry.error("options", format!("a remount cannot apply {flag:?}")));
    }
    if !entry.options.propagation.is_empty() {
        return Err(entry.error("options", "a remount cannot change the propagation"));
    }
    Ok(Op::Remount {
        target: entry.target()?,
        attributes: entry.options.of_bind(),
        tree_attributes: entry.options.of_tree(),
    })
}

fn no_copy_up(entry: &Entry<'_>) -> Result<()> {
    if entry.options.copy_up && (entry.options.bind.is_some() || entry.fstype() != Some("tmpfs")) {
        return Err(entry.error("options", "tmpcopyup is for a mount of type tmpfs only"));
    }
    Ok(())
}

fn filesystem(config: &Config<'_>, entry: &Entry<'_>, map: Option<IdMap>) -> Result<Op<Bytes>> {
    let Some(fstype) = entry.fstype() else {
        return Err(entry.error("type", "is missing, and options has neither bind nor rbind"));
    };
    if matches!(fstype, "bind" | "none") {
        let text = format!("a mount of type {fstype:?} needs the option bind or rbind");
        return Err(entry.error("options", text));
    }
    no_copy_up(entry)?;
    if fstype == "cgroup2" {
        // The kernel would apply them to the whole host.
        no_data(entry, CGROUP_DATA)?;
    }
    let mut attributes = entry.options.of_new_mount();
    let mut special = special(entry, fstype, attributes);
    let mut options = entry.options.flags.clone();
    if attributes & attr::RDONLY != 0 && !PSEUDO.contains(&fstype) {
        options.push("ro");
    }
    if PSEUDO.contains(&fstype) {
        // Versions of files that nobody keeps; and mount(2), which knows it, cannot all that
        // these filesystems want.
        options.retain(|option| *option != IVERSION);
    } else if map.is_some() && options.contains(&IVERSION) {
        return Err(entry.error("options", "iversion cannot be had together with mapped ids"));
    }
    options.extend(&entry.options.data);
    let label = context(config, entry, fstype)?;
    if label.is_some() {
        special = special.with(Special::LABELLED);
    }
    options.extend(label.as_deref());
    check_lengths(entry, &options, map)?;
    if special.has(Special::SEAL) {
        attributes &= !attr::RDONLY;
    }
    let source = match entry.source() {
        Some(source) => kernel_path(source, &format!("{}.source", entry.field))?,
        None => Bytes::default(),
    };
    Ok(Op::Filesystem(Filesystem {
        fstype: Bytes::c_string(fstype, &format!("{}.type", entry.field))?,
        source,
        target: entry.target()?,
        options: Bytes::list(options, &format!("{}.options", entry.field))?,
        attributes,
        map,
        propagation: Bytes::blob(entry.options.propagation.as_slice()),
        special,
    }))
}

/// Filesystems without labels of their own for each mount: the policy labels what is in them.
const UNLABELLED: [&str; 4] = ["cgroup2", "mqueue", "proc", "sysfs"];

/// `linux.mountLabel` as an option of a filesystem, unless it is given a label of its own.
fn context(config: &Config<'_>, entry: &Entry<'_>, fstype: &str) -> Result<Option<String>> {
    let given = entry.options.data.iter().any(|option| option.starts_with("context="));
    match labels::mount_label(config)? {
        Some(label) if !given && !UNLABELLED.contains(&fstype) => {
            Ok(Some(format!("context=\"{label}\"")))
        }
        _ => Ok(None),
    }
}

/// fsconfig(2) takes values of up to 255 bytes; longer ones go by mount(2), all of them in a page.
fn check_lengths(entry: &Entry<'_>, options: &[&str], map: Option<IdMap>) -> Result<()> {
    const LONGEST: usize = 255;
    const PAGE: usize = 4095;
    let text = "is longer than the kernel's mount interface takes (255 bytes)";
    if map.is_some() && options.iter().any(|option| option.len() > LONGEST) {
        // That interface cannot map ids.
        return Err(entry.error("options", text));
    }
    let all: usize = options.iter().map(|option| option.len() + 1).sum();
    if options.iter().any(|option| option.len() > LONGEST) && all > PAGE {
        let text = "are longer than the kernel's mount interface takes (4095 bytes)";
        return Err(entry.error("options", text));
    }
    if entry.source().is_some_and(|source| source.as_os_str().len() > LONGEST) {
        return Err(entry.error("source", text));
    }
    Ok(())
}

fn special(entry: &Entry<'_>, fstype: &str, attributes: u64) -> Special {
    let mut special = Special::default();
    let mut add = |when, bit| {
        if when {
            special = special.with(bit);
        }
    };
    let memory = matches!(fstype, "tmpfs" | "ramfs");
    let late = memory || entry.target == Path::new("/dev");
    add(late && attributes & attr::RDONLY != 0, Special::SEAL);
    add(entry.options.copy_up, Special::COPY_UP);
    let mode_given = entry.options.data.iter().any(|option| option.starts_with("mode="));
    add(fstype == "tmpfs" && !mode_given, Special::MODE_OF_TARGET);
    add(matches!(fstype, "proc" | "sysfs"), Special::PLAIN_TARGET);
    special
}

/// Turns those read-only that took mountpoints, devices and hooks' files until now.
pub(super) fn seal(_config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let sealed = out
        .child
        .iter()
        .find(|step| matches!(&step.op, Op::Filesystem(new) if new.special.has(Special::SEAL)));
    if let Some(field) = sealed.map(|step| step.field.clone()) {
        out.child(field, Op::SealMounts);
    }
    Ok(())
}
