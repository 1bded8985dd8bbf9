//! Time namespaces: `linux.timeOffsets`.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxNamespaceType;
use orlop_init::plan::Op;

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::Bytes;

const FIELD: &str = "linux.timeOffsets";

/// The clocks that have an offset (time_namespaces(7)).
const CLOCKS: [&str; 2] = ["boottime", "monotonic"];

/// A new time namespace with its offsets, which can only be set before anybody is in it.
pub(super) fn namespace(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if is_late(config) { Ok(()) } else { make(config, out) }
}

/// The same for a caller without privileges who joins a user namespace: it may make others only
/// in there.
pub(super) fn late_namespace(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !is_late(config) {
        return Ok(());
    }
    if !offsets(config)?.is_empty() {
        // procfs gives the files of the init, which nobody may trace, to the host's root.
        let text = "cannot be set by a caller who is not root in a user namespace that is joined";
        return Err(Error::unsupported(FIELD, text));
    }
    make(config, out)
}

fn is_late(config: &Config<'_>) -> bool {
    config.facts.unprivileged && config.user.is_some() && !config.user.is_new()
}

fn make(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let offsets = offsets(config)?;
    match config.namespaces.new_field(LinuxNamespaceType::Time) {
        Some(field) => {
            let field = if offsets.is_empty() { field } else { FIELD.to_owned() };
            out.child(field, Op::TimeNamespace { offsets: Bytes::blob(offsets) });
            Ok(())
        }
        None if offsets.is_empty() => Ok(()),
        None => {
            let text = "can only be set in a new time namespace";
            Err(Error::config(FIELD, text).hint("linux.namespaces has none of type time"))
        }
    }
}

/// The lines that `/proc/PID/timens_offsets` takes (proc(5)).
fn offsets(config: &Config<'_>) -> Result<String> {
    /// Nanoseconds of a second.
    const SECOND: u32 = 1_000_000_000;
    let all = config.linux.and_then(|linux| linux.time_offsets().as_ref());
    let mut lines = String::new();
    for (clock, offset) in all.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        if !CLOCKS.contains(&clock.as_str()) {
            let text = format!("{clock:?} is not a clock that has an offset (boottime, monotonic)");
            return Err(Error::config(FIELD, text));
        }
        let (seconds, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanos >= SECOND {
            let field = format!("{FIELD}.{clock}.nanosecs");
            return Err(Error::config(field, format!("{nanos} is a second or more")));
        }
        lines.push_str(&format!("{clock} {seconds} {nanos}\n"));
    }
    Ok(lines)
}
