//! `exec`: runs a further process in a container.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use orlop::spec::{Capabilities, Capability, LinuxCapabilities, Process, User};
use orlop::{Bundle, Exec, Status, Stdio};

use super::{container, id};
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::attach;
use crate::failure::{Failure, Outcome};
use crate::global::{Context, absolute};
use crate::launch::{self, Manner};
use crate::log::Log;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "exec",
    about: "run a process in a container",
    operands: "<container-id> <command> [args...] | --process <file> <container-id>",
    count: (1, usize::MAX),
    flags: &[
        Flag::value("process", "file with the process as JSON").short("p"),
        Flag::value("console-socket", "AF_UNIX socket that takes the master of the terminal"),
        Flag::value("pidfd-socket", "AF_UNIX socket that takes a pidfd of the process"),
        Flag::value("pid-file", "file to write the pid to"),
        Flag::switch("detach", "return once the program runs").short("d"),
        Flag::switch("tty", "give the process a terminal").short("t"),
        Flag::value("cwd", "its working directory"),
        Flag::list("env", "a variable of its environment, NAME=VALUE").short("e"),
        Flag::value("user", "its user: UID[:GID]").short("u"),
        Flag::list("additional-gids", "a further group of it").short("g"),
        Flag::value("process-label", "its SELinux label"),
        Flag::value("apparmor", "its AppArmor profile"),
        Flag::switch("no-new-privs", "set no_new_privs"),
        Flag::list("cap", "a capability to add").short("c"),
        Flag::number("preserve-fds", "how many descriptors after 0, 1, 2 to pass on (default: 0)"),
        Flag::list("cgroup", "a cgroup below the container's to run in"),
        Flag::switch("ignore-paused", "run in a paused container too"),
        Flag::switch("no-subreaper", ""),
    ],
    options: Options::First,
};

/// The exit code of every failure of the runtime: one that a program in the container seldom has.
const FAILED: u8 = 255;

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    exec(context, parsed)
        .map_err(|failure| Failure { code: FAILED, ..failure.prefixed("exec failed: ") })
}

fn exec(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let id = id(parsed)?;
    // Whoever watches the container's processes shall not look into this one.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| Failure::io("cannot become undumpable", &errno.into()))?;
    let container = container(context, parsed)?;
    let process = match launch::given(parsed, "process") {
        Some(file) => read_process(Path::new(file)),
        None => from_arguments(container.bundle(), parsed, &id, context.log),
    };
    let terminal = process.as_ref().is_ok_and(|process| process.terminal().unwrap_or(false));
    // In a container that has ended nothing runs, whatever is to be run, and whatever else is wrong.
    if (terminal || process.is_err()) && container.status()? == Status::Stopped {
        return Err(Failure::new("cannot exec in a stopped container"));
    }
    let process = process?;
    let detached = parsed.is_on("detach");
    let manner = if detached { Manner::Detached } else { Manner::Attached };
    let console = launch::given(parsed, "console-socket");
    launch::check_terminal(terminal, manner, console.is_some())?;
    let pid_file = launch::given(parsed, "pid-file");
    let pid_file = pid_file.map(|path| absolute(Path::new(path))).transpose()?;
    let pidfd_socket = launch::given(parsed, "pidfd-socket").map(launch::connect).transpose()?;
    let mut builder = container
        .exec(process)
        .preserve_fds(launch::preserved_fds(parsed, 0)?)
        .ignore_paused(parsed.is_on("ignore-paused"));
    if let Some(path) = parsed.values("cgroup").last() {
        builder = builder.sub_cgroup(sub_cgroup(path)?);
    }
    if let Some(path) = console {
        builder = builder.console_socket(OwnedFd::from(launch::connect(path)?));
    }
    let tell = |exec: &Exec| {
        if let Some(socket) = &pidfd_socket {
            launch::send_descriptor(socket, exec.pidfd(), b"setns")?;
        }
        match &pid_file {
            Some(path) => launch::write_pid_file(path, exec.pid()),
            None => Ok(()),
        }
    };
    if !detached {
        return attach::exec(builder, terminal, tell);
    }
    let mut exec = builder.stdio(Stdio::Inherit).spawn().map_err(|error| Failure::exec(&error))?;
    if let Err(failure) = tell(&exec) {
        attach::give_up_exec(&mut exec);
        return Err(failure);
    }
    Ok(0)
}

/// cgroup v2 has one hierarchy: a path, without controllers before it.
fn sub_cgroup(text: &str) -> Result<&str, Failure> {
    match text.split_once(':') {
        Some((controllers, _)) if !controllers.contains('/') => Err(Failure::new(format!(
            "bad sub cgroup path: {text:?} names controllers, and cgroup v2 has one hierarchy"
        ))),
        _ => Ok(text),
    }
}

fn read_process(path: &Path) -> Result<Process, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error: io::Error| Failure::io(format!("open {}", path.display()), &error))?;
    Ok(orlop::spec::parse_process(&bytes)?)
}

/// The container's own process with another program, and what the options change of it.
fn from_arguments(bundle: &Path, parsed: &Parsed, id: &str, log: &Log) -> Result<Process, Failure> {
    let args = parsed.operands.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    if args.is_empty() {
        return Err(Failure::new(format!("exec args cannot be empty (container {id})")));
    }
    let bundle = Bundle::load(bundle)?;
    let process = bundle.spec().process().clone();
    let mut process = process.ok_or_else(|| Failure::new("process property must not be empty"))?;
    process.set_args(Some(args)).set_terminal(Some(parsed.is_on("tty")));
    if let Some(directory) = launch::given(parsed, "cwd") {
        process.set_cwd(directory.into());
    }
    let env = parsed.values("env");
    if !env.is_empty() {
        let own = process.env().clone().unwrap_or_default();
        process.set_env(Some(own.into_iter().chain(env).collect()));
    }
    set_user(&mut process, parsed)?;
    for (flag, set) in [
        ("process-label", Process::set_selinux_label as Setter),
        ("apparmor", Process::set_apparmor_profile),
    ] {
        if let Some(text) = launch::given(parsed, flag) {
            set(&mut process, Some(text.to_string_lossy().into_owned()));
        }
    }
    if let Some(on) = parsed.switch("no-new-privs") {
        process.set_no_new_privileges(Some(on));
    }
    add_capabilities(&mut process, &parsed.values("cap"), log);
    Ok(process)
}

type Setter = fn(&mut Process, Option<String>) -> &mut Process;

fn set_user(process: &mut Process, parsed: &Parsed) -> Result<(), Failure> {
    let number = |text: &str| {
        // Digits only: neither "+0" nor " 0" is an id.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = if digits { text.parse::<u32>().ok() } else { None };
        id.filter(|id| *id != u32::MAX)
            .ok_or_else(|| Failure::new(format!("{text:?} is not a numeric user or group id")))
    };
    let mut user: User = process.user().clone();
    if let Some(text) = launch::given(parsed, "user").map(OsStr::to_string_lossy) {
        match text.split_once(':') {
            Some((uid, gid)) => {
                user.set_uid(number(uid)?).set_gid(number(gid)?);
            }
            None => {
                user.set_uid(number(&text)?);
            }
        }
    }
    let groups = parsed.values("additional-gids");
    if !groups.is_empty() {
        let mut all = user.additional_gids().clone().unwrap_or_default();
        for group in groups {
            all.push(number(&group)?);
        }
        user.set_additional_gids(Some(all));
    }
    process.set_user(user);
    Ok(())
}

/// Adds to the bounding, effective and permitted sets; to the ambient set only what is inheritable,
/// as the kernel has it, and never to the inheritable set (CVE-2022-29162).
fn add_capabilities(process: &mut Process, names: &[String], log: &Log) {
    if names.is_empty() {
        return;
    }
    let mut sets: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let Ok(capability) = short.parse::<Capability>() else {
            log.warning(&format!("--cap: {name:?} is unknown, and left out"));
            continue;
        };
        let add = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective) = (add(sets.bounding()), add(sets.effective()));
        let permitted = add(sets.permitted());
        let inheritable = sets.inheritable().as_ref();
        let ambient = inheritable
            .is_some_and(|set| set.contains(&capability))
            .then(|| add(sets.ambient()))
            .flatten();
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        if ambient.is_some() {
            sets.set_ambient(ambient);
        }
    }
    process.set_capabilities(Some(sets));
}
