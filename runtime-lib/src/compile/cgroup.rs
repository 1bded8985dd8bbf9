//! `linux.cgroupsPath` and `linux.resources`: the container's cgroup and its limits.

use super::{Columns, Config, cgroup_path, resources};
use crate::error::{Error, Result};
use crate::plan::{CgroupNeed, HostOp, Step};

const PATH: &str = "linux.cgroupsPath";

/// The container's cgroup.
pub(super) fn path(config: &Config<'_>) -> Result<Step<String>> {
    let wanted = config.linux.and_then(|linux| linux.cgroups_path().as_deref());
    let wanted = match wanted.map(|path| path.to_str()) {
        Some(None) => return Err(Error::config(PATH, "is not UTF-8")),
        Some(known) => known,
        None => None,
    };
    let (id, own) = (&config.request.id, &config.facts.own_cgroup);
    Ok(Step { op: cgroup_path::cgroup_path(wanted, id, own)?, field: PATH.into() })
}

/// What a caller may do without who has no rights over cgroups: it is not root, or only of a user
/// namespace, or has said so.
pub(super) fn need(config: &Config<'_>, out: &Columns) -> CgroupNeed {
    let facts = config.facts;
    let guess = facts.unprivileged || facts.in_user_namespace;
    if !config.request.rootless.unwrap_or(guess) {
        return CgroupNeed::Always;
    }
    let wanted = config.linux.and_then(|linux| linux.cgroups_path().as_deref());
    let named = wanted.is_some_and(|path| !path.as_os_str().is_empty());
    let limited = out.host.iter().any(|step| matches!(step.op, HostOp::CgroupWrite(_)));
    if named || limited { CgroupNeed::Asked } else { CgroupNeed::IfPermitted }
}

/// The limits and the device program. `memory.checkBeforeUpdate` has nothing to check in a cgroup
/// that is new.
pub(super) fn limits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let resources = config.linux.and_then(|linux| linux.resources().as_ref());
    let devices = config.linux.and_then(|linux| linux.devices().as_deref());
    let plan = resources::compile(resources, devices)?;
    for write in plan.limits.writes {
        out.host(write.field.clone(), HostOp::CgroupWrite(write));
    }
    // From inside a user namespace no program can be attached; nor can a device be made there.
    let refused = config.facts.in_user_namespace || config.facts.unprivileged;
    if !plan.devices.allows_everything() && !refused {
        out.host("linux.resources.devices", HostOp::DeviceProgram(plan.devices));
    }
    Ok(())
}
