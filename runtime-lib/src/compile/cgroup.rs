//! `linux.cgroupsPath` and `linux.resources`: the container's cgroup and its limits.

use oci_spec::runtime::Linux;

use super::resources::ResourcePlan;
use super::{Columns, Config, cgroup_path, resources, unit};
use crate::cgroup::CgroupWrite;
use crate::error::{Error, Result};
use crate::plan::{CgroupNeed, HostOp, Step};

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
pub(super) fn resources(linux: Option<&Linux>) -> Result<ResourcePlan> {
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let devices = linux.and_then(|linux| linux.devices().as_deref());
    resources::compile(resources, devices)
}

/// As much memory as setting a container up may take, in bytes: some 250 KiB with Docker's
/// configuration; more where there are many mounts.
const SETUP_ROOM: u64 = 4 << 20;

/// Whether a limit is smaller than what setting the container up takes.
fn is_tight(write: &CgroupWrite) -> bool {
    write.file == "memory.max" && write.value.parse().is_ok_and(|bytes: u64| bytes < SETUP_ROOM)
}

/// Whether the container gets less memory in the end than setting it up may take: then what can
/// count as its creator's shall.
pub(super) fn is_short_of_memory(config: &Config<'_>) -> bool {
    config.resources.limits.writes.iter().any(is_tight)
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
    let is_limit = |op: &HostOp| matches!(op, HostOp::CgroupWrite(_) | HostOp::LateCgroupWrite(_));
    let limited = out.host.iter().any(|step| is_limit(&step.op));
    if named || limited { CgroupNeed::Asked } else { CgroupNeed::IfPermitted }
}

/// The limits while the container is set up: [`SETUP_ROOM`] at least.
pub(super) fn early(config: &Config<'_>) -> Vec<CgroupWrite> {
    let mut writes = config.resources.limits.writes.clone();
    for write in writes.iter_mut().filter(|write| is_tight(write)) {
        write.value = SETUP_ROOM.to_string();
    }
    writes
}

/// The limits and the device program. `memory.checkBeforeUpdate` has nothing to check in a cgroup
/// that is new.
pub(super) fn limits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    for write in early(config) {
        out.host(write.field.clone(), HostOp::CgroupWrite(write));
    }
    // From inside a user namespace no program can be attached; nor can a device be made there.
    let refused = config.facts.in_user_namespace || config.facts.unprivileged;
    let devices = &config.resources.devices;
    if !devices.allows_everything() && !refused {
        out.host("linux.resources.devices", HostOp::DeviceProgram(devices.clone()));
    }
    Ok(())
}

/// Limits that are smaller than what setting up takes, when that is done: systemd writes what it
/// is told to the file itself, but before the last word here.
pub(super) fn tight_limits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let writes: Vec<_> =
        config.resources.limits.writes.iter().filter(|write| is_tight(write)).cloned().collect();
    if config.request.systemd.is_some() {
        for property in unit::limit_properties(&writes) {
            out.host(property.field, HostOp::LateUnitProperty(property.op));
        }
    }
    for write in writes {
        out.host(write.field.clone(), HostOp::LateCgroupWrite(write));
    }
    Ok(())
}
