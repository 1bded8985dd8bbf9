//! `linux.cgroupsPath` and `linux.resources`: the container's cgroup and its limits.

use super::resources::ResourcePlan;
use super::{Columns, Config, cgroup_path, resources};
use crate::error::{Error, Result};
use crate::plan::{HostOp, Step};

const PATH: &str = "linux.cgroupsPath";

/// The container's cgroup, where no unit is it.
pub(super) fn path(config: &Config<'_>) -> Result<Step<String>> {
    let (id, own) = (&config.request.id, &config.facts.own_cgroup);
    let op = cgroup_path::cgroup_path(wanted(config)?, id, own)?;
    Ok(Step { op, field: PATH.into() })
}

/// `linux.cgroupsPath` as it stands.
pub(super) fn wanted<'a>(config: &Config<'a>) -> Result<Option<&'a str>> {
    let wanted = config.linux.and_then(|linux| linux.cgroups_path().as_deref());
    match wanted.map(|path| path.to_str()) {
        Some(None) => Err(Error::config(PATH, "is not UTF-8")),
        known => Ok(known.flatten()),
    }
}

/// `linux.resources`.
pub(super) fn resources(config: &Config<'_>) -> Result<ResourcePlan> {
    let resources = config.linux.and_then(|linux| linux.resources().as_ref());
    let devices = config.linux.and_then(|linux| linux.devices().as_deref());
    resources::compile(resources, devices)
}

/// The limits and the device program. `memory.checkBeforeUpdate` has nothing to check in a cgroup
/// that is new.
pub(super) fn limits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let plan = resources(config)?;
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
