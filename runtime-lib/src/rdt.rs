//! Intel's resource director technology by the files of a resctrl filesystem (Linux,
//! Documentation/filesystems/resctrl.rst): groups of processes with a share of the caches and of the
//! memory bandwidth, and what they use of both.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::compile::Rdt;
use crate::error::{Error, Result};

/// Where resctrl is mounted.
const ROOT: &str = "/sys/fs/resctrl";

const FIELD: &str = "linux.intelRdt";
const SCHEMATA: &str = "schemata";

/// A mounted resctrl filesystem.
#[derive(Debug)]
pub(crate) struct Resctrl {
    root: PathBuf,
}

impl Resctrl {
    /// The host's.
    ///
    /// # Errors
    /// None is mounted.
    pub(crate) fn open() -> Result<Self> {
        Self::at(Path::new(ROOT))
    }

    fn at(root: &Path) -> Result<Self> {
        // Its mountpoint is an empty directory of sysfs.
        if root.join("tasks").exists() {
            return Ok(Self { root: root.to_owned() });
        }
        let message = format!("no resctrl filesystem is mounted at {}", root.display());
        Err(Error::unsupported(FIELD, message))
    }

    fn group(&self, rdt: &Rdt) -> PathBuf {
        if rdt.group.is_empty() { self.root.clone() } else { self.root.join(&rdt.group) }
    }

    /// The directory of the monitoring group.
    fn monitor(&self, rdt: &Rdt) -> Option<PathBuf> {
        rdt.monitor.as_ref().map(|name| self.group(rdt).join("mon_groups").join(name))
    }

    /// Makes the group, where it is missing, what it shall be, and puts a process into it.
    ///
    /// # Errors
    /// A named group is not there, or is another than config.json says; the kernel refuses.
    pub(crate) fn enter(&self, rdt: &Rdt, pid: i32) -> Result<()> {
        let group = self.group(rdt);
        let made = !rdt.must_exist && make(&group)?;
        if !group.join("tasks").exists() && rdt.must_exist {
            let message = format!("there is no group {:?} in resctrl", rdt.group);
            return Err(Error::unsupported("linux.intelRdt.closID", message)
                .hint("without a schema, it has to be there"));
        }
        if !made && !rdt.own {
            check_schemata(&group, &rdt.expected)?;
        }
        let lines: Vec<&str> =
            rdt.expected.iter().chain(&rdt.further).map(String::as_str).collect();
        self.write_schemata(&group, &lines)?;
        write(&group.join("tasks"), &pid.to_string())?;
        if let Some(monitor) = self.monitor(rdt) {
            make(&monitor)?;
            write(&monitor.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Puts a further process of the container where its others are.
    ///
    /// # Errors
    /// The group is gone; the kernel refuses.
    pub(crate) fn join(&self, rdt: &Rdt, pid: i32) -> Result<()> {
        let tasks = self.monitor(rdt).unwrap_or_else(|| self.group(rdt)).join("tasks");
        if rdt.monitor.is_some() {
            write(&self.group(rdt).join("tasks"), &pid.to_string())?;
        }
        write(&tasks, &pid.to_string())
    }

    /// Changes the shares of the container's group.
    ///
    /// # Errors
    /// The kernel refuses, in its own words.
    pub(crate) fn update(&self, rdt: &Rdt, lines: &[String]) -> Result<()> {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.write_schemata(&self.group(rdt), &lines)
    }

    fn write_schemata(&self, group: &Path, lines: &[&str]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.join("\n") + "\n";
        write(&group.join(SCHEMATA), &text).map_err(|error| {
            // Such as "Unknown domain 7": the errno alone is always EINVAL.
            let status = fs::read_to_string(self.root.join("info/last_cmd_status"));
            match status.unwrap_or_default().trim() {
                "" | "ok" => error,
                why => error.hint(why.to_owned()),
            }
        })
    }

    /// Removes what is the container's own.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self, rdt: &Rdt) -> Result<()> {
        if let Some(monitor) = self.monitor(rdt) {
            remove(&monitor)?;
        }
        if rdt.own { remove(&self.group(rdt)) } else { Ok(()) }
    }

    /// What the container's group may use, and what is used.
    pub(crate) fn stats(&self, rdt: &Rdt) -> RdtStats {
        let group = self.group(rdt);
        let lines = |directory: &Path| -> Vec<String> {
            let text = fs::read_to_string(directory.join(SCHEMATA)).unwrap_or_default();
            text.lines().map(|line| line.trim().to_owned()).collect()
        };
        let line = |lines: &[String], prefix: &str| {
            lines.iter().find(|line| line.starts_with(prefix)).cloned().unwrap_or_default()
        };
        let (root, own) = (lines(&self.root), lines(&group));
        let info = |resource: &str, name: &str| {
            let text = fs::read_to_string(self.root.join("info").join(resource).join(name));
            text.map(|text| text.trim().to_owned()).ok()
        };
        let number = |resource: &str, name: &str| {
            info(resource, name).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let data = self.monitor(rdt).unwrap_or(group).join("mon_data");
        let (bandwidth, cache) = monitored(&data);
        RdtStats {
            l3_cache_info: info("L3", "cbm_mask").map(|cbm_mask| CacheInfo {
                cbm_mask,
                min_cbm_bits: number("L3", "min_cbm_bits"),
                num_closids: number("L3", "num_closids"),
            }),
            l3_cache_schema_root: line(&root, "L3:"),
            l3_cache_schema: line(&own, "L3:"),
            mem_bw_info: info("MB", "min_bandwidth").map(|_| BandwidthInfo {
                bandwidth_gran: number("MB", "bandwidth_gran"),
                delay_linear: number("MB", "delay_linear"),
                min_bandwidth: number("MB", "min_bandwidth"),
                num_closids: number("MB", "num_closids"),
            }),
            mem_bw_schema_root: line(&root, "MB:"),
            mem_bw_schema: line(&own, "MB:"),
            schemata: own,
            mbm_stats: bandwidth,
            cmt_stats: cache,
        }
    }
}

/// Makes a directory; whether it was missing.
fn make(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == IoErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::sys(format!("cannot create {path:?}"), &error).at(FIELD)),
    }
}

/// The files of a group go with its directory.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::remove_dir(path) {
        Err(error) if error.kind() == IoErrorKind::DirectoryNotEmpty => fs::remove_dir_all(path),
        result => result,
    };
    match removed {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(Error::sys(format!("cannot remove {path:?}"), &error).at(FIELD))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| {
        Error::sys(format!("cannot write {:?} to {path:?}", text.trim_end()), &error).at(FIELD)
    })
}

/// A line of a schema: its resource, and the share of each domain in a form that compares.
fn parse(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let mut shares = BTreeMap::new();
    for domain in domains.split(';').filter(|text| !text.trim().is_empty()) {
        let (id, value) = domain.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        shares.insert(id.trim().trim_start_matches('0'), value);
    }
    Some((resource.trim(), shares))
}

/// A group that was there is others' too: what config.json says of it must be so already.
fn check_schemata(group: &Path, expected: &[String]) -> Result<()> {
    if expected.is_empty() {
        return Ok(());
    }
    let path = group.join(SCHEMATA);
    let text = fs::read_to_string(&path);
    let text =
        text.map_err(|error| Error::sys(format!("cannot read {path:?}"), &error).at(FIELD))?;
    let there: BTreeMap<_, _> = text.lines().filter_map(parse).collect();
    for line in expected {
        let same = parse(line).is_some_and(|(resource, asked)| {
            there.get(resource).is_some_and(|domains| {
                asked.iter().all(|(id, value)| domains.get(id) == Some(value))
            })
        });
        if !same {
            let field = if line.starts_with("MB:") { "memBwSchema" } else { "l3CacheSchema" };
            let message = format!("the group {group:?} is there, and has not {line:?}");
            return Err(Error::config(format!("{FIELD}.{field}"), message));
        }
    }
    Ok(())
}

/// What the domains of a group's `mon_data` have counted, in the order of their names.
fn monitored(data: &Path) -> (Vec<BandwidthStats>, Vec<CacheStats>) {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let mut domains: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    domains.sort();
    let (mut bandwidth, mut cache) = (Vec::new(), Vec::new());
    for domain in domains {
        let read = |name: &str| -> Option<u64> {
            fs::read_to_string(domain.join(name)).ok()?.trim().parse().ok()
        };
        if let (Some(total), Some(local)) = (read("mbm_total_bytes"), read("mbm_local_bytes")) {
            bandwidth.push(BandwidthStats { mbm_total_bytes: total, mbm_local_bytes: local });
        }
        if let Some(llc_occupancy) = read("llc_occupancy") {
            cache.push(CacheStats { llc_occupancy });
        }
    }
    (bandwidth, cache)
}

/// Shares and use of caches and memory bandwidth; empty for a container without `linux.intelRdt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RdtStats {
    /// What the host's level 3 caches offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The root group's line for the level 3 caches.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The container's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What the host's memory bandwidth offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// The root group's line for the memory bandwidth.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The container's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All lines of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Traffic, for each domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<BandwidthStats>,
    /// Use of the caches, for each domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<CacheStats>,
}

/// What the level 3 caches offer (`info/L3`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheInfo {
    /// The mask of all of a cache, hexadecimal.
    pub cbm_mask: String,
    /// The least bits of a mask.
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// What the memory bandwidth offers (`info/MB`), in percent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BandwidthInfo {
    /// The steps of a share.
    pub bandwidth_gran: u64,
    /// Whether delays grow linearly: 1 or 0.
    pub delay_linear: u64,
    /// The least share.
    pub min_bandwidth: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// Memory traffic of a domain, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BandwidthStats {
    /// In all.
    pub mbm_total_bytes: u64,
    /// To the domain's own memory.
    pub mbm_local_bytes: u64,
}

/// Use of a cache, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Of the last level cache.
    pub llc_occupancy: u64,
}

#[cfg(test)]
mod tests;
