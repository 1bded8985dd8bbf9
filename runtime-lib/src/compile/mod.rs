//! Compiling: config.json and the host's facts become a plan. Nothing here has effects.
//!
//! [`CHILD`] and [`HOST`] are the order of everything that happens, in one place; a file for each
//! section of the specification says what a step is.

mod capabilities;
mod cgroup;
pub(crate) mod cgroup_path;
mod check;
pub(crate) mod device_program;
mod devices;
pub(crate) mod exec;
mod hooks;
mod idmap;
pub(crate) mod ids;
mod labels;
pub(crate) mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod number_list;
mod paths;
mod process;
pub(crate) mod rdt;
pub(crate) mod resources;
mod root;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod sample;
mod schedule;
mod seccomp;
mod streams;
mod sysctl;
#[cfg(test)]
mod tests;
mod time;
pub(crate) mod unit;
mod variant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};
use orlop_init::plan::{Message, Op};

use crate::cgroup::systemd::Bus;
use crate::error::{Error, Field, Result};
use crate::plan::{Agent, Bytes, HostOp, Plan, Slot, Step};

pub(crate) use capabilities::names as capability_names;
pub(crate) use check::check_id;
pub(crate) use ids::{IdMap, IdMaps};
pub(crate) use mount_options::{attr, propagation_name};
pub(crate) use namespaces::name as namespace_name;
pub(crate) use number_list::text as number_list_text;
pub(crate) use process::rlimit_name;
pub(crate) use rdt::Rdt;
pub(crate) use schedule::{MODE_FLAGS, MODES, memory_policy_text, scheduling_text};

/// The version of the runtime-spec that is implemented, and that hooks are told.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// What the caller asks for beside config.json.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: String,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// How many descriptors from 3 on the program inherits.
    pub(crate) preserve_fds: u32,
    /// Absolute path of the directory of the socket for sd_notify(3).
    pub(crate) notify: Option<PathBuf>,
    /// Bit n: descriptor n of the program is the host's `/dev/null`.
    pub(crate) null_streams: u8,
    /// There is a socket for the terminal's master.
    pub(crate) console_socket: bool,
    /// The systemd that makes the cgroup; without one, the runtime makes it itself.
    pub(crate) systemd: Option<Bus>,
    /// The process joins a container that is there, rather than to become one.
    pub(crate) joins: bool,
    /// ... and that container has a pid namespace.
    pub(crate) joins_pid: bool,
    /// Whether missing rights over cgroups are tolerated; `None` where it depends on the caller.
    pub(crate) rootless: Option<bool>,
}

/// What the plan depends on, of the host.
#[derive(Debug, Clone)]
pub(crate) struct HostFacts {
    /// `/proc/sys/kernel/cap_last_cap`.
    pub(crate) last_capability: u8,
    /// The runtime's own cgroup, as `/user.slice/x`.
    pub(crate) own_cgroup: String,
    /// The cgroup of the user's systemd that makes the container's, as
    /// `/user.slice/user-1000.slice/user@1000.service`; empty for the system's.
    pub(crate) manager_cgroup: String,
    /// `/proc/kcore` is there.
    pub(crate) kcore: bool,
    /// The caller is not root, not even of a user namespace.
    pub(crate) unprivileged: bool,
    /// The caller is in a user namespace.
    pub(crate) in_user_namespace: bool,
    /// setgroups(2) is denied (`/proc/self/setgroups`).
    pub(crate) setgroups_denied: bool,
    /// AppArmor is in force.
    pub(crate) apparmor: bool,
    /// SELinux is in force.
    pub(crate) selinux: bool,
}

/// One step of the order.
type Section = fn(&Config<'_>, &mut Columns) -> Result<()>;

/// What the init does, in this order.
const CHILD: &[Section] = &[
    namespaces::admission,
    labels::open_procfs,
    schedule::first_affinity,
    unit::await_unit,
    time::namespace,
    namespaces::join,
    time::late_namespace,
    namespaces::unshare_late,
    namespaces::unshare_network,
    namespaces::unshare_cgroup,
    process::session_keyring,
    namespaces::loopback,
    root::host_propagation,
    root::open,
    mounts::mounts_and_sysctls,
    mounts::notify,
    devices::nodes,
    devices::links,
    hooks::wait_for_runtime_hooks,
    hooks::create_container,
    paths::masked,
    paths::readonly,
    root::pivot,
    root::propagation,
    process::create_cwd,
    streams::terminal,
    streams::reopen_null,
    mounts::seal,
    root::seal,
    namespaces::hostname,
    namespaces::domainname,
    process::personality,
    process::find_home,
    process::umask,
    labels::apparmor,
    labels::selinux,
    process::no_new_privileges,
    process::chdir,
    process::close_descriptors,
    process::rlimits,
    schedule::io_priority,
    schedule::scheduler,
    schedule::memory_policy,
    seccomp::while_privileged,
    capabilities::bounding,
    process::groups,
    process::user,
    capabilities::sets,
    process::chdir_again,
    process::find_program,
    seccomp::before_rebirth,
    namespaces::reborn,
    seccomp::before_start,
    ready,
    hooks::start_container,
    seccomp::after_hooks,
    seccomp::warn_of_no_listener,
    process::exec,
];

/// What the creator does meanwhile, in this order. All of it is done before the program starts:
/// the creator releases the init, or returns from `create`, only after this.
const HOST: &[Section] = &[
    namespaces::maps,
    process::oom_score_of_admitted,
    process::hard_limits,
    namespaces::admit,
    unit::tell,
    namespaces::adopt_early,
    cgroup::limits,
    unit::owner,
    streams::owner,
    hooks::runtime,
    seccomp::meet,
    // Of the process that it is by now: it may have been reborn before the first one's was written.
    process::oom_score,
    rdt::group,
    await_ready,
    cgroup::tight_limits,
    schedule::by_creator,
];

/// Decides everything that creating a container will do.
///
/// # Errors
/// What config.json asks for and must not or cannot be done, naming the field.
pub(crate) fn compile(spec: &Spec, request: &Request, facts: &HostFacts) -> Result<Plan> {
    check_id(&request.id)?;
    let config = Config::new(spec, request, facts)?;
    let mut out = Columns::default();
    check::caller(&config)?;
    check::mounts(&config, &mut out)?;
    check::platforms(&config, &mut out)?;
    for section in CHILD.iter().chain(HOST) {
        section(&config, &mut out)?;
    }
    seccomp::check(&out)?;
    let cgroup_need = cgroup::need(&config, &out);
    let unit = unit::unit(&config)?;
    Ok(Plan {
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: config.rootfs.clone(),
        clone_flags: namespaces::clone_flags(&config),
        own_pid_namespace: config.namespaces.own_pid(),
        joins: out.joins,
        slots: out.slots,
        child: out.child,
        host: out.host,
        cgroup: match &unit {
            Some(Step { op, field }) => Step { op: op.cgroup.clone(), field: field.clone() },
            None => cgroup::path(&config)?,
        },
        cgroup_need,
        unit,
        poststart: hooks::poststart(&config)?,
        poststop: hooks::poststop(&config)?,
        annotations: annotations(spec),
        later_affinity: schedule::affinity_of_later(&config)?,
        preserve_fds: request.preserve_fds,
        warnings: out.warnings,
    })
}

/// The last the creator hears, and the first of `start`.
fn ready(_config: &Config<'_>, out: &mut Columns) -> Result<()> {
    out.child("process", Op::Notify(Message::Ready));
    out.child("process", Op::AwaitStart);
    Ok(())
}

/// The creator's side of [`ready`].
fn await_ready(_config: &Config<'_>, out: &mut Columns) -> Result<()> {
    out.host("process", HostOp::Await(Message::Ready));
    Ok(())
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    let all = spec.annotations().iter().flatten();
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The input of every section: config.json with what more than one of them looks at.
struct Config<'a> {
    spec: &'a Spec,
    process: &'a Process,
    linux: Option<&'a Linux>,
    request: &'a Request,
    facts: &'a HostFacts,
    /// Absolute.
    rootfs: PathBuf,
    namespaces: namespaces::Namespaces<'a>,
    user: ids::UserNamespace,
    resources: resources::ResourcePlan,
    env: process::Environment<'a>,
    /// A bind mount brings its own `/dev`: nothing is made in it.
    dev_is_bound: bool,
}

impl<'a> Config<'a> {
    fn new(spec: &'a Spec, request: &'a Request, facts: &'a HostFacts) -> Result<Self> {
        check::version(spec)?;
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| Error::config("process", "process property must not be empty"))?;
        let namespaces = namespaces::Namespaces::new(spec)?;
        Ok(Self {
            process,
            user: ids::UserNamespace::new(spec.linux().as_ref(), &namespaces)?,
            resources: cgroup::resources(spec.linux().as_ref())?,
            linux: spec.linux().as_ref(),
            request,
            facts,
            rootfs: root::path(spec, &request.bundle)?,
            namespaces,
            env: process::Environment::new(process, request.notify.is_some())?,
            dev_is_bound: mounts::binds_dev(spec),
            spec,
        })
    }

    fn nnp(&self) -> bool {
        self.process.no_new_privileges().unwrap_or(false)
    }
}

/// The output of every section.
#[derive(Default)]
struct Columns {
    joins: Vec<Step<Slot>>,
    slots: Vec<Step<Slot>>,
    child: Vec<Step<Op<Bytes>>>,
    host: Vec<Step<HostOp>>,
    warnings: Vec<(Field, String)>,
    /// The filter that is loaded by one of the init's operations.
    filter: Option<crate::seccomp::Filter>,
    /// Who answers for it.
    agent: Option<Agent>,
}

impl Columns {
    fn child(&mut self, field: impl Into<Field>, op: Op<Bytes>) {
        self.child.push(Step { op, field: field.into() });
    }

    fn host(&mut self, field: impl Into<Field>, op: HostOp) {
        self.host.push(Step { op, field: field.into() });
    }

    /// Adds a namespace that the init is born in.
    fn born_in(&mut self, field: impl Into<Field>, slot: Slot) {
        self.joins.push(Step { op: slot, field: field.into() });
    }

    /// Adds a descriptor that the init inherits, and gives its number.
    fn slot(&mut self, field: impl Into<Field>, slot: Slot) -> Result<u16> {
        let number =
            u16::try_from(self.slots.len()).map_err(|_| Error::bug("too many descriptors"))?;
        self.slots.push(Step { op: slot, field: field.into() });
        Ok(number)
    }

    fn warn(&mut self, field: impl Into<Field>, text: impl Into<String>) {
        self.warnings.push((field.into(), text.into()));
    }
}

/// The kernel's limit on a path with its NUL (PATH_MAX).
const PATH_MAX: usize = 4096;

/// A path for the kernel as it stands.
fn kernel_path(path: impl AsRef<Path>, field: &str) -> Result<Bytes> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_ref().as_os_str().as_bytes();
    if bytes.len() >= PATH_MAX {
        return Err(Error::config(field.to_owned(), "is longer than a path may be (4095 bytes)"));
    }
    Bytes::c_string(bytes, field)
}

/// The kernel's limit on one argument or variable of a program with its NUL (MAX_ARG_STRLEN).
const ARGUMENT_MAX: usize = 131_072;

/// Arguments or variables of a program; an error names the element.
fn kernel_list<S: AsRef<str>>(items: &[S], field: &str) -> Result<Bytes> {
    for (index, item) in items.iter().map(AsRef::as_ref).enumerate() {
        let error = |text| Err(Error::config(format!("{field}[{index}]"), text));
        if item.contains('\0') {
            return error("contains a NUL byte");
        }
        if item.len() >= ARGUMENT_MAX {
            return error("is longer than an argument may be (131071 bytes)");
        }
    }
    Bytes::list(items.iter().map(AsRef::as_ref), field)
}

/// A path in the container, absolute, without `.`, `..` and doubled slashes.
///
/// `..` goes no higher than the root. Symbolic links are the init's matter: it resolves inside the root.
fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => _ = out.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}
