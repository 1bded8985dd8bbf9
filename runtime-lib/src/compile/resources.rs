//! `linux.resources` -> the writes to the container's cgroup, for cgroup v2.
//!
//! Source of the file formats: Linux, Documentation/admin-guide/cgroup-v2.rst. config.json speaks
//! the language of cgroup v1; what v2 cannot do is refused when it asks for something, and
//! tolerated when it asks for nothing (zero, false) or for what v2 does anyway.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxRdma,
    LinuxResources, LinuxThrottleDevice,
};

use crate::cgroup::{CgroupWrite, DeviceProgram, IfMissing, MemoryCheck};
use crate::compile::device_program;
use crate::error::{Error, Field, Result};

/// What `create` does to the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourcePlan {
    pub(crate) limits: Limits,
    pub(crate) devices: DeviceProgram,
}

/// The part of `linux.resources` that `update` may change too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In the order in which they are to be written.
    pub(crate) writes: Vec<CgroupWrite>,
    /// To be checked before the first write.
    pub(crate) memory_check: Option<MemoryCheck>,
}

/// Compiles `linux.resources` and, for the default device rules, `linux.devices`.
///
/// # Errors
/// The field of `linux.resources` that is invalid, or that cgroup v2 cannot honour.
pub(crate) fn compile(
    resources: Option<&LinuxResources>,
    devices: Option<&[LinuxDevice]>,
) -> Result<ResourcePlan> {
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    Ok(ResourcePlan {
        limits: resources.map(limits).transpose()?.unwrap_or_default(),
        devices: device_program::compile(rules.unwrap_or_default(), devices.unwrap_or_default())?,
    })
}

/// Compiles all of `linux.resources` but `devices`.
///
/// # Errors
/// The field of `linux.resources` that is invalid, or that cgroup v2 cannot honour.
pub(crate) fn limits(resources: &LinuxResources) -> Result<Limits> {
    let mut plan = Limits::default();
    let writes = &mut plan.writes;
    if let Some(pids) = resources.pids() {
        writes.push(write("linux.resources.pids.limit", "pids.max", pids_max(pids.limit())));
    }
    if let Some(memory) = resources.memory() {
        refuse_memory(memory)?;
        write_memory(memory, writes)?;
        plan.memory_check = memory_check(memory);
    }
    if let Some(block_io) = resources.block_io() {
        write_weights(block_io, writes)?;
        write_throttles(block_io, writes)?;
    }
    if let Some(cpu) = resources.cpu() {
        write_cpu(cpu, writes)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        write_hugepages(index, limit, writes)?;
    }
    if let Some(rdma) = resources.rdma() {
        // Sorted, so that equal configurations give equal plans.
        for (device, limit) in rdma.iter().collect::<BTreeMap<_, _>>() {
            write_rdma(device, limit, writes)?;
        }
    }
    if let Some(network) = resources.network() {
        refuse_network(network)?;
    }
    if let Some(unified) = resources.unified() {
        for (file, value) in unified.iter().collect::<BTreeMap<_, _>>() {
            write_unified(file, value, writes)?;
        }
    }
    Ok(plan)
}

fn write(field: impl Into<Field>, file: impl Into<Field>, value: impl Into<String>) -> CgroupWrite {
    CgroupWrite {
        field: field.into(),
        file: file.into(),
        value: value.into(),
        if_missing: IfMissing::Fail,
        retry_if_invalid: false,
    }
}

/// Zero becomes 1, as in runc: systemd has no TasksMax=0, and both drivers shall do the same.
fn pids_max(limit: i64) -> String {
    match limit {
        0 => "1".to_owned(),
        1.. => limit.to_string(),
        _ => "max".to_owned(),
    }
}

fn refuse_memory(memory: &LinuxMemory) -> Result<()> {
    #[allow(deprecated)] // The spec deprecates it; a configuration may still ask for it.
    let kernel = memory.kernel();
    for (field, limit) in [
        ("linux.resources.memory.kernel", kernel),
        ("linux.resources.memory.kernelTCP", memory.kernel_tcp()),
    ] {
        if limit.is_some_and(|limit| limit > 0) {
            return Err(Error::unsupported(field, "cgroup v2 has no separate limit for it"));
        }
    }
    if memory.swappiness().is_some_and(|swappiness| swappiness != 0) {
        let field = "linux.resources.memory.swappiness";
        return Err(Error::unsupported(field, "cgroup v2 has no swappiness of a cgroup's own"));
    }
    if memory.disable_oom_killer() == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        return Err(Error::unsupported(field, "cgroup v2 cannot disable the OOM killer"));
    }
    Ok(())
}

/// A limit in bytes for a `.max` or `.low` file: zero is unset, -1 is unlimited.
fn bytes(field: &'static str, value: Option<i64>) -> Result<Option<String>> {
    match value.unwrap_or(0) {
        0 => Ok(None),
        -1 => Ok(Some("max".to_owned())),
        value @ 1.. => Ok(Some(value.to_string())),
        value => Err(Error::config(field, format!("{value} is neither a size nor -1 (unlimited)"))),
    }
}

fn write_memory(memory: &LinuxMemory, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    let limit = bytes("linux.resources.memory.limit", memory.limit())?;
    let low = bytes("linux.resources.memory.reservation", memory.reservation())?;
    if let Some(value) = swap_max(memory)? {
        // A kernel without swap accounting has no file; nothing to swap to, or no bound on it, is
        // what such a kernel gives anyway.
        let tolerable = value == "0" || value == "max";
        let if_missing = if tolerable { IfMissing::Skip } else { IfMissing::Fail };
        let swap = write("linux.resources.memory.swap", "memory.swap.max", value);
        writes.push(CgroupWrite { if_missing, ..swap });
    }
    if let Some(value) = limit {
        writes.push(write("linux.resources.memory.limit", "memory.max", value));
    }
    if let Some(value) = low {
        writes.push(write("linux.resources.memory.reservation", "memory.low", value));
    }
    Ok(())
}

/// `memory.swap` bounds memory and swap together; `memory.swap.max` bounds the swap alone.
fn swap_max(memory: &LinuxMemory) -> Result<Option<String>> {
    const FIELD: &str = "linux.resources.memory.swap";
    let swap = bytes(FIELD, memory.swap())?;
    match (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0)) {
        // Unlimited memory with nothing said of swap has always meant both.
        (-1, 0) => Ok(Some("max".to_owned())),
        (-1, _) | (_, 0 | -1) => Ok(swap),
        (0, _) => Err(Error::config(FIELD, "unable to set swap limit without memory limit")),
        (limit, total) if total < limit => {
            let message = format!("memory+swap limit should be >= memory limit: {total} < {limit}");
            Err(Error::config(FIELD, message))
        }
        (limit, total) => Ok(Some((total - limit).to_string())),
    }
}

fn memory_check(memory: &LinuxMemory) -> Option<MemoryCheck> {
    let positive =
        |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    let check = MemoryCheck { limit: positive(memory.limit()), swap: positive(memory.swap()) };
    let wanted = memory.check_before_update() == Some(true) && check != MemoryCheck::default();
    wanted.then_some(check)
}

fn write_cpu(cpu: &LinuxCpu, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    for (field, asked) in [
        ("linux.resources.cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|v| v != 0)),
        ("linux.resources.cpu.realtimePeriod", cpu.realtime_period().is_some_and(|v| v != 0)),
    ] {
        if asked {
            return Err(Error::unsupported(field, "cgroup v2 has no realtime bandwidth limits"));
        }
    }
    let idle = cpu.idle().unwrap_or(0);
    if !(0..=1).contains(&idle) {
        let message = format!("{idle} is neither 0 nor 1");
        return Err(Error::config("linux.resources.cpu.idle", message));
    }
    if cpu.idle().is_some() {
        writes.push(write("linux.resources.cpu.idle", "cpu.idle", idle.to_string()));
    }
    // An idle cgroup has the least weight, and the kernel refuses to give it another.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && idle == 0) {
        let weight = cpu_weight(shares).to_string();
        writes.push(write("linux.resources.cpu.shares", "cpu.weight", weight));
    }
    write_cpu_max(cpu, writes)?;
    for (field, file, list) in [
        ("linux.resources.cpu.cpus", "cpuset.cpus", cpu.cpus()),
        ("linux.resources.cpu.mems", "cpuset.mems", cpu.mems()),
    ] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            writes.push(write(field, file, list.clone()));
        }
    }
    Ok(())
}

fn write_cpu_max(cpu: &LinuxCpu, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    let quota = cpu.quota().unwrap_or(0);
    let period = cpu.period().unwrap_or(0);
    if let Some(burst) = cpu.burst() {
        if u64::try_from(quota).is_ok_and(|quota| quota != 0 && burst > quota) {
            let message = format!("{burst} exceeds linux.resources.cpu.quota, {quota}");
            return Err(Error::config("linux.resources.cpu.burst", message));
        }
        // The kernel wants burst <= quota after each write, so which of the two must be written
        // first depends on the values before: try this order, and repeat if it was the wrong one.
        let burst = write("linux.resources.cpu.burst", "cpu.max.burst", burst.to_string());
        writes.push(CgroupWrite { retry_if_invalid: quota != 0, ..burst });
    }
    if quota == 0 && period == 0 {
        return Ok(());
    }
    let field = if quota == 0 { "linux.resources.cpu.period" } else { "linux.resources.cpu.quota" };
    let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
    let period = if period == 0 { 100_000 } else { period }; // the kernel's default, microseconds
    writes.push(write(field, "cpu.max", format!("{quota} {period}")));
    Ok(())
}

/// Maps shares (2..=262144, default 1024) to a weight (1..=10000, default 100) by the quadratic in
/// log2 that meets both ends and the default, as runc 1.3.2 and crun 1.23 do. The linear map of
/// before gave the default shares a weight of 39.
fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    // Below 2^18, where f64 is exact.
    let l = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1.0..=10000.0
    let weight = weight as u64;
    weight
}

/// Maps a weight of `blockIO` (10..=1000) to one of `io.weight` (1..=10000), linearly.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn checked_weight(field: &str, weight: Option<u16>) -> Result<Option<u16>> {
    match weight.unwrap_or(0) {
        0 => Ok(None),
        weight @ 10..=1000 => Ok(Some(weight)),
        weight => {
            let message = format!("{weight} is not in the range 10 to 1000");
            Err(Error::config(field.to_owned(), message))
        }
    }
}

fn refuse_leaf_weight(field: impl Into<Field>, weight: Option<u16>) -> Result<()> {
    match weight {
        None | Some(0) => Ok(()),
        Some(_) => Err(Error::unsupported(field, "cgroup v2 has no leaf weights")),
    }
}

/// The BFQ scheduler's file takes the weight as it is; `io.weight` is there without BFQ.
fn weight_write(field: String, device: &str, weight: u16) -> CgroupWrite {
    let instead = IfMissing::Instead {
        file: "io.weight".into(),
        value: format!("{device}{}", io_weight(weight)),
    };
    let write = write(field, "io.bfq.weight", format!("{device}{weight}"));
    CgroupWrite { if_missing: instead, ..write }
}

fn write_weights(block_io: &LinuxBlockIo, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    refuse_leaf_weight("linux.resources.blockIO.leafWeight", block_io.leaf_weight())?;
    let field = "linux.resources.blockIO.weight";
    if let Some(weight) = checked_weight(field, block_io.weight())? {
        writes.push(weight_write(field.to_owned(), "", weight));
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let base = format!("linux.resources.blockIO.weightDevice[{index}]");
        refuse_leaf_weight(format!("{base}.leafWeight"), device.leaf_weight())?;
        let field = format!("{base}.weight");
        if let Some(weight) = checked_weight(&field, device.weight())? {
            let (major, minor) = device_number(&base, device.major(), device.minor())?;
            writes.push(weight_write(field, &format!("{major}:{minor} "), weight));
        }
    }
    Ok(())
}

fn device_number(base: &str, major: i64, minor: i64) -> Result<(u32, u32)> {
    let number = |name: &str, value: i64| {
        u32::try_from(value).map_err(|_| {
            let message = format!("{value} is not a device number");
            Error::config(format!("{base}.{name}"), message)
        })
    };
    Ok((number("major", major)?, number("minor", minor)?))
}

/// `io.max` takes one line for a device: all four kinds of limit go into one write.
fn write_throttles(block_io: &LinuxBlockIo, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    type List<'a> = &'a Option<Vec<LinuxThrottleDevice>>;
    let kinds: [(&str, &str, List<'_>); 4] = [
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device()),
    ];
    let mut devices: BTreeMap<(u32, u32), CgroupWrite> = BTreeMap::new();
    for (name, key, list) in kinds {
        for (index, device) in list.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            let number @ (major, minor) = device_number(&field, device.major(), device.minor())?;
            let line = devices
                .entry(number)
                .or_insert_with(|| write(field, "io.max", format!("{major}:{minor}")));
            // Zero lifts a limit in the language of v1; here the kernel refuses it. Of a key that
            // comes twice the kernel takes the last.
            line.value += &match device.rate() {
                0 => format!(" {key}=max"),
                rate => format!(" {key}={rate}"),
            };
        }
    }
    writes.extend(devices.into_values());
    Ok(())
}

fn write_hugepages(
    index: usize,
    limit: &LinuxHugepageLimit,
    writes: &mut Vec<CgroupWrite>,
) -> Result<()> {
    let size = limit.page_size();
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    let well_formed = digits.is_some_and(|digits| {
        !digits.starts_with('0')
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !well_formed {
        let field = format!("linux.resources.hugepageLimits[{index}].pageSize");
        let message = format!("{size:?} is not a page size such as \"64KB\", \"2MB\" or \"1GB\"");
        return Err(Error::config(field, message));
    }
    let field = format!("linux.resources.hugepageLimits[{index}].limit");
    let value = match limit.limit() {
        -1 => "max".to_owned(),
        value @ 0.. => value.to_string(),
        value => return Err(Error::config(field, format!("{value} is not a size"))),
    };
    let faults = write(field.clone(), format!("hugetlb.{size}.max"), value.clone());
    let reserved = write(field, format!("hugetlb.{size}.rsvd.max"), value);
    writes.push(faults);
    writes.push(CgroupWrite { if_missing: IfMissing::Skip, ..reserved });
    Ok(())
}

fn write_rdma(device: &str, limit: &LinuxRdma, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    let field = format!("linux.resources.rdma[{device:?}]");
    if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(Error::config(field, "is not the name of a device"));
    }
    let mut value = device.to_owned();
    for (key, limit) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
        if let Some(limit) = limit {
            value += &format!(" {key}={limit}");
        }
    }
    if value != device {
        writes.push(write(field, "rdma.max", value));
    }
    Ok(())
}

fn refuse_network(network: &LinuxNetwork) -> Result<()> {
    let message = "cgroup v2 has no network controllers";
    if network.class_id().is_some_and(|id| id != 0) {
        return Err(Error::unsupported("linux.resources.network.classID", message));
    }
    if network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty()) {
        return Err(Error::unsupported("linux.resources.network.priorities", message));
    }
    Ok(())
}

/// Files of the cgroup core that move or stop processes, or change what the cgroup is: not
/// resources, and the runtime's own business.
const NOT_RESOURCES: [&str; 6] = [
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

fn write_unified(file: &str, value: &str, writes: &mut Vec<CgroupWrite>) -> Result<()> {
    let field = format!("linux.resources.unified[{file:?}]");
    let refuse = |why: String| Err(Error::config(field.clone(), why));
    if file.contains('/') {
        return refuse(format!("unified resource {file:?} must be a file name (no slashes)"));
    }
    let parts = file.split_once('.');
    let well_formed =
        parts.is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    if !well_formed || file.contains('\0') || file == ".." {
        let form = "must be in the form CONTROLLER.PARAMETER";
        return refuse(format!("unified resource {file:?} {form}"));
    }
    if NOT_RESOURCES.contains(&file) {
        return refuse(format!("unified resource {file:?} is not a resource"));
    }
    if value.trim().is_empty() {
        // The kernel reads an empty size as zero.
        return refuse(format!("unified resource {file:?} has no value"));
    }
    // The kernel takes one line in a write.
    for line in value.lines().filter(|line| !line.is_empty()) {
        let line = write(field.clone(), file.to_owned(), line);
        writes.push(CgroupWrite { if_missing: IfMissing::Unified, ..line });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
