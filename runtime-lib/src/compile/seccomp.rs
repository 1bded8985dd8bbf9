//! `linux.seccomp`: when the filter is loaded, and that the init survives it.

use orlop_init::plan::Op;

use super::{Columns, Config, hooks, namespaces};
use crate::error::{Error, Result};
use crate::plan::Bytes;
use crate::seccomp::{Call, Filter, compile};

const FIELD: &str = "linux.seccomp";

fn load(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(profile) = config.linux.and_then(|linux| linux.seccomp().as_ref()) {
        let filter = compile(profile, FIELD)?;
        let program = Bytes::blob(filter.to_bytes());
        out.child(FIELD, Op::Seccomp { flags: filter.flags, program });
        out.filter = Some(filter);
    }
    Ok(())
}

/// Without `noNewPrivileges` loading takes CAP_SYS_ADMIN: before it is dropped.
pub(super) fn while_privileged(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.nnp() { Ok(()) } else { load(config, out) }
}

/// With `noNewPrivileges` the filter comes last, so that it may deny what the init needs; but before
/// others in a joined pid namespace could take hold of a process without it, unless it denies the
/// clone(2) that leads there.
pub(super) fn before_rebirth(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !config.nnp() || !namespaces::is_reborn(config) || hooks::run_at_start(config) {
        return Ok(());
    }
    let loaded = out.child.len();
    load(config, out)?;
    if out.filter.as_ref().is_some_and(|filter| !allows_rebirth(filter)) {
        out.child.truncate(loaded);
        out.filter = None;
    }
    Ok(())
}

/// Whether a filter lets the init be reborn under it.
pub(super) fn allows_rebirth(filter: &Filter) -> bool {
    let calls: Result<Vec<Call<'_>>> = [CLONE, SETSID, IOCTL].iter().map(call).collect();
    calls.and_then(|calls| filter.check_allows(&calls, FIELD)).is_ok()
}

/// The last moment before the program may start.
pub(super) fn before_start(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let loaded = out.filter.is_some();
    if config.nnp() && !loaded && !hooks::run_at_start(config) { load(config, out) } else { Ok(()) }
}

/// Hooks of `startContainer` are not the program that the filter is for.
pub(super) fn after_hooks(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.nnp() && hooks::run_at_start(config) { load(config, out) } else { Ok(()) }
}

/// A system call of the init, with its first argument where that is always the same.
type Need = (&'static str, libc::c_long, u64);

/// `CLONE_PARENT | SIGCHLD`.
const CLONE: Need = ("clone", libc::SYS_clone, 0x8011);
const SETSID: Need = ("setsid", libc::SYS_setsid, 0);
const IOCTL: Need = ("ioctl", libc::SYS_ioctl, 0);

fn call(&(name, number, first): &Need) -> Result<Call<'static>> {
    let number = u32::try_from(number).map_err(|_| Error::bug("a negative call"))?;
    Ok(Call { name, number, args: [first, 0, 0, 0, 0, 0] })
}

/// The system calls that the init makes for an operation that may follow the filter. The init
/// keeps to it: a call that is not here is not made after [`Op::Seccomp`].
fn calls_of(op: &Op<Bytes>) -> Result<&'static [Need]> {
    const CHDIR: Need = ("chdir", libc::SYS_chdir, 0);
    const EXIT: Need = ("exit_group", libc::SYS_exit_group, 0);
    const WRITE: Need = ("write", libc::SYS_write, 0);
    const KEEP_CAPS: Need = ("prctl", libc::SYS_prctl, 8);
    const DROP_BOUNDING: Need = ("prctl", libc::SYS_prctl, 24);
    const AMBIENT: Need = ("prctl", libc::SYS_prctl, 47);
    Ok(match op {
        Op::Seccomp { .. } => &[],
        Op::ChdirAgain { .. } => &[CHDIR, ("getcwd", libc::SYS_getcwd, 0)],
        Op::BoundingSet { .. } => &[DROP_BOUNDING],
        Op::Groups { .. } => &[("setgroups", libc::SYS_setgroups, 0)],
        Op::User { .. } => &[
            KEEP_CAPS,
            ("setresgid", libc::SYS_setresgid, 0),
            ("setresuid", libc::SYS_setresuid, 0),
        ],
        Op::Capabilities(_) => &[("capset", libc::SYS_capset, 0), AMBIENT],
        Op::FindProgram { .. } => {
            &[("newfstatat", libc::SYS_newfstatat, 0), ("faccessat2", libc::SYS_faccessat2, 0)]
        }
        Op::Reborn { terminal: false } => &[CLONE, WRITE, SETSID, ("read", libc::SYS_read, 0)],
        Op::Reborn { terminal: true } => {
            &[CLONE, WRITE, SETSID, IOCTL, ("read", libc::SYS_read, 0)]
        }
        Op::Notify(_) => &[WRITE],
        Op::AwaitStart | Op::Await(_) => &[("read", libc::SYS_read, 0)],
        Op::RunHook(_) => &[
            ("memfd_create", libc::SYS_memfd_create, 0),
            ("getpid", libc::SYS_getpid, 0),
            WRITE,
            ("lseek", libc::SYS_lseek, 0),
            ("fork", libc::SYS_fork, 0),
            ("dup3", libc::SYS_dup3, 0),
            ("close_range", libc::SYS_close_range, 0),
            ("execve", libc::SYS_execve, 0),
            ("pidfd_open", libc::SYS_pidfd_open, 0),
            ("ppoll", libc::SYS_ppoll, 0),
            ("poll", libc::SYS_poll, 0),
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal, 0),
            ("waitid", libc::SYS_waitid, 0),
            ("pread64", libc::SYS_pread64, 0),
            ("close", libc::SYS_close, 0),
            EXIT,
        ],
        Op::Exec { .. } => &[
            ("execve", libc::SYS_execve, 0),
            // So that a failure is told.
            EXIT,
        ],
        _ => return Err(Error::bug("an operation after the seccomp filter has no list of calls")),
    })
}

/// Refuses a filter under which the init could not get to the program: it would be killed, or its
/// errors would be lost.
pub(super) fn check(out: &Columns) -> Result<()> {
    let Some(filter) = &out.filter else { return Ok(()) };
    let after = out.child.iter().map(|step| &step.op);
    let after = after.skip_while(|op| !matches!(op, Op::Seccomp { .. }));
    let mut calls: Vec<Call<'_>> = Vec::new();
    for op in after {
        for need in calls_of(op)? {
            let call = call(need)?;
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
    }
    filter.check_allows(&calls, FIELD)
}
