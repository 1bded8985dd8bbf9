//! `process`: who runs what, where, with which limits. (Streams and capabilities have files of their own.)

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, LinuxPersonalityDomain, PosixRlimitType, Process};
use orlop_init::plan::Op;

use super::{Columns, Config, clean, kernel_list, kernel_path, labels};
use crate::error::{Error, Result};
use crate::plan::{Bytes, HostOp};

/// `process.env`, checked, without duplicates.
pub(super) struct Environment<'a> {
    /// The last entry of each name, in the order of those.
    entries: Vec<&'a str>,
    home: bool,
}

impl<'a> Environment<'a> {
    /// With `notify`, the program is told of its socket for sd_notify(3).
    pub(super) fn new(process: &'a Process, notify: bool) -> Result<Self> {
        let all = process.env().as_deref().unwrap_or_default();
        for (index, entry) in all.iter().enumerate() {
            check_variable(entry, &format!("process.env[{index}]"))?;
        }
        let mut seen = HashSet::new();
        let name = |entry: &'a str| entry.split_once('=').map_or(entry, |(name, _)| name);
        let own = notify.then_some("NOTIFY_SOCKET=/run/notify/notify.sock");
        let all = all.iter().map(String::as_str).chain(own);
        let mut entries: Vec<&str> = all.rev().filter(|entry| seen.insert(name(entry))).collect();
        entries.reverse();
        // An empty HOME counts as none, and is found in the container.
        entries.retain(|entry| *entry != "HOME=");
        let home = entries.iter().any(|entry| entry.starts_with("HOME="));
        Ok(Self { entries, home })
    }

    pub(super) fn entries(&self) -> &[&'a str] {
        &self.entries
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let value = |entry: &&'a str| entry.strip_prefix(name)?.strip_prefix('=');
        self.entries.iter().find_map(value)
    }
}

/// A variable of an environment, `NAME=value`.
pub(super) fn check_variable(entry: &str, field: &str) -> Result<()> {
    let error = |text: &str| {
        Err(Error::config(field.to_owned(), format!("invalid environment variable: {text}")))
    };
    match entry.split_once('=') {
        None => error("missing '='"),
        Some(("", _)) => error("name cannot be empty"),
        Some((name, _)) if entry.contains('\0') => {
            error(&format!("{name:?} contains nul byte (\\x00)"))
        }
        Some(_) => Ok(()),
    }
}

/// A user or group id; the highest means "no change" to the kernel, never a user.
pub(super) fn check_id(id: u32, field: &str) -> Result<()> {
    if id == u32::MAX {
        return Err(Error::config(field.to_owned(), format!("{id} (-1) is not an id")));
    }
    Ok(())
}

/// A session keyring of the container's own, so that it cannot reach the caller's keys.
pub(super) fn session_keyring(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !config.request.no_new_keyring {
        labels::keys(config, out)?;
        let name = Bytes::c_string(format!("_ses.{}", config.request.id), "process")?;
        let permissions = if config.request.joins { 0 } else { keyring_permissions(config) };
        out.child("process", Op::SessionKeyring { name, permissions });
    }
    Ok(())
}

/// What the kernel gives a session keyring (linux/key.h: all to processes that have it; view, read
/// and link to the owner's), and search: without it the processes of `exec` would not find it, and
/// each have one of its own. In a user namespace, where names are the namespace's own, these may be
/// of another user by then.
fn keyring_permissions(config: &Config<'_>) -> u32 {
    const KERNELS: u32 = 0x3f13_0000;
    const SEARCH_BY_OWNER: u32 = 0x0008_0000;
    const SEARCH_BY_OTHERS: u32 = 0x0000_0008;
    let others = config.namespaces.separate(LinuxNamespaceType::User);
    KERNELS | SEARCH_BY_OWNER | if others { SEARCH_BY_OTHERS } else { 0 }
}

/// `process.cwd`, checked.
fn cwd(config: &Config<'_>) -> Result<Bytes> {
    let path = config.process.cwd();
    if path.as_os_str().is_empty() {
        return Err(Error::config("process.cwd", "Cwd property must not be empty"));
    }
    if !path.is_absolute() {
        let hint = format!("{} is not", path.display());
        return Err(Error::config("process.cwd", "Cwd must be an absolute path").hint(hint));
    }
    kernel_path(path, "process.cwd")
}

pub(super) fn create_cwd(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let path = cwd(config)?;
    if clean(config.process.cwd()) != Path::new("/") {
        out.child("process.cwd", Op::CreateCwd { path });
    }
    Ok(())
}

pub(super) fn chdir(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    out.child("process.cwd", Op::Chdir { path: cwd(config)? });
    Ok(())
}

pub(super) fn chdir_again(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    out.child("process.cwd", Op::ChdirAgain { path: cwd(config)? });
    Ok(())
}

/// `linux.personality`.
pub(super) fn personality(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let Some(personality) = config.linux.and_then(|linux| linux.personality().as_ref()) else {
        return Ok(());
    };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        // The specification defines none yet.
        return Err(Error::unsupported("linux.personality.flags", "no flag is known"));
    }
    // PER_LINUX and PER_LINUX32 of <sys/personality.h>.
    let persona = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    out.child("linux.personality", Op::Personality { persona });
    Ok(())
}

pub(super) fn find_home(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !config.env.home {
        out.child("process.env", Op::FindHome { uid: config.process.user().uid() });
    }
    Ok(())
}

pub(super) fn umask(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let mask = config.process.user().umask().unwrap_or(0o022);
    if mask > 0o777 {
        let text = format!("{mask:#o} has more than permission bits (0 to 0o777)");
        return Err(Error::config("process.user.umask", text));
    }
    out.child("process.user.umask", Op::Umask { mask });
    Ok(())
}

pub(super) fn no_new_privileges(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.nnp() {
        out.child("process.noNewPrivileges", Op::NoNewPrivileges);
    }
    Ok(())
}

/// setgroups(2) even without groups: those of the caller must not stay.
pub(super) fn groups(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    /// NGROUPS_MAX of the kernel.
    const MOST: usize = 65536;
    const FIELD: &str = "process.user.additionalGids";
    let gids = config.process.user().additional_gids().as_deref().unwrap_or_default();
    if gids.len() > MOST {
        return Err(Error::config(FIELD, format!("has more than {MOST} groups")));
    }
    if config.facts.unprivileged {
        if gids.is_empty() {
            return Ok(());
        }
        let text = "cannot set any additional groups in a rootless container";
        return Err(Error::unsupported(FIELD, text));
    }
    for (index, gid) in gids.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        check_id(*gid, &field)?;
        config.user.check_group(*gid, &field)?;
    }
    if config.facts.setgroups_denied {
        if !gids.is_empty() {
            out.warn(FIELD, "has no effect: setgroups(2) is denied in this user namespace");
        }
        return Ok(());
    }
    let bytes: Vec<u8> = gids.iter().flat_map(|gid| gid.to_le_bytes()).collect();
    out.child(FIELD, Op::Groups { gids: Bytes::blob(bytes) });
    Ok(())
}

pub(super) fn user(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let user = config.process.user();
    let (uid, gid) = (user.uid(), user.gid());
    check_id(uid, "process.user.uid")?;
    check_id(gid, "process.user.gid")?;
    config.user.check_user(uid, "process.user.uid")?;
    config.user.check_group(gid, "process.user.gid")?;
    out.child("process.user", Op::User { uid, gid });
    Ok(())
}

fn args<'a>(config: &Config<'a>) -> Result<&'a [String]> {
    match config.process.args().as_deref() {
        None | Some([]) => Err(Error::config("process.args", "args must not be empty")),
        Some(args) => Ok(args),
    }
}

pub(super) fn find_program(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let name = args(config)?.first().map_or("", String::as_str);
    let name = kernel_path(name, "process.args[0]")?;
    let path = Bytes::blob(config.env.get("PATH").unwrap_or_default());
    out.child("process.args[0]", Op::FindProgram { name, path });
    Ok(())
}

pub(super) fn exec(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let args = kernel_list(args(config)?, "process.args")?;
    let env = kernel_list(config.env.entries(), "process.env")?;
    out.child("process.args", Op::Exec { args, env });
    Ok(())
}

/// `process.oomScoreAdj`, by the creator: lowering it takes a privilege that the container may lack.
pub(super) fn oom_score(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.user.is_some() { Ok(()) } else { write_oom_score(config, out) }
}

/// The same while the init waits to be admitted: a caller without privileges may write it no more
/// when the init belongs to others. Whoever it is reborn as inherits it.
pub(super) fn oom_score_of_admitted(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.user.is_some() { write_oom_score(config, out) } else { Ok(()) }
}

fn write_oom_score(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const FIELD: &str = "process.oomScoreAdj";
    let Some(score) = config.process.oom_score_adj() else { return Ok(()) };
    if !(-1000..=1000).contains(&score) {
        return Err(Error::config(FIELD, format!("{score} is not in -1000 to 1000")));
    }
    out.host(FIELD, HostOp::OomScoreAdj(score));
    Ok(())
}

/// Numbers and names of `RLIMIT_*` (x86_64, aarch64, riscv64).
const RLIMITS: [(PosixRlimitType, u32); 16] = {
    use PosixRlimitType::*;
    [
        (RlimitCpu, 0),
        (RlimitFsize, 1),
        (RlimitData, 2),
        (RlimitStack, 3),
        (RlimitCore, 4),
        (RlimitRss, 5),
        (RlimitNproc, 6),
        (RlimitNofile, 7),
        (RlimitMemlock, 8),
        (RlimitAs, 9),
        (RlimitLocks, 10),
        (RlimitSigpending, 11),
        (RlimitMsgqueue, 12),
        (RlimitNice, 13),
        (RlimitRtprio, 14),
        (RlimitRttime, 15),
    ]
};

/// The name of a limit's number.
pub(crate) fn rlimit_name(number: u32) -> String {
    match RLIMITS.iter().find(|(_, known)| *known == number) {
        Some((kind, _)) => kind.to_string(),
        None => format!("RLIMIT {number}"),
    }
}

/// Before the program is looked for, and before a filter may forbid it.
pub(super) fn close_descriptors(_config: &Config<'_>, out: &mut Columns) -> Result<()> {
    out.child("process", Op::CloseDescriptors);
    Ok(())
}

/// `process.rlimits`: late, as the init needs more descriptors and memory than the program may be
/// allowed, and yet before it changes its user. (The creator could only set them by prlimit(2) with
/// CAP_SYS_RESOURCE once the init is another user.)
pub(super) fn rlimits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let list = config.process.rlimits().as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    for (index, limit) in list.iter().enumerate() {
        let field = format!("process.rlimits[{index}]");
        let Some((_, resource)) = RLIMITS.iter().find(|(kind, _)| *kind == limit.typ()) else {
            return Err(Error::bug("a limit without a number"));
        };
        if !seen.insert(*resource) {
            let text = format!("a second {}", rlimit_name(*resource));
            return Err(Error::config(format!("{field}.type"), text));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            let text = format!("{soft} is above the hard limit, {hard}");
            return Err(Error::config(format!("{field}.soft"), text));
        }
        out.child(field, Op::Rlimit { resource: *resource, soft, hard });
    }
    Ok(())
}

/// The hard limits of `process.rlimits` for an init in a user namespace: raising them takes
/// CAP_SYS_RESOURCE outside of it.
pub(super) fn hard_limits(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !config.user.is_some() {
        return Ok(());
    }
    let limits: Vec<_> = out
        .child
        .iter()
        .filter_map(|step| match step.op {
            Op::Rlimit { resource, hard, .. } => Some((step.field.clone(), resource, hard)),
            _ => None,
        })
        .collect();
    for (field, resource, hard) in limits {
        out.host(field, HostOp::HardLimit { resource, hard });
    }
    Ok(())
}
