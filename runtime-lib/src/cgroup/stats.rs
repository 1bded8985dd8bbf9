//! What a cgroup has used: the files that its controllers report by, as numbers.
//!
//! [`Stats`] serializes to the `data` of runc's `events`, which speaks the language of cgroup v1:
//! keys that only v1 can fill are there, and empty.
//! Source of the file formats: Linux, Documentation/admin-guide/cgroup-v2.rst.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::{Cgroup, files};
use crate::error::{Error, Result};
use crate::rdt::RdtStats;

/// What a cgroup and all below it have used. What the kernel does not count is zero or missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Time of processors.
    pub cpu: Cpu,
    cpuset: Cpuset,
    /// Memory and swap.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    #[serde(rename = "blkio")]
    pub io: Io,
    /// Huge pages, by their size as in the names of the files (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Caches and memory bandwidth; filled by [`Container::stats`](crate::Container::stats).
    #[serde(rename = "intel_rdt")]
    pub rdt: RdtStats,
    network_interfaces: (),
}

/// Time of processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cpu {
    /// How much was used.
    pub usage: CpuUsage,
    /// How much was withheld.
    pub throttling: Throttling,
    /// How much was waited for.
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Used time of processors, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of the kernel.
    pub user: u64,
}

/// The effect of `cpu.max`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Throttling {
    /// Periods in which there was something to run.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Those in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// How long processes were not run for it, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Linux, Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Stall,
    /// While all tasks waited.
    pub full: Stall,
}

/// Shares of the time in percent, and a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stall {
    /// Over the last 10 seconds.
    #[serde(serialize_with = "percent")]
    pub avg10: f64,
    /// Over the last minute.
    #[serde(serialize_with = "percent")]
    pub avg60: f64,
    /// Over the last five minutes.
    #[serde(serialize_with = "percent")]
    pub avg300: f64,
    /// Since the beginning, in microseconds.
    pub total: u64,
}

/// `0` rather than `0.0`, as Go writes it.
fn percent<S: Serializer>(value: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match value.to_string().parse::<u64>() {
        Ok(whole) => serializer.serialize_u64(whole),
        Err(_) => serializer.serialize_f64(*value),
    }
}

/// What cgroup v1 told of cpusets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Cpuset {
    cpu_exclusive: u64,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Caches of files (`file` of `memory.stat`).
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory and swap together, as cgroup v1 counts.
    pub swap: MemoryUsage,
    kernel: MemoryUsage,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryUsage,
    /// All of `memory.stat`.
    #[serde(rename = "raw", skip_serializing_if = "BTreeMap::is_empty")]
    pub stat: BTreeMap<String, u64>,
    /// How much was waited for.
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Use of one kind of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// At most; [`u64::MAX`] is without limit.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there was; 0 where the kernel does not tell (memory: before 5.19).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pids {
    /// Now: threads, or without the pids controller processes.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// At most; 0 is without limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Io {
    /// Bytes, each device's reads before its writes.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<IoEntry>,
    /// Operations, each device's reads before its writes.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<IoEntry>,
    /// How much was waited for.
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Use of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IoEntry {
    /// Of the device's number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Of the device's number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: &'static str,
    /// How much.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hugetlb {
    /// In use, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// How often the limit was in the way.
    pub failcnt: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Cgroup {
    /// What the cgroup and all below it have used.
    ///
    /// # Errors
    /// A file cannot be read, as when the cgroup has been removed.
    pub fn stats(&self) -> Result<Stats> {
        if !self.exists() {
            return Err(self.failed("cannot read the statistics of", Errno::NOENT));
        }
        read(&self.dir).map_err(|(file, errno)| {
            Error::sys(format!("cannot read {file} of the cgroup {:?}", self.path), errno)
        })
    }
}

/// The name of a file and what is wrong with it.
type Failed = (String, Errno);

fn read(dir: impl AsFd) -> Result<Stats, Failed> {
    let dir = dir.as_fd();
    let mut stats = Stats {
        cpu: cpu(&optional(dir, "cpu.stat")?),
        memory: memory(dir)?,
        pids: pids(dir)?,
        io: io(&optional(dir, "io.stat")?),
        hugetlb: hugetlb(dir)?,
        ..Stats::default()
    };
    stats.cpu.pressure = pressure(&optional(dir, "cpu.pressure")?);
    stats.memory.pressure = pressure(&optional(dir, "memory.pressure")?);
    stats.io.pressure = pressure(&optional(dir, "io.pressure")?);
    Ok(stats)
}

/// The text of a file; empty where the kernel has none.
fn optional(dir: impl AsFd, name: &str) -> Result<String, Failed> {
    match files::read_all(dir, name) {
        // EOPNOTSUPP: what is counted is switched off (psi=0).
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(String::new()),
        result => result.map_err(|errno| (name.to_owned(), errno)),
    }
}

/// A file of one number, or `max`; `None` where the kernel has none.
fn number(dir: impl AsFd, name: &str) -> Result<Option<u64>, Failed> {
    let text = optional(dir, name)?;
    match text.trim() {
        "" => Ok(None),
        "max" => Ok(Some(u64::MAX)),
        number => number.parse().map(Some).map_err(|_| (name.to_owned(), Errno::INVAL)),
    }
}

/// The lines `key number`; others are passed over.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

fn cpu(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    for (key, value) in pairs(text) {
        let nanoseconds = value.saturating_mul(1000);
        match key {
            "usage_usec" => cpu.usage.total = nanoseconds,
            "user_usec" => cpu.usage.user = nanoseconds,
            "system_usec" => cpu.usage.kernel = nanoseconds,
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_usec" => cpu.throttling.throttled_time = nanoseconds,
            _ => {}
        }
    }
    cpu
}

fn memory(dir: impl AsFd) -> Result<Memory, Failed> {
    let dir = dir.as_fd();
    let text = optional(dir, "memory.stat")?;
    let stat: BTreeMap<_, _> = pairs(&text).map(|(key, value)| (key.to_owned(), value)).collect();
    let cache = stat.get("file").copied().unwrap_or(0);
    let usage = memory_usage(dir, "memory")?.unwrap_or_default();
    let swap = memory_usage(dir, "memory.swap")?.map(|swap| MemoryUsage {
        usage: swap.usage.saturating_add(usage.usage),
        limit: swap.limit.saturating_add(usage.limit),
        max: 0, // the two need not have been at their most at the same time
        failcnt: 0,
    });
    // Without swap accounting memory is all there is.
    let swap = swap.unwrap_or(MemoryUsage { usage: usage.usage, ..MemoryUsage::default() });
    Ok(Memory { cache, usage, swap, stat, ..Memory::default() })
}

fn memory_usage(dir: impl AsFd, name: &str) -> Result<Option<MemoryUsage>, Failed> {
    let dir = dir.as_fd();
    let Some(usage) = number(dir, &format!("{name}.current"))? else { return Ok(None) };
    let limit = number(dir, &format!("{name}.max"))?.unwrap_or(u64::MAX);
    let max = number(dir, &format!("{name}.peak"))?.unwrap_or(0);
    Ok(Some(MemoryUsage { limit, usage, max, failcnt: 0 }))
}

fn pids(dir: impl AsFd) -> Result<Pids, Failed> {
    let dir = dir.as_fd();
    let Some(current) = number(dir, "pids.current")? else {
        let pids = files::all_pids(dir).map_err(|errno| ("cgroup.procs".to_owned(), errno))?;
        return Ok(Pids { current: u64::try_from(pids.len()).unwrap_or(u64::MAX), limit: 0 });
    };
    let limit = number(dir, "pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0);
    Ok(Pids { current, limit })
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io(text: &str) -> Io {
    let mut io = Io::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let number = fields.next().and_then(|number| number.split_once(':'));
        let number = number.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        // A device without a number is one that is being removed.
        let Some((major, minor)) = number else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut io.bytes, "Read"),
                "wbytes" => (&mut io.bytes, "Write"),
                "rios" => (&mut io.operations, "Read"),
                "wios" => (&mut io.operations, "Write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(IoEntry { major, minor, op, value });
        }
    }
    io
}

fn hugetlb(dir: impl AsFd) -> Result<BTreeMap<String, Hugetlb>, Failed> {
    let dir = dir.as_fd();
    let names = files::names(dir).map_err(|errno| ("the list of files".to_owned(), errno))?;
    let sizes = names.iter().filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        (!size.contains('.')).then_some(size)
    });
    let mut all = BTreeMap::new();
    for size in sizes {
        let usage = number(dir, &format!("hugetlb.{size}.current"))?.unwrap_or(0);
        let events = optional(dir, &format!("hugetlb.{size}.events"))?;
        let failcnt = pairs(&events).find(|(key, _)| *key == "max").map_or(0, |(_, count)| count);
        all.insert(size.to_owned(), Hugetlb { usage, failcnt });
    }
    Ok(all)
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; `None` where there are none.
fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = None;
    for line in text.lines() {
        let (kind, fields) = line.split_once(' ')?;
        let found: &mut Pressure = pressure.get_or_insert_default();
        match kind {
            "some" => found.some = stall(fields),
            "full" => found.full = stall(fields),
            _ => {}
        }
    }
    pressure
}

fn stall(fields: &str) -> Stall {
    let mut stall = Stall::default();
    for (key, value) in fields.split_whitespace().filter_map(|field| field.split_once('=')) {
        match key {
            "avg10" => stall.avg10 = value.parse().unwrap_or(0.0),
            "avg60" => stall.avg60 = value.parse().unwrap_or(0.0),
            "avg300" => stall.avg300 = value.parse().unwrap_or(0.0),
            "total" => stall.total = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    stall
}

#[cfg(test)]
mod tests;
