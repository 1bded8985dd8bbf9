//! `linux.devices`, the devices that every container has, and the links in `/dev`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use orlop_init::plan::{Device, Op};

use super::{Columns, Config, clean, kernel_path};
use crate::error::{Error, Result};
use crate::plan::Bytes;

/// File types of mknod(2).
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;
const TYPE_MASK: u32 = 0o170_000;

/// The devices of the specification (config-linux.md, Default Devices).
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The kernel's limits on device numbers (MINORBITS).
const MAJOR_MAX: u32 = (1 << 12) - 1;
const MINOR_MAX: u32 = (1 << 20) - 1;

/// The nodes; those of config.json replace default ones of the same path.
pub(super) fn nodes(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let list = config.linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut own: Vec<(PathBuf, String, Device<Bytes>)> = Vec::new();
    for (index, device) in list.iter().enumerate() {
        let field = format!("linux.devices[{index}]");
        let (path, node) = compile(device, &field, out)?;
        if let Some((_, _, first)) = own.iter().find(|(other, ..)| *other == path) {
            // Engines list a device as often as they were told of it; the first one counts.
            if is_same(first, &node) {
                continue;
            }
            let text = format!("another device at {}", path.display());
            return Err(Error::config(format!("{field}.path"), text));
        }
        own.push((path, field, node));
    }
    if config.dev_is_bound {
        own.retain(|(path, ..)| !path.starts_with("/dev"));
        warn_of_bound_dev(list.len() - own.len(), out);
    } else {
        for (path, major, minor) in DEFAULTS {
            if !own.iter().any(|(own, ..)| own == Path::new(path)) {
                let path = kernel_path(path, "linux.devices")?;
                let mode = CHARACTER | 0o666;
                let node = Device { path, mode, major, minor, uid: 0, gid: 0 };
                out.child("linux.devices", Op::Device(node));
            }
        }
    }
    for (path, field, node) in own {
        if path == Path::new("/dev/ptmx") {
            out.warn(field, "/dev/ptmx is always a link to pts/ptmx");
        } else {
            out.child(field, Op::Device(node));
        }
    }
    Ok(())
}

/// Whether both are the same device, whoever may use it.
fn is_same(one: &Device<Bytes>, other: &Device<Bytes>) -> bool {
    let identity = |node: &Device<Bytes>| (node.mode & TYPE_MASK, node.major, node.minor);
    identity(one) == identity(other)
}

fn warn_of_bound_dev(dropped: usize, out: &mut Columns) {
    if dropped > 0 {
        let text = format!("{dropped} not made: a bind mount brings the container's /dev");
        out.warn("linux.devices", text);
    }
}

fn compile(
    device: &LinuxDevice,
    field: &str,
    out: &mut Columns,
) -> Result<(PathBuf, Device<Bytes>)> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    if !device.path().is_absolute() {
        return Err(Error::config(at("path"), "is not absolute"));
    }
    let path = clean(device.path());
    if path == Path::new("/") {
        return Err(Error::config(at("path"), "is the root of the container"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::P => FIFO,
        LinuxDeviceType::A => {
            return Err(Error::config(at("type"), "\"a\" is no type of device node"));
        }
    };
    let number = |value: i64, leaf: &str, max: u32| match u32::try_from(value) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Error::config(at(leaf), format!("{value} is no device number (0 to {max})"))),
    };
    let (mut major, mut minor) =
        (number(device.major(), "major", MAJOR_MAX)?, number(device.minor(), "minor", MINOR_MAX)?);
    if kind == FIFO && (major, minor) != (0, 0) {
        out.warn(
            field.to_owned(),
            format!("a fifo has no device number; {major}:{minor} is unused"),
        );
        (major, minor) = (0, 0);
    }
    let mode = device.file_mode().unwrap_or(0o666);
    if mode & !(TYPE_MASK | 0o7777) != 0 {
        return Err(Error::config(at("fileMode"), format!("{mode:#o} is no file mode")));
    }
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    for (leaf, id) in [("uid", uid), ("gid", gid)] {
        super::process::check_id(id, &at(leaf))?;
    }
    let bytes = kernel_path(&path, &at("path"))?;
    let mode = kind | mode & 0o7777;
    Ok((path, Device { path: bytes, mode, major, minor, uid, gid }))
}

/// The links that programs expect (config-linux.md, Default Symbolic Links, and `/dev/ptmx`).
pub(super) fn links(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.dev_is_bound {
        return Ok(());
    }
    let core = config.facts.kcore.then_some(("/proc/kcore", "/dev/core", false));
    let links = [
        ("/proc/self/fd", "/dev/fd", false),
        ("/proc/self/fd/0", "/dev/stdin", false),
        ("/proc/self/fd/1", "/dev/stdout", false),
        ("/proc/self/fd/2", "/dev/stderr", false),
        ("pts/ptmx", "/dev/ptmx", true),
    ];
    for (target, path, replace) in links.into_iter().chain(core) {
        let target = Bytes::c_string(target, "linux.devices")?;
        let path = Bytes::c_string(path, "linux.devices")?;
        out.child("linux.devices", Op::Symlink { target, path, replace });
    }
    Ok(())
}
