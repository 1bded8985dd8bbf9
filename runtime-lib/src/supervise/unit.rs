//! The container's unit: systemd makes its cgroup, with the init in it.

use crate::cgroup::Cgroup;
use crate::cgroup::systemd::{Manager, NotStarted, Property};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::plan::{Step, UnitPlan};
use crate::state::UnitRecord;

use super::Init;

/// Why there is no unit.
#[derive(Debug)]
pub(crate) struct NotAdmitted {
    pub(crate) error: Error,
    /// There may be something of it to clean up.
    pub(crate) begun: bool,
}

/// Any other failure, behind the first effects.
impl From<Error> for NotAdmitted {
    fn from(error: Error) -> Self {
        Self { error, begun: true }
    }
}

/// Starts the unit, which takes the init in; gives its cgroup.
pub(crate) fn admit(unit: &Step<UnitPlan>, init: &Init) -> Result<Cgroup, NotAdmitted> {
    let Step { op: unit, field } = unit;
    let none = |error: Error| NotAdmitted { error: error.at(field.clone()), begun: false };
    let some = |error: Error| NotAdmitted { error: error.at(field.clone()), begun: true };
    let pid = u32::try_from(init.pid()).map_err(|_| none(Error::bug("a negative pid")))?;
    let pids: &[u32] = if unit.is_slice() { &[] } else { &[pid] };
    let properties: Vec<Property> = unit.properties.iter().map(|step| step.op.clone()).collect();
    let mut manager = Manager::connect(&unit.bus).map_err(none)?;
    manager.start(&unit.name, &properties, pids).map_err(|failed| NotAdmitted {
        begun: failed.begun,
        error: named(failed, &unit.properties).at(field.clone()),
    })?;
    let cgroup = Cgroup::adopt(&unit.cgroup).map_err(some)?;
    if unit.is_slice() {
        cgroup.take(init.pid()).map_err(some)?;
    }
    // The cgroup is worked with by its path from now on: what systemd says is not enough.
    let actual = host::cgroup_of(init.pid()).map_err(some)?;
    if actual != unit.cgroup {
        let (name, cgroup) = (&unit.name, &unit.cgroup);
        let message = format!("systemd put {name} into the cgroup {actual:?}, not {cgroup:?}");
        return Err(some(Error::new(ErrorKind::System, message)));
    }
    Ok(cgroup)
}

/// Has systemd put an init into its container's unit: into the cgroup `path`, which is `below` in
/// the unit's. A user's systemd asks the system's for what it may not do itself.
///
/// # Errors
/// systemd refuses, or has not done it.
pub(crate) fn attach(unit: &UnitRecord, below: &str, path: &str, init: &Init) -> Result<()> {
    let name = &unit.name;
    let pid = u32::try_from(init.pid()).map_err(|_| Error::bug("a negative pid"))?;
    Manager::connect(&unit.bus)?.attach(name, below, pid)?;
    let actual = host::cgroup_of(init.pid())?;
    if actual != path {
        let message = format!("systemd left a process in the cgroup {actual:?}, not in {path:?}");
        return Err(Error::new(ErrorKind::System, message));
    }
    Ok(())
}

/// Tells systemd of other limits.
///
/// # Errors
/// It refuses one: then none has changed.
pub(crate) fn set_properties(unit: &UnitRecord, properties: &[Step<Property>]) -> Result<()> {
    let all: Vec<Property> = properties.iter().map(|step| step.op.clone()).collect();
    let mut manager = Manager::connect(&unit.bus)?;
    manager.set(&unit.name, &all).map_err(|failed| named(failed, properties))
}

/// Tells systemd of a limit that was not for the time of setting up.
///
/// # Errors
/// It refuses.
pub(super) fn set_late(unit: &UnitPlan, property: &Property) -> Result<()> {
    let mut manager = Manager::connect(&unit.bus)?;
    manager.set(&unit.name, std::slice::from_ref(property)).map_err(|failed| failed.error)
}

/// Ends the unit, if it is there, and has systemd forget that it failed, if it did.
///
/// # Errors
/// systemd does not do it in time.
pub(crate) fn stop(unit: &UnitRecord) -> Result<()> {
    match Manager::connect(&unit.bus) {
        Ok(mut manager) => manager.stop(&unit.name),
        // Its cgroup is gone: with whatever systemd there is, the unit ends by itself.
        Err(_) => Ok(()),
    }
}

/// The error, at the field of the property that systemd complains of.
fn named(failed: NotStarted, properties: &[Step<Property>]) -> Error {
    let property = failed.property.and_then(|index| properties.get(index));
    match property {
        Some(step) => failed.error.at(step.field.clone()),
        None => failed.error,
    }
}
