//! `linux.netDevices`: devices of the runtime's network namespace that become the container's.

use std::collections::{BTreeMap, HashSet};

use oci_spec::runtime::LinuxNamespaceType;

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::HostOp;

const FIELD: &str = "linux.netDevices";

/// Whether there are any.
pub(super) fn any(config: &Config<'_>) -> bool {
    let devices = config.linux.and_then(|linux| linux.net_devices().as_ref());
    devices.is_some_and(|devices| !devices.is_empty())
}

/// Moves them, once the container's network namespace is there.
pub(super) fn moves(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let devices = config.linux.and_then(|linux| linux.net_devices().as_ref());
    if any(config) && !config.namespaces.separate(LinuxNamespaceType::Network) {
        let text = "unable to move network devices without a private NET namespace";
        return Err(Error::config(FIELD, text).hint("linux.namespaces has none of type network"));
    }
    let mut seen = HashSet::new();
    for (name, device) in devices.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        let field = format!("{FIELD}[{name:?}]");
        check_name(name, &field)?;
        let new_name = device.name().as_deref().filter(|new| !new.is_empty());
        if let Some(new) = new_name {
            check_template(new, &format!("{field}.name"))?;
        }
        let new_name = new_name.unwrap_or(name);
        if !new_name.contains('%') && !seen.insert(new_name) {
            let text = format!("a second device would be {new_name:?} in the container");
            return Err(Error::config(field, text));
        }
        let (name, new_name) = (name.clone(), new_name.to_owned());
        out.host(field, HostOp::MoveNetDevice { name, new_name });
    }
    Ok(())
}

/// The kernel's rule for names.
fn check_name(name: &str, field: &str) -> Result<()> {
    /// `IFNAMSIZ` with the NUL.
    const LONGEST: usize = 15;
    let error = |text: &str| Err(Error::config(field.to_owned(), format!("{name:?} {text}")));
    let wrong = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    match name {
        "" | "." | ".." => error("is no name of a network device"),
        _ if name.len() > LONGEST => error("is longer than 15 bytes"),
        _ if name.contains(wrong) => error("is no name of a network device"),
        _ => Ok(()),
    }
}

/// A name in the container; the kernel puts the first free number for a `%d`.
fn check_template(name: &str, field: &str) -> Result<()> {
    check_name(&name.replacen("%d", "0", 1), field)
}
