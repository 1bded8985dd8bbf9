//! `linux.cgroupsPath` and annotations -> the unit that systemd makes for the container, for the
//! systemd driver.

use super::cgroup::{early, wanted};
use super::{Columns, Config, variant};
use crate::cgroup::systemd::{Bus, Property, Value};
use crate::cgroup::{CgroupWrite, IfMissing};
use crate::error::{Error, Field, Result};
use crate::plan::{Step, UnitPlan};

const PATH: &str = "linux.cgroupsPath";
/// Annotations of this prefix are properties of the unit.
const ANNOTATION: &str = "org.systemd.property.";
/// The longest name of a unit (`UNIT_NAME_MAX` of systemd, without its NUL).
const LONGEST_NAME: usize = 255;

/// What `linux.cgroupsPath` says to the systemd driver.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    /// The unit.
    unit: String,
    /// The slice that it is to be in; `None` for one that is not named.
    slice: Option<String>,
    /// What descriptions call it.
    name: String,
}

impl Names {
    fn is_slice(&self) -> bool {
        is_slice(&self.unit)
    }
}

fn is_slice(unit: &str) -> bool {
    unit.ends_with(".slice")
}

/// The unit, where systemd makes the container's cgroup.
pub(super) fn unit(config: &Config<'_>) -> Result<Option<Step<UnitPlan>>> {
    let Some(bus) = &config.request.systemd else { return Ok(None) };
    let names = names(wanted(config)?, &config.request.id)?;
    let default = match bus {
        Bus::System => "system.slice",
        Bus::User(_) => "user.slice",
    };
    let slice = names.slice.as_deref().unwrap_or(default);
    let path = if names.is_slice() {
        expand_slice(&names.unit)?
    } else {
        format!("{}/{}", expand_slice(slice)?, escaped(&names.unit))
    };
    let mut properties = base(&names, slice);
    properties.extend(annotated(config)?);
    properties.extend(limit_properties(&early(config)));
    let manager = config.facts.manager_cgroup.trim_end_matches('/');
    let op = UnitPlan {
        cgroup: format!("{manager}{path}"),
        name: names.unit,
        slice: slice.to_owned(),
        bus: bus.clone(),
        properties,
    };
    Ok(Some(Step { op, field: PATH.into() }))
}

fn names(cgroups_path: Option<&str>, id: &str) -> Result<Names> {
    let Some(path) = cgroups_path.filter(|path| !path.is_empty()) else {
        // The one character of ids that names of units do not have, as systemd-escape(1) has it.
        let unit = format!("orlop-{}.scope", id.replace('+', "\\x2b"));
        check_name(&unit)?;
        return Ok(Names { unit, slice: None, name: id.to_owned() });
    };
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        let message = format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \
             {path:?} instead"
        );
        return Err(Error::config(PATH, message));
    };
    let unit = if is_slice(name) { (*name).to_owned() } else { format!("{prefix}-{name}.scope") };
    check_name(&unit)?;
    let slice = (!slice.is_empty()).then(|| (*slice).to_owned());
    Ok(Names { unit, slice, name: (*name).to_owned() })
}

/// systemd takes no other names (systemd.unit(5)).
fn check_name(unit: &str) -> Result<()> {
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if unit.len() <= LONGEST_NAME && unit.chars().all(is_allowed) {
        return Ok(());
    }
    Err(Error::config(PATH, format!("{unit:?} is no name of a systemd unit")))
}

/// The path of a slice's cgroup: its name says which slices it is in (systemd.slice(5)).
fn expand_slice(slice: &str) -> Result<String> {
    let invalid = || Error::config(PATH, format!("invalid slice name: {slice}"));
    check_name(slice)?;
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    if name == "-" {
        return Ok(String::new());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        prefix.push_str(part);
        path.push('/');
        path.push_str(&escaped(&format!("{prefix}.slice")));
        prefix.push('-');
    }
    Ok(path)
}

/// The name of a unit's cgroup: systemd keeps clear of names that the kernel's files have.
fn escaped(unit: &str) -> String {
    const PREFIXES: [&str; 15] = [
        "cgroup",
        "cpu",
        "cpuacct",
        "cpuset",
        "io",
        "blkio",
        "memory",
        "devices",
        "pids",
        "bpf-firewall",
        "bpf-devices",
        "bpf-foreign",
        "bpf-socket-bind",
        "bpf-restrict-network-interfaces",
        "bpf-bind-network-interface",
    ];
    let first = unit.split('.').next().unwrap_or_default();
    let needed = unit.starts_with('_') || unit.starts_with('.') || PREFIXES.contains(&first);
    format!("{}{unit}", if needed { "_" } else { "" })
}

/// What every container's unit has.
fn base(names: &Names, slice: &str) -> Vec<Step<Property>> {
    let mut all =
        vec![("Description", Value::text(format!("libcontainer container {}", names.name)))];
    if names.is_slice() {
        all.push(("Wants", Value::texts(&[slice])));
    } else {
        all.push(("Slice", Value::text(slice)));
        all.push(("Delegate", Value::Bool(true)));
    }
    // Without accounting of its own a unit may share the counters of its slice.
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        all.push((accounting, Value::Bool(true)));
    }
    all.push(("DefaultDependencies", Value::Bool(false)));
    let step = |(name, value)| Step { op: Property::new(name, value), field: Field::from(PATH) };
    all.into_iter().map(step).collect()
}

/// Properties by annotations, sorted by their names.
fn annotated(config: &Config<'_>) -> Result<Vec<Step<Property>>> {
    let mut all = Vec::new();
    for (key, text) in super::annotations(config.spec) {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let field = Field::from(format!("annotations[{key:?}]"));
        let wrong = |why: String| Error::config(field.clone(), why);
        if name.len() < 3 {
            return Err(wrong("name incorrect: too short".to_owned()));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(wrong("name incorrect: contains non-alphabetic character".to_owned()));
        }
        if matches!(name, "PIDs" | "Slice" | "Delegate") {
            return Err(wrong(format!("{name} is the runtime's to set")));
        }
        let value = variant::parse(&text)
            .map_err(|why| wrong(format!("value parse error: {text:?}: {why}")))?;
        let (name, value) = in_microseconds(name, value)
            .map_err(|why| wrong(format!("value parse error: {text:?}: {why}")))?;
        all.push(Step { op: Property::new(name, value), field });
    }
    Ok(all)
}

/// Times have names that end in `Sec` in files, and in `USec` here.
fn in_microseconds(name: &str, value: Value) -> Result<(String, Value), &'static str> {
    let stem =
        name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let Some(stem) = stem else { return Ok((name.to_owned(), value)) };
    let seconds = match value {
        Value::Byte(seconds) => u64::from(seconds),
        Value::U16(seconds) => u64::from(seconds),
        Value::U32(seconds) => u64::from(seconds),
        Value::U64(seconds) => seconds,
        Value::I16(seconds) => u64::try_from(seconds).map_err(|_| "is negative")?,
        Value::I32(seconds) => u64::try_from(seconds).map_err(|_| "is negative")?,
        Value::I64(seconds) => u64::try_from(seconds).map_err(|_| "is negative")?,
        Value::Double(bits) => {
            let time = std::time::Duration::try_from_secs_f64(f64::from_bits(bits));
            let time = time.map_err(|_| "is out of range")?.as_micros();
            let time = u64::try_from(time).map_err(|_| "is out of range")?;
            return Ok((format!("{stem}USec"), Value::U64(time)));
        }
        _ => return Err("not a number"),
    };
    let time = seconds.checked_mul(1_000_000).ok_or("is out of range")?;
    Ok((format!("{stem}USec"), Value::U64(time)))
}

/// The limits that systemd has properties for: it would write its own over ours at its next
/// occasion. The others are in files only.
pub(crate) fn limit_properties(writes: &[CgroupWrite]) -> Vec<Step<Property>> {
    let is_idle = writes.iter().any(|write| write.file == "cpu.idle" && write.value == "1");
    let mut all = Vec::new();
    for write in writes {
        let mut add = |name: &str, value: Value, since: u32| {
            let op = Property { since, ..Property::new(name, value) };
            all.push(Step { op, field: write.field.clone() });
        };
        let (file, text) = match &write.if_missing {
            IfMissing::Instead { file, value } => (file, value.trim()),
            _ => (&write.file, write.value.trim()),
        };
        let size = || size(text).map(Value::U64);
        match file.as_ref() {
            "memory.min" => size().into_iter().for_each(|size| add("MemoryMin", size, 0)),
            "memory.low" => size().into_iter().for_each(|size| add("MemoryLow", size, 0)),
            "memory.high" => size().into_iter().for_each(|size| add("MemoryHigh", size, 0)),
            "memory.max" => size().into_iter().for_each(|size| add("MemoryMax", size, 0)),
            "memory.swap.max" => size().into_iter().for_each(|size| add("MemorySwapMax", size, 0)),
            "memory.zswap.max" => {
                size().into_iter().for_each(|size| add("MemoryZSwapMax", size, 253));
            }
            "memory.oom.group" => match text {
                "0" => add("OOMPolicy", Value::text("continue"), 253),
                "1" => add("OOMPolicy", Value::text("kill"), 253),
                _ => {}
            },
            "pids.max" => size().into_iter().for_each(|size| add("TasksMax", size, 0)),
            // The weight of an idle cgroup has a value of its own.
            "cpu.idle" if text == "1" => add("CPUWeight", Value::U64(0), 252),
            "cpu.weight" if !is_idle => {
                text.parse().into_iter().for_each(|weight| add("CPUWeight", Value::U64(weight), 0));
            }
            "cpu.max" => {
                if let Some((quota, period)) = quota(text) {
                    add("CPUQuotaPeriodUSec", Value::U64(period), 0);
                    add("CPUQuotaPerSecUSec", Value::U64(quota), 0);
                }
            }
            "cpuset.cpus" => mask(text).into_iter().for_each(|mask| add("AllowedCPUs", mask, 0)),
            "cpuset.mems" => {
                mask(text).into_iter().for_each(|mask| add("AllowedMemoryNodes", mask, 0));
            }
            "io.weight" => {
                let weight = text.strip_prefix("default ").unwrap_or(text).parse();
                weight.into_iter().for_each(|weight| add("IOWeight", Value::U64(weight), 0));
            }
            _ => {}
        }
    }
    all
}

/// A size as the kernel's files take it: a number, perhaps with a unit, or `max`.
fn size(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(u64::MAX);
    }
    let units = ["kK", "mM", "gG", "tT", "pP", "eE"];
    let power = units.iter().position(|unit| text.ends_with(|c| unit.contains(c)));
    let digits = text.trim_end_matches(|c: char| power.is_some() && c.is_ascii_alphabetic());
    let shift = power.map_or(Some(0), |power| u32::try_from(10 * (power + 1)).ok())?;
    digits.parse::<u64>().ok()?.checked_mul(1u64.checked_shl(shift)?)
}

/// `quota period` or `max period` as microseconds in each second, which systemd keeps in whole
/// percents, and the period.
fn quota(text: &str) -> Option<(u64, u64)> {
    const PERCENT: u64 = 10_000;
    let (quota, period) = text.split_once(' ').unwrap_or((text, "100000"));
    let period = period.parse::<u64>().ok().filter(|period| *period > 0)?;
    if quota == "max" {
        return Some((u64::MAX, period));
    }
    let quota = quota.parse::<u64>().ok()?.checked_mul(1_000_000)? / period;
    // Up: what is below shall get what it asks for.
    Some((quota.checked_next_multiple_of(PERCENT)?.max(PERCENT), period))
}

/// A list such as `0-2,7` as a mask, the lowest eight in the first byte.
fn mask(list: &str) -> Option<Value> {
    /// More than any kernel has processors or nodes.
    const MOST: usize = 1 << 16;
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= MOST {
            return None;
        }
        for bit in first..=last {
            bytes.resize(bytes.len().max(bit / 8 + 1), 0);
            *bytes.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    (!bytes.is_empty()).then(|| Value::bytes(&bytes))
}

/// The init waits until it is in its unit: the memory of its namespaces counts as the container's,
/// and the cgroup namespace is rooted where the process is that makes it.
pub(super) fn await_unit(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.request.systemd.is_some() {
        out.child(PATH, orlop_init::plan::Op::Await(orlop_init::plan::Message::InUnit));
    }
    Ok(())
}

/// The creator's side of [`await_unit`].
pub(super) fn tell(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.request.systemd.is_some() {
        let message = orlop_init::plan::Message::InUnit;
        out.host(PATH, crate::plan::HostOp::Notify(message));
    }
    Ok(())
}

/// A container that is to manage its cgroup owns it: one with a cgroup namespace of its own, in
/// which the cgroup is mounted for writing.
pub(super) fn owner(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    use oci_spec::runtime::LinuxNamespaceType;
    let is_private = config.namespaces.is_new(LinuxNamespaceType::Cgroup);
    let uid = config.process.user().uid();
    if config.request.systemd.is_none() || !is_private || uid == 0 {
        return Ok(());
    }
    let writable = config.spec.mounts().iter().flatten().any(|mount| {
        let mut options = mount.options().iter().flatten();
        let access = options.rfind(|option| matches!(option.as_str(), "ro" | "rw"));
        mount.typ().as_deref().is_some_and(|kind| matches!(kind, "cgroup" | "cgroup2"))
            && super::clean(mount.destination()) == std::path::Path::new("/sys/fs/cgroup")
            && access.is_none_or(|access| access == "rw")
    });
    if writable {
        out.host("process.user.uid", crate::plan::HostOp::CgroupOwner { uid });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
