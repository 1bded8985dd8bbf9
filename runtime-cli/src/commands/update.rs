//! `update`: changes the limits of a container.

use std::io::Read as _;

use orlop::Status;
use orlop::spec::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::container;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "update",
    about: "change the limits of a container",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[
        Flag::value(
            "resources",
            "file with the new linux.resources, or \"-\"; other options are ignored",
        )
        .short("r"),
        Flag::number("blkio-weight", "weight of block devices' use, 10 to 1000"),
        Flag::value("cpu-period", "period of the quota, in microseconds; 0: the default"),
        Flag::value("cpu-quota", "processor time in each period, in microseconds; -1: no limit"),
        Flag::value("cpu-burst", "processor time that may be saved up, in microseconds"),
        Flag::value("cpu-share", "share of the processors' time, 2 to 262144"),
        Flag::value("cpu-rt-period", "period of the realtime quota (cgroup v1 only)"),
        Flag::value("cpu-rt-runtime", "realtime in each period (cgroup v1 only)"),
        Flag::value("cpu-idle", "1: run only when nothing else wants to; 0: the default"),
        Flag::value("cpuset-cpus", "processors to use, as 0-2,7"),
        Flag::value("cpuset-mems", "memory nodes to use, as 0-1"),
        Flag::value("kernel-memory", ""),
        Flag::value("kernel-memory-tcp", ""),
        Flag::value("memory", "most memory, in bytes or as 512M; -1: no limit"),
        Flag::value("memory-reservation", "memory that is reclaimed last, in bytes or as 512M"),
        Flag::value(
            "memory-swap",
            "most memory and swap together, in bytes or as 1G; -1: no limit",
        ),
        Flag::number("pids-limit", "most processes; -1: no limit"),
        Flag::value("l3-cache-schema", "share of the level 3 caches, as L3:0=ff;1=f0"),
        Flag::value("mem-bw-schema", "share of the memory bandwidth, as MB:0=50;1=70"),
    ],
    options: Options::Everywhere,
};

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let mut container = container(context, parsed)?;
    if container.status()? == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let resources = match text(parsed, "resources") {
        Some(path) => orlop::parse_resources(&read(&path)?)?,
        None => resources(context, parsed)?,
    };
    container.update(&resources)?;
    let (cache, bandwidth) = (text(parsed, "l3-cache-schema"), text(parsed, "mem-bw-schema"));
    if cache.is_some() || bandwidth.is_some() {
        container.update_rdt(cache.as_deref(), bandwidth.as_deref())?;
    }
    Ok(0)
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = if path == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|read| bytes = read)
    };
    result.map_err(|error| Failure::io(format!("open {path}"), &error))?;
    Ok(bytes)
}

/// What the options say.
fn resources(context: &Context<'_>, parsed: &Parsed) -> Result<LinuxResources, Failure> {
    for name in ["kernel-memory", "kernel-memory-tcp"] {
        if text(parsed, name).is_some() {
            context.log.warning(&format!("Setting --{name} is ignored and will be removed"));
        }
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(size(parsed, "memory")?);
    memory.set_reservation(size(parsed, "memory-reservation")?);
    memory.set_swap(size(parsed, "memory-swap")?);
    let mut cpu = LinuxCpu::default();
    cpu.set_period(number(parsed, "cpu-period", "ParseUint")?);
    cpu.set_quota(number(parsed, "cpu-quota", "ParseInt")?);
    cpu.set_burst(number(parsed, "cpu-burst", "ParseUint")?);
    cpu.set_shares(number(parsed, "cpu-share", "ParseUint")?);
    cpu.set_realtime_period(number(parsed, "cpu-rt-period", "ParseUint")?);
    cpu.set_realtime_runtime(number(parsed, "cpu-rt-runtime", "ParseInt")?);
    cpu.set_idle(number(parsed, "cpu-idle", "ParseInt")?);
    cpu.set_cpus(text(parsed, "cpuset-cpus"));
    cpu.set_mems(text(parsed, "cpuset-mems"));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory)).set_cpu(Some(cpu));
    if let Some(weight) = parsed.number("blkio-weight") {
        let mut block_io = LinuxBlockIo::default();
        let weight = u16::try_from(weight);
        let wrong = |_| Failure::new("invalid value for blkio-weight: value out of range");
        block_io.set_weight(Some(weight.map_err(wrong)?));
        resources.set_block_io(Some(block_io));
    }
    if let Some(limit) = parsed.number("pids-limit") {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

/// The text of an option; an empty one is none.
fn text(parsed: &Parsed, name: &str) -> Option<String> {
    let text = parsed.value(name).map(|value| value.to_string_lossy().into_owned());
    text.filter(|text| !text.is_empty())
}

fn number<N: std::str::FromStr>(
    parsed: &Parsed,
    name: &str,
    function: &str,
) -> Result<Option<N>, Failure> {
    let Some(text) = text(parsed, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let why = format!("strconv.{function}: parsing {text:?}: invalid syntax");
        Failure::new(format!("invalid value for {name}: {why}"))
    })
}

/// A size, or -1 for no limit.
fn size(parsed: &Parsed, name: &str) -> Result<Option<i64>, Failure> {
    match text(parsed, name).as_deref() {
        None => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => match bytes(text) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Failure::new(format!("invalid value for {name}: invalid size: '{text}'"))),
        },
    }
}

/// A number of bytes as Docker's go-units reads it: perhaps with a fraction, and with a suffix such
/// as `k`, `KB`, `KiB` or `b`, in powers of 1024.
fn bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))? + 1;
    let (number, suffix) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let suffix = suffix.to_ascii_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        _ => {
            let (unit, rest) = suffix.split_at_checked(1)?;
            if !matches!(rest, "" | "b" | "ib") {
                return None;
            }
            "kmgtp".find(unit)? + 1
        }
    };
    let unit = 1u128 << (10 * power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // More digits than these are less than a byte.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let value =
        |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let total = value(whole)?.checked_mul(unit)? + value(fraction)? * unit / scale;
    i64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use std::ffi::OsString;

    fn given(arguments: &[&str]) -> Result<serde_json::Value, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let parsed = GRAMMAR.parse(&arguments).unwrap();
        let log = Log::default();
        let context = Context {
            program: "orlop",
            root: "/nowhere".into(),
            root_given: true,
            systemd_cgroup: false,
            rootless: None,
            log: &log,
        };
        let resources = resources(&context, &parsed).map_err(|failure| failure.message)?;
        Ok(serde_json::to_value(resources).unwrap())
    }

    #[test]
    fn sizes_are_in_powers_of_1024_with_the_suffixes_of_docker() {
        for (text, want) in [
            ("0", 0),
            ("4096", 4096),
            ("4096b", 4096),
            ("1k", 1024),
            ("1K", 1024),
            ("1kB", 1024),
            ("1KiB", 1024),
            ("100M", 104_857_600),
            ("1.5g", 1_610_612_736),
            (".5k", 512),
            ("2 MB", 2_097_152),
            ("1t", 1 << 40),
            ("1P", 1 << 50),
        ] {
            assert_eq!(bytes(text), Some(want), "{text}");
        }
        for text in
            ["", "M", "-5", "1x", "1kx", "1kbb", "1 2", "1.2.3", "1bb", "9999999p", ".", "0x10"]
        {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn options_become_resources() {
        let found = given(&[
            "--memory=1M",
            "--memory-swap",
            "-1",
            "--memory-reservation=1k",
            "--cpu-quota",
            "-1",
            "--cpu-period=1000",
            "--cpu-share=7",
            "--cpu-burst=3",
            "--cpu-idle=1",
            "--cpuset-cpus=0-1",
            "--cpuset-mems=0",
            "--pids-limit",
            "-1",
            "--blkio-weight=10",
        ]);
        let want = serde_json::json!({
            "memory": {"limit": 1_048_576, "swap": -1, "reservation": 1024},
            "cpu": {"quota": -1, "period": 1000, "shares": 7, "burst": 3, "idle": 1,
                "cpus": "0-1", "mems": "0"},
            "pids": {"limit": -1}, "blockIO": {"weight": 10}
        });
        assert_eq!(found, Ok(want));
    }

    #[test]
    fn options_that_are_not_given_or_empty_change_nothing() {
        let nothing = Ok(serde_json::json!({"memory": {}, "cpu": {}}));
        assert_eq!(given(&[]), nothing);
        assert_eq!(given(&["--memory=", "--cpu-quota=", "--cpuset-cpus="]), nothing);
        assert_eq!(given(&["--kernel-memory=5M", "--kernel-memory-tcp=5M"]), nothing);
    }

    #[test]
    fn values_that_are_none_are_named_with_their_option() {
        for (argument, want) in [
            (
                "--cpu-period=-5",
                "invalid value for cpu-period: strconv.ParseUint: parsing \"-5\": invalid syntax",
            ),
            (
                "--cpu-idle=x",
                "invalid value for cpu-idle: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("--memory=lots", "invalid value for memory: invalid size: 'lots'"),
            ("--blkio-weight=-1", "invalid value for blkio-weight: value out of range"),
        ] {
            assert_eq!(given(&[argument]), Err(want.to_owned()));
        }
    }
}
