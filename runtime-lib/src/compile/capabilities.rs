//! `process.capabilities`.

use oci_spec::runtime::{Capability, LinuxCapabilities};
use orlop_init::plan::{Capabilities, Op};

use super::{Columns, Config};
use crate::error::{Error, Result};

/// Every capability in the order of its number, with its name (<linux/capability.h>).
pub(crate) const CAPABILITIES: [(Capability, &str); 41] = {
    use Capability::*;
    [
        (Chown, "CAP_CHOWN"),
        (DacOverride, "CAP_DAC_OVERRIDE"),
        (DacReadSearch, "CAP_DAC_READ_SEARCH"),
        (Fowner, "CAP_FOWNER"),
        (Fsetid, "CAP_FSETID"),
        (Kill, "CAP_KILL"),
        (Setgid, "CAP_SETGID"),
        (Setuid, "CAP_SETUID"),
        (Setpcap, "CAP_SETPCAP"),
        (LinuxImmutable, "CAP_LINUX_IMMUTABLE"),
        (NetBindService, "CAP_NET_BIND_SERVICE"),
        (NetBroadcast, "CAP_NET_BROADCAST"),
        (NetAdmin, "CAP_NET_ADMIN"),
        (NetRaw, "CAP_NET_RAW"),
        (IpcLock, "CAP_IPC_LOCK"),
        (IpcOwner, "CAP_IPC_OWNER"),
        (SysModule, "CAP_SYS_MODULE"),
        (SysRawio, "CAP_SYS_RAWIO"),
        (SysChroot, "CAP_SYS_CHROOT"),
        (SysPtrace, "CAP_SYS_PTRACE"),
        (SysPacct, "CAP_SYS_PACCT"),
        (SysAdmin, "CAP_SYS_ADMIN"),
        (SysBoot, "CAP_SYS_BOOT"),
        (SysNice, "CAP_SYS_NICE"),
        (SysResource, "CAP_SYS_RESOURCE"),
        (SysTime, "CAP_SYS_TIME"),
        (SysTtyConfig, "CAP_SYS_TTY_CONFIG"),
        (Mknod, "CAP_MKNOD"),
        (Lease, "CAP_LEASE"),
        (AuditWrite, "CAP_AUDIT_WRITE"),
        (AuditControl, "CAP_AUDIT_CONTROL"),
        (Setfcap, "CAP_SETFCAP"),
        (MacOverride, "CAP_MAC_OVERRIDE"),
        (MacAdmin, "CAP_MAC_ADMIN"),
        (Syslog, "CAP_SYSLOG"),
        (WakeAlarm, "CAP_WAKE_ALARM"),
        (BlockSuspend, "CAP_BLOCK_SUSPEND"),
        (AuditRead, "CAP_AUDIT_READ"),
        (Perfmon, "CAP_PERFMON"),
        (Bpf, "CAP_BPF"),
        (CheckpointRestore, "CAP_CHECKPOINT_RESTORE"),
    ]
};

/// The names of a set's capabilities, by number.
pub(crate) fn names(set: u64) -> impl Iterator<Item = &'static str> {
    CAPABILITIES.iter().enumerate().filter(move |(n, _)| set >> n & 1 == 1).map(|(_, (_, n))| *n)
}

type Set = Option<oci_spec::runtime::Capabilities>;

/// A set as a mask, without what the kernel does not know.
fn mask(
    config: &Config<'_>,
    name: &str,
    set: impl Fn(&LinuxCapabilities) -> &Set,
    warn: &mut dyn FnMut(String, String),
) -> u64 {
    let wanted = config.process.capabilities().as_ref().and_then(|all| set(all).as_ref());
    let Some(wanted) = wanted else { return 0 };
    let mut mask = 0;
    for (number, (capability, text)) in (0_u8..).zip(CAPABILITIES) {
        if !wanted.contains(&capability) {
            continue;
        }
        if number > config.facts.last_capability {
            let field = format!("process.capabilities.{name}");
            warn(field, format!("{text} is not known to this kernel, and left out"));
        } else {
            mask |= 1 << number;
        }
    }
    mask
}

/// Without `process.capabilities` the sets are empty, as with empty ones.
pub(super) fn bounding(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let mut warn = |field: String, text: String| out.warn(field, text);
    let keep = mask(config, "bounding", LinuxCapabilities::bounding, &mut warn);
    out.child("process.capabilities.bounding", Op::BoundingSet { keep });
    Ok(())
}

pub(super) fn sets(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let mut warn = |field: String, text: String| out.warn(field, text);
    let bounding = mask(config, "bounding", LinuxCapabilities::bounding, &mut |_, _| {});
    let effective = mask(config, "effective", LinuxCapabilities::effective, &mut warn);
    let permitted = mask(config, "permitted", LinuxCapabilities::permitted, &mut warn);
    let inheritable = mask(config, "inheritable", LinuxCapabilities::inheritable, &mut warn);
    let ambient = mask(config, "ambient", LinuxCapabilities::ambient, &mut warn);
    // The kernel's rules (capabilities(7)), told by name where capset(2) says EPERM.
    within(effective, permitted, "effective", "permitted")?;
    within(inheritable, bounding, "inheritable", "bounding")?;
    let possible = permitted & inheritable;
    for name in names(ambient & !possible) {
        let text = format!("{name} is left out: it is not both permitted and inheritable");
        out.warn("process.capabilities.ambient", text);
    }
    let sets = Capabilities { effective, permitted, inheritable, ambient: ambient & possible };
    out.child("process.capabilities", Op::Capabilities(sets));
    Ok(())
}

fn within(set: u64, other: u64, name: &str, of: &str) -> Result<()> {
    match names(set & !other).next() {
        None => Ok(()),
        Some(capability) => Err(Error::config(
            format!("process.capabilities.{name}"),
            format!("{capability} is not in {of}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_with_the_caps_crate() {
        for (number, (capability, name)) in CAPABILITIES.iter().enumerate() {
            let known: caps::Capability = name.parse().unwrap();
            assert_eq!(usize::from(known.index()), number, "{name}");
            assert_eq!(serde_json::to_value(capability).unwrap(), *name);
        }
    }
}
