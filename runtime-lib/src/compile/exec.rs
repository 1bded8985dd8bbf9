//! A further process in a container that is there.

use oci_spec::runtime::{
    LinuxBuilder, LinuxMemoryPolicy, LinuxNamespace, LinuxNamespaceType, LinuxPersonality, Process,
    Spec,
};
use orlop_init::plan::Op;
use serde::{Deserialize, Serialize};

use super::ids::{IdMaps, UserNamespace};
use super::{
    Columns, Config, HostFacts, Rdt, Request, Section, capabilities, check, labels, namespaces,
    process, schedule, streams, unit,
};
use crate::error::{Error, Result};
use crate::plan::{Agent, Bytes, CgroupNeed, HostOp, Plan, Slot, Step};
use crate::seccomp;

/// What is kept of a container's configuration for the processes that join it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Join {
    /// `CLONE_NEW*` of the namespaces that config.json lists, new or joined.
    pub(crate) namespaces: u32,
    /// `process`, without its arguments and environment.
    pub(crate) process: Process,
    pub(crate) personality: Option<LinuxPersonality>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_policy: Option<LinuxMemoryPolicy>,
    /// The group of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<Rdt>,
    /// `SECCOMP_FILTER_FLAG_*` of the filter that is kept beside.
    pub(crate) seccomp_flags: Option<u32>,
    /// Who answers for it.
    #[serde(default)]
    pub(crate) seccomp_agent: Option<Agent>,
    pub(crate) no_new_keyring: bool,
    pub(crate) no_pivot: bool,
    pub(crate) dev_is_bound: bool,
}

impl Join {
    /// Whether the container has a pid namespace, new or joined.
    pub(crate) fn has_pid_namespace(&self) -> bool {
        self.namespaces & LinuxNamespaceType::Pid as u32 != 0
    }

    /// Whether it has a user namespace, new or joined.
    pub(crate) fn has_user_namespace(&self) -> bool {
        self.namespaces & LinuxNamespaceType::User as u32 != 0
    }

    /// Of a container that is about to be created.
    pub(crate) fn of(spec: &Spec, plan: &Plan, request: &Request) -> Option<Self> {
        let linux = spec.linux().as_ref();
        let mut process = spec.process().clone()?;
        let rootfs = super::root::path(spec, &request.bundle).ok()?;
        process.set_args(None).set_env(None).set_terminal(None);
        let namespaces = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
        let seccomp_flags = plan.child.iter().find_map(|step| match &step.op {
            Op::Seccomp { flags, .. } => Some(*flags),
            _ => None,
        });
        Some(Self {
            namespaces: namespaces.fold(0, |flags, namespace| flags | namespace.typ() as u32),
            process,
            personality: linux.and_then(|linux| linux.personality().clone()),
            memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
            rdt: plan.rdt().cloned(),
            seccomp_flags,
            seccomp_agent: plan.host.iter().find_map(|step| match &step.op {
                HostOp::CallAgent(agent) => Some(agent.clone()),
                _ => None,
            }),
            no_new_keyring: request.no_new_keyring,
            no_pivot: request.no_pivot,
            dev_is_bound: super::mounts::binds_dev(spec, &rootfs),
        })
    }

    /// What `process` leaves open comes from the container's own (runc's rule): capabilities,
    /// resource limits, labels and how it is scheduled; and always the umask and the OOM score.
    fn complete(&self, process: &Process) -> Process {
        let mut process = process.clone();
        if process.capabilities().is_none() {
            process.set_capabilities(self.process.capabilities().clone());
        }
        if process.rlimits().is_none() {
            process.set_rlimits(self.process.rlimits().clone());
        }
        let missing = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        if missing(process.apparmor_profile()) {
            process.set_apparmor_profile(self.process.apparmor_profile().clone());
        }
        if missing(process.selinux_label()) {
            process.set_selinux_label(self.process.selinux_label().clone());
        }
        if process.scheduler().is_none() {
            process.set_scheduler(self.process.scheduler().clone());
        }
        if process.io_priority().is_none() {
            process.set_io_priority(*self.process.io_priority());
        }
        if process.exec_cpu_affinity().is_none() {
            process.set_exec_cpu_affinity(self.process.exec_cpu_affinity().clone());
        }
        process.set_oom_score_adj(self.process.oom_score_adj());
        let umask = self.process.user().umask();
        process.user_mut().set_umask(umask);
        process
    }
}

/// The filter of the container: its instructions, in bytes.
pub(crate) type Filter = Vec<u8>;

/// What the init of a joining process does, in this order: [`super::CHILD`] without what makes a
/// container.
const CHILD: &[Section] = &[
    process::session_keyring,
    streams::terminal,
    streams::reopen_null,
    process::personality,
    process::find_home,
    process::umask,
    labels::apparmor,
    labels::selinux,
    process::no_new_privileges,
    process::chdir,
    process::close_descriptors,
    process::rlimits,
    schedule::final_affinity,
    schedule::io_priority,
    schedule::scheduler,
    schedule::memory_policy,
];

/// The rest, after a filter that takes a privilege to load.
const AS_USER: &[Section] = &[
    capabilities::bounding,
    process::groups,
    process::user,
    capabilities::sets,
    process::chdir_again,
    process::find_program,
];

/// What the creator does meanwhile.
const HOST: &[Section] = &[
    process::oom_score_of_admitted,
    process::hard_limits,
    namespaces::admit,
    unit::tell,
    streams::owner,
    super::seccomp::meet,
];

/// ... and when the init is ready.
/// (The OOM score only now, as it is the reborn process's.)
const AT_LAST: &[Section] = &[process::oom_score, super::await_ready, schedule::by_creator];

/// Decides everything that running a process in a container will do. `maps` are those of the
/// container's user namespace, if it has one.
///
/// # Errors
/// A field of `process` that is wrong, or that this version cannot honour.
pub(crate) fn compile(
    join: &Join,
    process: &Process,
    filter: Option<Filter>,
    maps: Option<IdMaps>,
    request: &Request,
    facts: &HostFacts,
) -> Result<Plan> {
    let spec = synthetic_spec(join, join.complete(process))?;
    let mut config = Config::new(&spec, request, facts)?;
    config.dev_is_bound = join.dev_is_bound;
    if let Some(maps) = maps {
        config.user = UserNamespace::Joined(Some(maps));
    }
    let mut out = Columns::default();
    check::process(config.process, &mut out)?;
    namespaces::admission(&config, &mut out)?;
    labels::open_procfs(&config, &mut out)?;
    schedule::first_affinity(&config, &mut out)?;
    unit::await_unit(&config, &mut out)?;
    enter(join, &config, &mut out)?;
    run(CHILD, &config, &mut out)?;
    let filter = join.seccomp_flags.zip(filter);
    out.filter = filter.map(|(flags, program)| seccomp::Filter::from_bytes(&program, flags));
    out.agent.clone_from(&join.seccomp_agent);
    let mut loaded = false;
    // As for the container's own process: early where loading takes CAP_SYS_ADMIN.
    if !config.nnp() {
        load(&mut loaded, &mut out);
    }
    run(AS_USER, &config, &mut out)?;
    if request.joins_pid {
        // Before others in the container could take hold of a process without it.
        if out.filter.as_ref().is_some_and(super::seccomp::allows_rebirth) {
            load(&mut loaded, &mut out);
        }
        let terminal = config.process.terminal().unwrap_or(false);
        out.child("linux.namespaces", Op::Reborn { terminal });
    }
    load(&mut loaded, &mut out);
    super::seccomp::check_agent(&out)?;
    super::ready(&config, &mut out)?;
    process::exec(&config, &mut out)?;
    run(HOST, &config, &mut out)?;
    if let Some(rdt) = &join.rdt {
        out.host("linux.intelRdt", HostOp::JoinRdt(rdt.clone()));
    }
    run(AT_LAST, &config, &mut out)?;
    Ok(Plan {
        unit: None,
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: config.rootfs.clone(),
        clone_flags: 0,
        own_pid_namespace: false,
        joins: Vec::new(),
        slots: out.slots,
        child: out.child,
        host: out.host,
        cgroup: Step { op: String::new(), field: "linux.cgroupsPath".into() },
        cgroup_need: if facts.unprivileged || facts.in_user_namespace {
            CgroupNeed::IfPermitted
        } else {
            CgroupNeed::Always
        },
        poststart: Vec::new(),
        poststop: Vec::new(),
        annotations: Default::default(),
        later_affinity: None,
        preserve_fds: request.preserve_fds,
        warnings: out.warnings,
    })
}

fn run(sections: &[Section], config: &Config<'_>, out: &mut Columns) -> Result<()> {
    sections.iter().try_for_each(|section| section(config, out))
}

fn load(loaded: &mut bool, out: &mut Columns) {
    if let Some(filter) = out.filter.as_ref().filter(|_| !*loaded) {
        let (flags, program) = (filter.flags, Bytes::blob(filter.to_bytes()));
        out.child("linux.seccomp", Op::Seccomp { flags, program });
        *loaded = true;
    }
}

/// Joins the container's namespaces, all with one call, and finds its root.
fn enter(join: &Join, config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let flags = join.namespaces;
    let chrooted = join.no_pivot || flags & LinuxNamespaceType::Mount as u32 == 0;
    let root = if chrooted { Some(out.slot("root.path", Slot::ContainerRoot)?) } else { None };
    if flags != 0 {
        let slot = out.slot("linux.namespaces", Slot::Container)?;
        out.child("linux.namespaces", Op::JoinNamespace { slot, flag: flags });
    }
    if config.user.is_some() {
        namespaces::setter(config, out);
    }
    if let Some(slot) = root {
        out.child("root.path", Op::Chroot { slot });
    }
    out.child("root.path", Op::UseRoot);
    Ok(())
}

/// The parts of a configuration that a joining process has.
fn synthetic_spec(join: &Join, process: Process) -> Result<Spec> {
    let failed = |_| Error::bug("a configuration cannot be put together");
    let mut linux = LinuxBuilder::default().build().map_err(failed)?;
    linux.set_personality(join.personality.clone()).set_memory_policy(join.memory_policy.clone());
    // The namespaces are there; of what they are, only that a mount namespace is among them matters.
    let mut mount = LinuxNamespace::default();
    mount.set_typ(LinuxNamespaceType::Mount);
    linux.set_namespaces(Some(vec![mount])).set_resources(None);
    let mut spec = Spec::default();
    spec.set_version("1.3.0".to_owned()).set_process(Some(process)).set_linux(Some(linux));
    spec.set_mounts(None).set_hostname(None);
    Ok(spec)
}
