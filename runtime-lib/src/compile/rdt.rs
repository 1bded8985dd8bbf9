//! `linux.intelRdt`: the group of the resctrl filesystem that the container is in.

use serde::{Deserialize, Serialize};

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::HostOp;

const FIELD: &str = "linux.intelRdt";

/// A group of resctrl and what a container does with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rdt {
    /// Its directory below the filesystem's root; empty for the root itself.
    pub(crate) group: String,
    /// It is the container's own: it goes with it.
    pub(crate) own: bool,
    /// It must be there: nothing says what it should be.
    pub(crate) must_exist: bool,
    /// `l3CacheSchema` and `memBwSchema`, by lines: a group that is there must have them.
    pub(crate) expected: Vec<String>,
    /// `schemata`, written after those.
    pub(crate) further: Vec<String>,
    /// The name of a monitoring group of the container's own.
    pub(crate) monitor: Option<String>,
}

/// The group, entered by the creator when the process that stays is known.
pub(super) fn group(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let Some(asked) = config.linux.and_then(|linux| linux.intel_rdt().as_ref()) else {
        return Ok(());
    };
    #[allow(deprecated)] // The spec deprecates them; a configuration may still have them.
    let old = [("enableCMT", asked.enable_cmt()), ("enableMBM", asked.enable_mbm())];
    for (leaf, value) in old {
        if *value == Some(true) {
            let text = "has no effect: what is monitored is shown anyway; enableMonitoring gives the \
                container a monitoring group";
            out.warn(format!("{FIELD}.{leaf}"), text);
        }
    }
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let id = &config.request.id;
    let named = filled(asked.clos_id());
    if let Some(name) = &named {
        check_name(name)?;
    }
    let expected = schemas(
        filled(asked.l3_cache_schema()).as_deref(),
        filled(asked.mem_bw_schema()).as_deref(),
    )?;
    let further = asked.schemata().clone().unwrap_or_default();
    for (index, line) in further.iter().enumerate() {
        check_line(line, &format!("{FIELD}.schemata[{index}]"))?;
    }
    let rdt = Rdt {
        own: named.is_none(),
        must_exist: named.is_some() && expected.is_empty() && further.is_empty(),
        group: named.map_or_else(|| id.clone(), |name| name.trim_matches('/').to_owned()),
        expected,
        further,
        monitor: (*asked.enable_monitoring() == Some(true)).then(|| id.clone()),
    };
    out.host(FIELD, HostOp::Rdt(rdt));
    Ok(())
}

/// A directory's name, or `/` for the root group.
fn check_name(name: &str) -> Result<()> {
    let plain = name == "/" || !name.contains('/') && name != "." && name != "..";
    if plain && !name.contains(['\0', '\n']) {
        return Ok(());
    }
    Err(Error::config(format!("{FIELD}.closID"), format!("{name:?} is not the name of a group")))
}

fn check_line(line: &str, field: &str) -> Result<()> {
    if line.is_empty() || line.contains(['\n', '\0']) {
        return Err(Error::config(field.to_owned(), format!("{line:?} is not one line")));
    }
    Ok(())
}

/// The lines of the two schemas; of two for the memory bandwidth, that of `memBwSchema` counts.
///
/// # Errors
/// One is malformed.
pub(crate) fn schemas(cache: Option<&str>, bandwidth: Option<&str>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in cache.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
        if bandwidth.is_none() || !line.starts_with("MB:") {
            check_line(line, "linux.intelRdt.l3CacheSchema")?;
            lines.push(line.to_owned());
        }
    }
    if let Some(line) = bandwidth {
        const BANDWIDTH: &str = "linux.intelRdt.memBwSchema";
        check_line(line, BANDWIDTH)?;
        if !line.starts_with("MB:") {
            return Err(Error::config(BANDWIDTH, format!("{line:?} does not begin with MB:")));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}
