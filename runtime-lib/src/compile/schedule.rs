//! How the program is scheduled: `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`,
//! and `linux.memoryPolicy`.

use oci_spec::runtime::{
    IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Scheduler,
};
use orlop_init::plan::{Op, Scheduling};

use super::{Columns, Config, hooks, namespaces, number_list};
use crate::error::{Error, Result};
use crate::plan::{Bytes, HostOp};

const SCHEDULER: &str = "process.scheduler";

/// Numbers of the policies (`SCHED_*` of <linux/sched.h>) and their names.
const POLICIES: [(LinuxSchedulerPolicy, u32, &str); 6] = [
    (LinuxSchedulerPolicy::SchedOther, 0, "SCHED_OTHER"),
    (LinuxSchedulerPolicy::SchedFifo, 1, "SCHED_FIFO"),
    (LinuxSchedulerPolicy::SchedRr, 2, "SCHED_RR"),
    (LinuxSchedulerPolicy::SchedBatch, 3, "SCHED_BATCH"),
    (LinuxSchedulerPolicy::SchedIdle, 5, "SCHED_IDLE"),
    (LinuxSchedulerPolicy::SchedDeadline, DEADLINE, "SCHED_DEADLINE"),
];
const DEADLINE: u32 = 6;

/// `SCHED_FLAG_*` of <linux/sched.h>.
const FLAGS: [(LinuxSchedulerFlag, u64, &str); 7] = [
    (LinuxSchedulerFlag::SchedResetOnFork, RESET_ON_FORK, "SCHED_FLAG_RESET_ON_FORK"),
    (LinuxSchedulerFlag::SchedFlagReclaim, 0x02, "SCHED_FLAG_RECLAIM"),
    (LinuxSchedulerFlag::SchedFlagDLOverrun, 0x04, "SCHED_FLAG_DL_OVERRUN"),
    (LinuxSchedulerFlag::SchedFlagKeepPolicy, 0x08, "SCHED_FLAG_KEEP_POLICY"),
    (LinuxSchedulerFlag::SchedFlagKeepParams, 0x10, "SCHED_FLAG_KEEP_PARAMS"),
    (LinuxSchedulerFlag::SchedFlagUtilClampMin, 0x20, "SCHED_FLAG_UTIL_CLAMP_MIN"),
    (LinuxSchedulerFlag::SchedFlagUtilClampMax, 0x40, "SCHED_FLAG_UTIL_CLAMP_MAX"),
];
const RESET_ON_FORK: u64 = 0x01;

/// A policy in words, with its flags.
pub(crate) fn scheduling_text(new: &Scheduling) -> String {
    let name = POLICIES.iter().find(|(_, number, _)| *number == new.policy);
    let mut text = name.map_or("?", |(_, _, name)| name).to_owned();
    for (what, value) in [
        ("nice", i64::from(new.nice)),
        ("priority", i64::from(new.priority)),
        ("runtime", i64::try_from(new.runtime).unwrap_or(i64::MAX)),
        ("deadline", i64::try_from(new.deadline).unwrap_or(i64::MAX)),
        ("period", i64::try_from(new.period).unwrap_or(i64::MAX)),
    ] {
        if value != 0 {
            text.push_str(&format!(" {what} {value}"));
        }
    }
    for (_, _, name) in FLAGS.iter().filter(|(_, bit, _)| new.flags & bit != 0) {
        text.push_str(&format!(" {name}"));
    }
    text
}

/// `process.scheduler`, checked.
fn scheduling(config: &Config<'_>) -> Result<Option<Scheduling>> {
    let Some(asked) = config.process.scheduler() else { return Ok(None) };
    let known = POLICIES.iter().find(|(policy, _, _)| policy == asked.policy());
    let Some((_, policy, name)) = known else {
        let text = format!("no Linux has the policy {}", asked.policy());
        return Err(Error::unsupported("process.scheduler.policy", text));
    };
    let mut flags = 0;
    for flag in asked.flags().iter().flatten() {
        flags |= FLAGS.iter().find(|(known, _, _)| known == flag).map_or(0, |(_, bit, _)| *bit);
    }
    let new = Scheduling {
        policy: *policy,
        flags,
        nice: nice(asked)?,
        priority: priority(asked, *policy, name)?,
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
    };
    check_deadline(&new, name)?;
    if new.policy == DEADLINE && flags & RESET_ON_FORK == 0 && hooks::run_at_start(config) {
        let text = "SCHED_DEADLINE without SCHED_FLAG_RESET_ON_FORK forbids to fork, and \
            hooks.startContainer are to be run";
        return Err(Error::config(SCHEDULER, text));
    }
    Ok(Some(new))
}

fn nice(asked: &Scheduler) -> Result<i32> {
    const FIELD: &str = "process.scheduler.nice";
    let nice = asked.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::config(FIELD, format!("{nice} is not in -20 to 19")));
    }
    // The kernel passes over it where it is not for SCHED_OTHER or SCHED_BATCH (sched_setattr(2)).
    Ok(nice)
}

fn priority(asked: &Scheduler, policy: u32, name: &str) -> Result<u32> {
    const FIELD: &str = "process.scheduler.priority";
    let priority = asked.priority().unwrap_or(0);
    let realtime = matches!(policy, 1 | 2);
    match u32::try_from(priority) {
        Ok(priority @ 1..=99) if realtime => Ok(priority),
        Ok(0) if !realtime => Ok(0),
        _ if realtime => {
            Err(Error::config(FIELD, format!("{priority} is not in 1 to 99, as {name} needs it")))
        }
        _ => Err(Error::config(FIELD, format!("is for SCHED_FIFO and SCHED_RR, not for {name}"))),
    }
}

/// sched(7): runtime <= deadline <= period, and a period of 0 is the deadline.
fn check_deadline(new: &Scheduling, name: &str) -> Result<()> {
    /// The kernel's least, in nanoseconds.
    const LEAST: u64 = 1024;
    let fields = [("runtime", new.runtime), ("deadline", new.deadline), ("period", new.period)];
    let error = |leaf: &str, text: String| Err(Error::config(format!("{SCHEDULER}.{leaf}"), text));
    if new.policy != DEADLINE {
        return match fields.iter().find(|(_, value)| *value != 0) {
            Some((leaf, _)) => error(leaf, format!("is for SCHED_DEADLINE, not for {name}")),
            None => Ok(()),
        };
    }
    if let Some((leaf, value)) = fields.iter().find(|(_, value)| *value >= 1 << 63) {
        return error(leaf, format!("{value} is more than the kernel counts (2^63 - 1)"));
    }
    if new.runtime < LEAST {
        return error("runtime", format!("{} is less than {LEAST} nanoseconds", new.runtime));
    }
    if new.deadline < new.runtime {
        return error("deadline", format!("{} is less than the runtime", new.deadline));
    }
    if new.period != 0 && new.period < new.deadline {
        return error("period", format!("{} is less than the deadline", new.period));
    }
    Ok(())
}

/// Whether the creator has to do it, once the init does not fork any more: a process under
/// SCHED_DEADLINE may not fork, and one with the flag bears children without the policy. In a user
/// namespace the init has no right to raise its priority.
fn is_late(config: &Config<'_>, new: &Scheduling) -> bool {
    new.policy == DEADLINE
        || config.user.is_some()
        || namespaces::is_reborn(config) && new.flags & RESET_ON_FORK != 0
}

/// While the init may still raise its own priority; what the child that it is reborn as must not
/// lose is left to [`by_creator`].
pub(super) fn scheduler(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(new) = scheduling(config)?
        && new.policy != DEADLINE
        && !config.user.is_some()
    {
        let late = is_late(config, &new);
        let flags = if late { new.flags & !RESET_ON_FORK } else { new.flags };
        out.child(SCHEDULER, Op::Scheduler(Scheduling { flags, ..new }));
    }
    Ok(())
}

/// The creator's part of [`scheduler`], when the init is ready.
pub(super) fn by_creator(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(new) = scheduling(config)?.filter(|new| is_late(config, new)) {
        out.host(SCHEDULER, HostOp::Scheduler(new));
    }
    Ok(())
}

/// `process.ioPriority`.
pub(super) fn io_priority(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const LEAF: &str = "process.ioPriority.priority";
    let Some(asked) = config.process.io_priority() else { return Ok(()) };
    // IOPRIO_CLASS_* of <linux/ioprio.h>.
    let class = match asked.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u8::try_from(asked.priority()) {
        Ok(level @ 0..=7) => {
            // The realtime class takes a right that the init of a user namespace lacks.
            if config.user.is_some() {
                out.host("process.ioPriority", HostOp::IoPriority { class, level });
            } else {
                out.child("process.ioPriority", Op::IoPriority { class, level });
            }
            Ok(())
        }
        _ => Err(Error::config(LEAF, format!("{} is not in 0 to 7", asked.priority()))),
    }
}

/// The two lists of `process.execCPUAffinity`, as masks.
fn affinity(config: &Config<'_>) -> Result<[Option<Vec<u8>>; 2]> {
    let Some(asked) = config.process.exec_cpu_affinity() else { return Ok([None, None]) };
    let read = |list: &Option<String>, field| {
        let list = list.as_deref().filter(|list| !list.is_empty());
        list.map(|list| number_list::mask(list, field)).transpose()
    };
    Ok([
        read(asked.initial(), "process.execCPUAffinity.initial")?,
        read(asked.cpu_affinity_final(), "process.execCPUAffinity.final")?,
    ])
}

/// The processors at first: all that the cgroup allows, whatever the caller was pinned to. A joining
/// process has `initial`; as it is born in the container's cgroup, only what that allows of it.
pub(super) fn first_affinity(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const FIELD: &str = "process.execCPUAffinity";
    let [initial, _] = affinity(config)?;
    let initial = initial.filter(|_| config.request.joins);
    let (field, cpus) = match initial {
        Some(cpus) => ("process.execCPUAffinity.initial", Bytes::blob(cpus)),
        None => (FIELD, Bytes::default()),
    };
    out.child(field, Op::Affinity { cpus, tolerant: true });
    Ok(())
}

/// `process.execCPUAffinity.final`.
pub(super) fn final_affinity(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let [_, Some(cpus)] = affinity(config)?
        && config.request.joins
    {
        let op = Op::Affinity { cpus: Bytes::blob(cpus), tolerant: false };
        out.child("process.execCPUAffinity.final", op);
    }
    Ok(())
}

/// `process.execCPUAffinity` of a container: in words, as it is for later processes.
pub(super) fn affinity_of_later(config: &Config<'_>) -> Result<Option<String>> {
    let [initial, last] = affinity(config)?;
    let show = |mask: Option<Vec<u8>>| mask.map_or("any".to_owned(), |m| number_list::text(&m));
    let any = initial.is_some() || last.is_some();
    Ok(any.then(|| format!("at first {}, then {}", show(initial), show(last))))
}

/// `MPOL_*` of <linux/mempolicy.h>.
pub(crate) const MODES: [(MemoryPolicyModeType, u32, &str); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0, "MPOL_DEFAULT"),
    (MemoryPolicyModeType::MpolPreferred, 1, "MPOL_PREFERRED"),
    (MemoryPolicyModeType::MpolBind, 2, "MPOL_BIND"),
    (MemoryPolicyModeType::MpolInterleave, 3, "MPOL_INTERLEAVE"),
    (MemoryPolicyModeType::MpolLocal, 4, "MPOL_LOCAL"),
    (MemoryPolicyModeType::MpolPreferredMany, 5, "MPOL_PREFERRED_MANY"),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6, "MPOL_WEIGHTED_INTERLEAVE"),
];

/// `MPOL_F_*` of <linux/mempolicy.h>.
pub(crate) const MODE_FLAGS: [(MemoryPolicyFlagType, u32, &str); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, NUMA_BALANCING, "MPOL_F_NUMA_BALANCING"),
    (MemoryPolicyFlagType::MpolFRelativeNodes, RELATIVE_NODES, "MPOL_F_RELATIVE_NODES"),
    (MemoryPolicyFlagType::MpolFStaticNodes, STATIC_NODES, "MPOL_F_STATIC_NODES"),
];
const NUMA_BALANCING: u32 = 1 << 13;
const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

/// `linux.memoryPolicy`; the program inherits it over execve(2).
pub(super) fn memory_policy(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const NODES: &str = "linux.memoryPolicy.nodes";
    const FLAGS: &str = "linux.memoryPolicy.flags";
    let Some(asked) = config.linux.and_then(|linux| linux.memory_policy().as_ref()) else {
        return Ok(());
    };
    let known = MODES.iter().find(|(kind, _, _)| *kind == asked.mode());
    let Some((kind, mode, name)) = known else { return Err(Error::bug("a mode without number")) };
    let mut flags = 0;
    for flag in asked.flags().iter().flatten() {
        flags |= MODE_FLAGS.iter().find(|(known, _, _)| known == flag).map_or(0, |known| known.1);
    }
    let nodes = asked.nodes().as_deref().filter(|nodes| !nodes.is_empty());
    let nodes = nodes.map(|nodes| number_list::mask(nodes, NODES)).transpose()?;
    let nowhere =
        matches!(kind, MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal);
    // set_mempolicy(2): no nodes with MPOL_PREFERRED mean the local one.
    let needs_nodes = !nowhere && *kind != MemoryPolicyModeType::MpolPreferred;
    if nowhere && nodes.is_some() {
        return Err(Error::config(NODES, format!("must be empty for {name}")));
    }
    if needs_nodes && nodes.is_none() {
        return Err(Error::config(NODES, format!("are needed for {name}")));
    }
    if flags & STATIC_NODES != 0 && flags & RELATIVE_NODES != 0 {
        let text = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        return Err(Error::config(FLAGS, text));
    }
    if flags & (STATIC_NODES | RELATIVE_NODES) != 0 && nodes.is_none() {
        return Err(Error::config(FLAGS, "are about nodes, and there are none"));
    }
    let balanced =
        matches!(kind, MemoryPolicyModeType::MpolBind | MemoryPolicyModeType::MpolPreferredMany);
    if flags & NUMA_BALANCING != 0 && !balanced {
        let text =
            format!("MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not {name}");
        return Err(Error::config(FLAGS, text));
    }
    let nodes = Bytes::blob(nodes.unwrap_or_default());
    out.child("linux.memoryPolicy", Op::MemoryPolicy { mode: mode | flags, nodes });
    Ok(())
}

/// A mode with its flags in words.
pub(crate) fn memory_policy_text(mode: u32, nodes: &[u8]) -> String {
    let flags = MODE_FLAGS.iter().filter(|(_, bit, _)| mode & bit != 0);
    let plain = flags.clone().fold(mode, |mode, (_, bit, _)| mode & !bit);
    let name = MODES.iter().find(|(_, number, _)| *number == plain);
    let mut text = name.map_or("?", |(_, _, name)| name).to_owned();
    for (_, _, flag) in flags {
        text.push_str(&format!("|{flag}"));
    }
    if !nodes.is_empty() {
        text.push_str(&format!(" nodes {}", number_list::text(nodes)));
    }
    text
}
