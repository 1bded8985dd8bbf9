//! The creator's column of a plan.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::Uid;
use rustix::io::Errno;

use super::hooks::{HookState, run_hook};
use super::id_maps;
use super::init::Init;
use super::net_devices;
use crate::cgroup::{Cgroup, CgroupWrite};
use crate::error::{Error, Result};
use crate::plan::{HostOp, Plan, Step};
use crate::rdt::Resctrl;

/// What the operations act on.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) init: &'a Init,
    /// Its cgroup, unless it stays in the caller's.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// The standard streams of the container without a terminal.
    pub(crate) streams: [BorrowedFd<'a>; 3],
    /// Bit n: stream n is `/dev/null`.
    pub(crate) null_streams: u8,
    /// Environment of hooks without their own.
    pub(crate) hook_environment: &'a [String],
    /// The container that the process joins; without it, it becomes one.
    pub(crate) joined: Option<HookState<'a>>,
}

/// Executes the column, to the end.
///
/// # Errors
/// Naming the field of the operation that failed, here or in the init.
pub(crate) fn execute(plan: &Plan, target: &Target<'_>) -> Result<()> {
    let mut written = false;
    let mut listener = None;
    for step in &plan.host {
        if matches!(step.op, HostOp::CgroupWrite(_)) && !std::mem::replace(&mut written, true) {
            // All at once: a write may depend on a later one.
            let writes: Vec<CgroupWrite> = plan.host.iter().filter_map(cgroup_write).collect();
            cgroup(target)?.apply(&writes)?;
        }
        run(plan, target, &step.op, &mut listener).map_err(|error| {
            let ended = if is_on_the_init(&step.op) { target.init.ended(plan) } else { None };
            ended.unwrap_or(error).at(step.field.clone())
        })?;
    }
    Ok(())
}

/// Whether it is done to the init's process, as the kernel refuses for one that is about to end.
fn is_on_the_init(op: &HostOp) -> bool {
    matches!(
        op,
        HostOp::OomScoreAdj(_)
            | HostOp::IdMaps(_)
            | HostOp::Scheduler(_)
            | HostOp::IoPriority { .. }
            | HostOp::MoveNetDevice { .. }
            | HostOp::Rdt(_)
            | HostOp::JoinRdt(_)
            | HostOp::TakeListener
    )
}

fn cgroup<'a>(target: &Target<'a>) -> Result<&'a Cgroup> {
    target.cgroup.ok_or_else(|| Error::bug("a limit without a cgroup"))
}

fn cgroup_write(step: &Step<HostOp>) -> Option<CgroupWrite> {
    match &step.op {
        HostOp::CgroupWrite(write) => Some(write.clone()),
        _ => None,
    }
}

/// `listener`: that of the seccomp filter, from when it is taken until the agent has it.
fn run(
    plan: &Plan,
    target: &Target<'_>,
    op: &HostOp,
    listener: &mut Option<OwnedFd>,
) -> Result<()> {
    match op {
        // With the first of them.
        HostOp::CgroupWrite(_) => Ok(()),
        HostOp::LateCgroupWrite(write) => {
            let cgroup = cgroup(target)?;
            cgroup.apply(std::slice::from_ref(write))?;
            // The kernel kills whom a limit leaves no room before the write is done.
            match cgroup.oom_kills() {
                Some(kills) if kills > 0 => target.init.failure_soon(plan).map_or(Ok(()), Err),
                _ => Ok(()),
            }
        }
        HostOp::LateUnitProperty(property) => {
            let unit = plan.unit.as_ref().ok_or_else(|| Error::bug("a property without a unit"))?;
            super::unit::set_late(&unit.op, property)
        }
        HostOp::DeviceProgram(program) => match target.cgroup {
            Some(cgroup) => cgroup.attach_devices(program),
            None => Ok(()),
        },
        HostOp::CgroupOwner { uid } => cgroup(target)?.give_to(*uid),
        HostOp::OomScoreAdj(score) => set_oom_score(target.init.pid(), *score),
        HostOp::StdioOwner { uid } => own_streams(target, *uid),
        HostOp::IdMaps(maps) => id_maps::write(target.init.pid(), maps),
        HostOp::HardLimit { resource, hard } => {
            raise_limit(target.init.pid(), *resource, *hard);
            Ok(())
        }
        HostOp::Scheduler(new) => crate::sys::sched_setattr(target.init.pid(), new)
            .map_err(|errno| Error::sys("cannot set the scheduler", errno)),
        HostOp::MoveNetDevice { name, new_name } => {
            net_devices::move_into(target.init.pid(), name, new_name)
        }
        HostOp::Rdt(rdt) => Resctrl::open()?.enter(rdt, target.init.pid()),
        HostOp::JoinRdt(rdt) => Resctrl::open()?.join(rdt, target.init.pid()),
        HostOp::IoPriority { class, level } => {
            crate::sys::set_io_priority(target.init.pid(), *class, *level)
                .map_err(|errno| Error::sys("cannot set the I/O priority", errno))
        }
        HostOp::Adopt => target.init.adopt(plan),
        HostOp::Await(message) => target.init.wait_for(plan, *message),
        HostOp::Notify(message) => target.init.tell(plan, *message),
        HostOp::RunHook(hook) => {
            let state = creating(plan, target);
            run_hook(hook, &state, Some(&plan.bundle), target.hook_environment)
        }
        HostOp::Release => target.init.release(plan),
        HostOp::TakeListener => {
            *listener = Some(target.init.take_listener(plan)?);
            Ok(())
        }
        HostOp::CallAgent(agent) => {
            let listener = listener.take().ok_or_else(|| Error::bug("no listener was taken"))?;
            let own = creating(plan, target);
            let state = target.joined.as_ref().unwrap_or(&own);
            super::agent::call(agent, &listener, target.init.pid(), state)
        }
    }
}

/// The state of a container that is being created.
fn creating<'a>(plan: &'a Plan, target: &Target<'_>) -> HookState<'a> {
    HookState {
        id: &plan.id,
        status: "creating",
        pid: target.init.pid(),
        bundle: &plan.bundle,
        annotations: &plan.annotations,
    }
}

fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, score.to_string())
        .map_err(|error| Error::sys(format!("cannot write {score} to {path:?}"), &error))
}

/// Raises a hard limit; where that is refused, the init's own attempt will say so.
fn raise_limit(pid: i32, resource: u32, hard: u64) {
    let raised = crate::sys::resource_limit(pid, resource).and_then(|(soft, old)| {
        if old < hard {
            crate::sys::set_resource_limit(pid, resource, (soft, hard))
        } else {
            Ok(())
        }
    });
    let _the_init_says = raised;
}

/// The program shall be able to reopen its streams (`/dev/stderr`) as its own user.
fn own_streams(target: &Target<'_>, uid: u32) -> Result<()> {
    for (number, stream) in (0..).zip(target.streams) {
        if target.null_streams & (1 << number) != 0 {
            continue;
        }
        let owned = rustix::fs::fstat(stream).is_ok_and(|stat| stat.st_uid == uid);
        if owned {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A stream whose owner cannot be changed stays as it is, as with runc.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL | Errno::ACCESS) => {}
            Err(errno) => {
                return Err(Error::sys(
                    format!("cannot change the owner of stream {number}"),
                    errno,
                ));
            }
        }
    }
    Ok(())
}
