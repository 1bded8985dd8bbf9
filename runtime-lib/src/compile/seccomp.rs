//! `linux.seccomp`: when the filter is loaded, and that the init survives it.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use orlop_init::plan::{Message, NEW_LISTENER, Op};

use super::{Columns, Config, namespaces};
use crate::error::{Error, Result};
use crate::plan::{Agent, Bytes, HostOp, Step};
use crate::seccomp::{Call, Filter, compile};

const FIELD: &str = "linux.seccomp";
const LISTENER: &str = "linux.seccomp.listenerPath";

fn profile<'a>(config: &Config<'a>) -> Option<&'a LinuxSeccomp> {
    config.linux.and_then(|linux| linux.seccomp().as_ref())
}

fn load(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if let Some(profile) = profile(config) {
        let filter = compile(profile, FIELD)?;
        out.agent = agent(config, profile, &filter)?;
        let program = Bytes::blob(filter.to_bytes());
        out.child(FIELD, Op::Seccomp { flags: filter.flags, program });
        out.filter = Some(filter);
    }
    Ok(())
}

/// Takes the filter back, to load it later.
fn unload(out: &mut Columns, loaded: usize) {
    out.child.truncate(loaded);
    out.filter = None;
    out.agent = None;
}

/// Who answers for the filter.
fn agent(config: &Config<'_>, profile: &LinuxSeccomp, filter: &Filter) -> Result<Option<Agent>> {
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    let metadata = profile.listener_metadata().clone().filter(|text| !text.is_empty());
    match path {
        None if filter.notifies() => {
            Err(Error::config(LISTENER, "seccomp listenerPath is not set"))
        }
        None if metadata.is_some() => {
            let text = "must not be set without listenerPath";
            Err(Error::config("linux.seccomp.listenerMetadata", text))
        }
        Some(path) if filter.notifies() => {
            Ok(Some(Agent { path: config.request.bundle.join(path), metadata }))
        }
        _ => Ok(None),
    }
}

/// Warns of what only a filter with a listener has.
pub(super) fn warn_of_no_listener(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let Some(profile) = profile(config).filter(|_| out.agent.is_none()) else { return Ok(()) };
    let killable = LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv;
    let flags = profile.flags().as_ref();
    for (field, there) in [
        (LISTENER, profile.listener_path().is_some()),
        ("linux.seccomp.listenerMetadata", profile.listener_metadata().is_some()),
        ("linux.seccomp.flags", flags.is_some_and(|flags| flags.contains(&killable))),
    ] {
        if there {
            out.warn(field, "has no effect without a rule of SCMP_ACT_NOTIFY");
        }
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
    if !config.nnp() || !namespaces::is_reborn(config) {
        return Ok(());
    }
    let loaded = out.child.len();
    load(config, out)?;
    if out.filter.as_ref().is_some_and(|filter| !allows_rebirth(filter)) {
        unload(out, loaded);
    }
    Ok(())
}

/// Whether a filter lets the init be reborn under it, without the agent: that is told a pid, and so
/// called when there is one.
pub(super) fn allows_rebirth(filter: &Filter) -> bool {
    let needs: &[Need] = if filter.notifies() {
        &[CLONE, SETSID, IOCTL, READ, CLOSE]
    } else {
        &[CLONE, SETSID, IOCTL]
    };
    let calls: Result<Vec<Call<'_>>> = needs.iter().map(call).collect();
    calls.is_ok_and(|calls| {
        filter.check_allows(&calls, FIELD).is_ok()
            && matches!(filter.asked_of_agent(&calls), Ok(None))
    })
}

/// The last moment before anything of the image may run: hooks of `startContainer` are found in it.
pub(super) fn before_start(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if config.nnp() && out.filter.is_none() { load(config, out) } else { Ok(()) }
}

/// The creator's side of what the init does that takes two: it loads a filter with a listener, and is
/// reborn. In the order in which the init comes to it.
///
/// The agent is told the pid of the process, and must be called before the process waits for its
/// answer. So where the filter is loaded before the process is reborn, its listener is taken at once,
/// the agent called when the new pid is known, and [`check_agent`] has seen to it that nothing in
/// between needs an answer.
pub(super) fn meet(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let place = |wanted: fn(&Op<Bytes>) -> bool| out.child.iter().position(|step| wanted(&step.op));
    let listener = place(|op| matches!(op, Op::Seccomp { flags, .. } if flags & NEW_LISTENER != 0));
    if listener.is_some() && config.facts.unprivileged && !config.user.is_new() {
        // The init is executed outside, where nobody without privileges has rights over it (K8 in docs/security.md).
        let text = "the listener of a process that joins a user namespace cannot be taken by a \
                    caller who is not root";
        return Err(Error::unsupported(LISTENER, text));
    }
    let rebirth = place(|op| matches!(op, Op::Reborn { .. }));
    // One as the first process of a pid namespace is over long before.
    let rebirth = rebirth.filter(|_| namespaces::is_reborn(config));
    let field = rebirth.and_then(|place| out.child.get(place)).map(|step| step.field.clone());
    let field = field.unwrap_or_else(|| LISTENER.into());
    let call = out.agent.clone().map(HostOp::CallAgent);
    let call = || call.clone().ok_or_else(|| Error::bug("a listener without an agent"));
    let taken = HostOp::Notify(Message::ListenerTaken);
    let of_agent = |op| Step { op, field: LISTENER.into() };
    let of_rebirth = |op| Step { op, field: field.clone() };
    let ops = match (listener, rebirth) {
        (None, None) => vec![],
        (None, Some(_)) => vec![of_rebirth(HostOp::Adopt), of_rebirth(HostOp::Release)],
        (Some(_), None) => [HostOp::TakeListener, call()?, taken].map(of_agent).into(),
        (Some(listener), Some(rebirth)) if listener < rebirth => vec![
            of_agent(HostOp::TakeListener),
            of_agent(taken),
            of_rebirth(HostOp::Adopt),
            of_agent(call()?),
            of_rebirth(HostOp::Release),
        ],
        (Some(_), Some(_)) => vec![
            of_rebirth(HostOp::Adopt),
            of_rebirth(HostOp::Release),
            of_agent(HostOp::TakeListener),
            of_agent(call()?),
            of_agent(taken),
        ],
    };
    out.host.extend(ops);
    Ok(())
}

/// A system call of the init, with its first argument where that is always the same.
type Need = (&'static str, libc::c_long, u64);

/// `CLONE_PARENT | SIGCHLD`.
const CLONE: Need = ("clone", libc::SYS_clone, 0x8011);
const SETSID: Need = ("setsid", libc::SYS_setsid, 0);
const IOCTL: Need = ("ioctl", libc::SYS_ioctl, 0);
const READ: Need = ("read", libc::SYS_read, 0);
const WRITE: Need = ("write", libc::SYS_write, 0);
const CLOSE: Need = ("close", libc::SYS_close, 0);

fn call(&(name, number, first): &Need) -> Result<Call<'static>> {
    let number = u32::try_from(number).map_err(|_| Error::bug("a negative call"))?;
    Ok(Call { name, number, args: [first, 0, 0, 0, 0, 0] })
}

/// The system calls that the init makes for an operation that may follow the filter. The init
/// keeps to it: a call that is not here is not made after [`Op::Seccomp`].
fn calls_of(op: &Op<Bytes>) -> Result<&'static [Need]> {
    const CHDIR: Need = ("chdir", libc::SYS_chdir, 0);
    const EXIT: Need = ("exit_group", libc::SYS_exit_group, 0);
    const KEEP_CAPS: Need = ("prctl", libc::SYS_prctl, 8);
    const DROP_BOUNDING: Need = ("prctl", libc::SYS_prctl, 24);
    const AMBIENT: Need = ("prctl", libc::SYS_prctl, 47);
    Ok(match op {
        Op::Seccomp { flags, .. } if flags & NEW_LISTENER != 0 => &[WRITE, READ, CLOSE],
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
        Op::Reborn { terminal: false } => &[CLONE, WRITE, SETSID, READ],
        Op::Reborn { terminal: true } => &[CLONE, WRITE, SETSID, IOCTL, READ],
        Op::Notify(_) => &[WRITE],
        Op::AwaitStart | Op::Await(_) => &[READ],
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
            CLOSE,
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
    filter.check_allows(&calls(loading(out))?, FIELD)?;
    check_agent(out)
}

/// Refuses a filter that makes the init wait for an agent which is not called yet: see [`meet`].
pub(super) fn check_agent(out: &Columns) -> Result<()> {
    let Some(filter) = out.filter.as_ref().filter(|filter| filter.notifies()) else {
        return Ok(());
    };
    let rebirth = |step: &&Step<Op<Bytes>>| matches!(step.op, Op::Reborn { .. });
    if !loading(out).any(|step| rebirth(&step)) {
        return Ok(());
    }
    let mut calls = calls(loading(out).take_while(|step| !rebirth(step)))?;
    calls.push(call(&CLONE)?);
    match filter.asked_of_agent(&calls)? {
        None => Ok(()),
        Some(call) => {
            let message = format!(
                "the agent would be asked for {name}(2) before there is the process whose pid it is \
                 told",
                name = call.name
            );
            Err(Error::unsupported(FIELD, message)
                .hint("with noNewPrivileges the filter is loaded later"))
        }
    }
}

/// The operations from the one that loads the filter on.
fn loading(out: &Columns) -> impl Iterator<Item = &Step<Op<Bytes>>> {
    out.child.iter().skip_while(|step| !matches!(step.op, Op::Seccomp { .. }))
}

/// The system calls of operations, each once.
fn calls<'a>(steps: impl Iterator<Item = &'a Step<Op<Bytes>>>) -> Result<Vec<Call<'static>>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    for step in steps {
        for need in calls_of(&step.op)? {
            let call = call(need)?;
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
    }
    Ok(calls)
}
