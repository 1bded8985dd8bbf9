//! Changing the limits of a container that exists.
//!
//! An update names what is to change; the rest stays. What one file of the cgroup holds together
//! (quota and period), or what is computed from two fields (memory and swap), is completed by what
//! was asked for last, which the container's record keeps.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
    Spec,
};
use serde_json::Value;

use crate::bundle::{drop_absent_limit, drop_nulls};
use crate::cgroup::{Cgroup, CgroupWrite};
use crate::compile::resources::limits;
use crate::compile::unit::limit_properties;
use crate::container::{Container, Status};
use crate::control::{not_found, not_running};
use crate::error::{Error, ErrorKind, Result};
use crate::supervise::unit;

/// The keys of `linux.resources` that can be changed. The others (`devices` above all, which
/// kubelets always send) have no effect.
const CHANGEABLE: [&str; 5] = ["memory", "cpu", "blockIO", "pids", "unified"];

/// Reads an object of the form of `linux.resources`, as `update` takes it.
///
/// # Errors
/// It is no JSON object, or a value that counts has the wrong type, named by its path.
pub fn parse_resources(json: &[u8]) -> Result<LinuxResources> {
    const WHOLE: &str = "linux.resources";
    let mut value: Value = serde_json::from_slice(json)
        .map_err(|error| Error::config(WHOLE, format!("is no JSON: {error}")))?;
    // As to every Go program: null is an absent value.
    drop_nulls(&mut value);
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    let Value::Object(object) = &mut value else {
        return Err(Error::config(WHOLE, "is no JSON object"));
    };
    object.retain(|key, _| CHANGEABLE.contains(&key.as_str()));
    drop_absent_limit(object);
    crate::json::from_value(&value).map_err(|(path, message)| {
        let field = if path.is_empty() { WHOLE.to_owned() } else { format!("{WHOLE}.{path}") };
        Error::config(field, message)
    })
}

impl Container {
    /// Changes its limits: those that `resources` names, of `memory` (`limit`, `reservation`,
    /// `swap`), `cpu`, `blockIO`, `pids` and `unified`; all else stays as it is. `devices` never
    /// change. With `memory.checkBeforeUpdate` a limit below what is in use is an error.
    ///
    /// # Errors
    /// `container not running`; the field that is wrong, or that the kernel or the host cannot
    /// honour. Then nothing has changed.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        let _one_at_a_time = self.directory.lock()?;
        let mut record = self.directory.record()?.ok_or_else(not_found)?;
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        let saved = record.resources.take().unwrap_or_default();
        let limits = limits(&completed(resources, &saved))?;
        if limits.writes.is_empty() {
            return Ok(());
        }
        let cgroup = self.own_cgroup()?;
        if let Some(check) = &limits.memory_check {
            cgroup.check_memory(check)?;
        }
        record.resources = Some(merged(resources, saved));
        let before = cgroup.before(&limits.writes);
        // systemd first: it writes what it keeps less exactly, or not at all.
        self.tell_systemd(&cgroup, &limits.writes)?;
        let result =
            cgroup.apply(&limits.writes).and_then(|()| self.directory.write_record(&record));
        if result.is_err() {
            let _first_error_counts = self.tell_systemd(&cgroup, &before.writes());
            cgroup.undo(&before);
        } else {
            self.record.resources = record.resources;
        }
        result
    }

    /// Tells systemd of the limits, where it has made the cgroup: it would bring the old ones back.
    fn tell_systemd(&self, cgroup: &Cgroup, writes: &[CgroupWrite]) -> Result<()> {
        let Some(unit) = &self.record.unit else { return Ok(()) };
        let mut properties = limit_properties(writes);
        // systemd takes it with a new unit only.
        properties.retain(|property| property.op.name != "OOMPolicy");
        if properties.is_empty() {
            return Ok(());
        }
        // With one property it writes all that it has, and these it has rounded only.
        let exact = cgroup.held(&["cpu.max", "io.bfq.weight"]);
        unit::set_properties(unit, &properties)?;
        cgroup.undo(&exact);
        Ok(())
    }

    /// Changes its shares of the caches and of the memory bandwidth: `linux.intelRdt.l3CacheSchema`
    /// and `memBwSchema`, where given.
    ///
    /// # Errors
    /// `container not running`; it was created without `linux.intelRdt`; a schema is malformed, or
    /// the kernel refuses it.
    pub fn update_rdt(&self, l3_cache: Option<&str>, memory_bandwidth: Option<&str>) -> Result<()> {
        const FIELD: &str = "linux.intelRdt";
        let lines = crate::compile::rdt::schemas(l3_cache, memory_bandwidth)?;
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        let Some(rdt) = &self.record.rdt else {
            let message = "the container was created without it, and cannot be given it later";
            return Err(Error::new(ErrorKind::InvalidState, message).at(FIELD));
        };
        crate::rdt::Resctrl::open()?.update(rdt, &lines)
    }
}

/// What of a configuration later updates start from.
pub(crate) fn saved(spec: &Spec) -> Option<LinuxResources> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref())?;
    let saved = merged(resources, LinuxResources::default());
    (saved != LinuxResources::default()).then_some(saved)
}

/// Zero is unset.
fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

/// What is to be written: what is given, and what must be written with it.
fn completed(given: &LinuxResources, saved: &LinuxResources) -> LinuxResources {
    let mut result = LinuxResources::default();
    result.set_pids(*given.pids());
    result.set_block_io(given.block_io().clone());
    result.set_unified(given.unified().clone());
    if let Some(memory) = given.memory() {
        let mut memory = changeable(memory);
        let saved = saved.memory().unwrap_or_default();
        let (limit, swap) = (set(memory.limit()), set(memory.swap()));
        // Unlimited memory with nothing said of swap has always meant both.
        if limit.is_some_and(|limit| limit != -1) || swap.is_some() {
            memory.set_limit(limit.or(set(saved.limit())));
            memory.set_swap(swap.or(set(saved.swap())));
        }
        result.set_memory(Some(memory));
    }
    if let Some(cpu) = given.cpu() {
        let mut cpu = cpu.clone();
        let saved = saved.cpu().clone().unwrap_or_default();
        if cpu.quota().is_some() || cpu.period().is_some() {
            cpu.set_quota(cpu.quota().or(saved.quota()));
            cpu.set_period(cpu.period().or(saved.period()));
        }
        result.set_cpu(Some(cpu));
    }
    result
}

/// What can be changed of the memory's limits.
fn changeable(memory: &LinuxMemory) -> LinuxMemory {
    let mut result = LinuxMemory::default();
    result.set_limit(memory.limit()).set_reservation(memory.reservation()).set_swap(memory.swap());
    result.set_check_before_update(memory.check_before_update());
    result
}

/// What is asked for in all, once `given` has taken effect.
fn merged(given: &LinuxResources, mut saved: LinuxResources) -> LinuxResources {
    if let Some(new) = given.memory() {
        saved.set_memory(Some(merged_memory(new, saved.memory().unwrap_or_default())));
    }
    if let Some(new) = given.cpu() {
        saved.set_cpu(Some(merged_cpu(new, saved.cpu().clone().unwrap_or_default())));
    }
    if let Some(new) = given.block_io() {
        let old = saved.block_io().clone().unwrap_or_default();
        saved.set_block_io(Some(merged_block_io(new, old)));
    }
    saved.set_pids(given.pids().or(*saved.pids()));
    if let Some(new) = given.unified() {
        let old = saved.unified().clone().unwrap_or_default();
        let all = old.into_iter().chain(new.clone());
        saved.set_unified(Some(all.collect::<HashMap<_, _>>()));
    }
    saved
}

fn merged_memory(new: &LinuxMemory, mut old: LinuxMemory) -> LinuxMemory {
    let unlimited = new.limit() == Some(-1) && set(new.swap()).is_none();
    old.set_swap(if unlimited { Some(-1) } else { set(new.swap()).or(old.swap()) });
    old.set_limit(set(new.limit()).or(old.limit()));
    old.set_reservation(set(new.reservation()).or(old.reservation()));
    old
}

fn merged_cpu(new: &LinuxCpu, mut old: LinuxCpu) -> LinuxCpu {
    // The kernel forgets the weight with either value of idle.
    let shares = if new.idle().is_some() { None } else { old.shares() };
    old.set_shares(new.shares().or(shares));
    old.set_idle(new.idle().or(old.idle()));
    old.set_quota(new.quota().or(old.quota()));
    old.set_period(new.period().or(old.period()));
    old.set_burst(new.burst().or(old.burst()));
    old.set_cpus(new.cpus().clone().or_else(|| old.cpus().clone()));
    old.set_mems(new.mems().clone().or_else(|| old.mems().clone()));
    old
}

fn merged_block_io(new: &LinuxBlockIo, mut old: LinuxBlockIo) -> LinuxBlockIo {
    let weight = |device: &LinuxWeightDevice| (device.major(), device.minor());
    let rate = |device: &LinuxThrottleDevice| (device.major(), device.minor());
    old.set_weight(new.weight().or(old.weight()));
    let list = by_device(new.weight_device(), old.weight_device(), weight);
    old.set_weight_device(list);
    let list = by_device(new.throttle_read_bps_device(), old.throttle_read_bps_device(), rate);
    old.set_throttle_read_bps_device(list);
    let list = by_device(new.throttle_write_bps_device(), old.throttle_write_bps_device(), rate);
    old.set_throttle_write_bps_device(list);
    let list = by_device(new.throttle_read_iops_device(), old.throttle_read_iops_device(), rate);
    old.set_throttle_read_iops_device(list);
    let list = by_device(new.throttle_write_iops_device(), old.throttle_write_iops_device(), rate);
    old.set_throttle_write_iops_device(list);
    old
}

/// The old entries of devices that have no new one, and the new ones.
fn by_device<T: Clone>(
    new: &Option<Vec<T>>,
    old: &Option<Vec<T>>,
    number: impl Fn(&T) -> (i64, i64),
) -> Option<Vec<T>> {
    let Some(new) = new else { return old.clone() };
    let stays = |device: &&T| new.iter().all(|other| number(other) != number(device));
    Some(old.iter().flatten().filter(stays).chain(new).cloned().collect())
}

#[cfg(test)]
mod tests;
