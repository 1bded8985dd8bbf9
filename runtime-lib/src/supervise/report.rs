//! From what the init left in the shared page to an error that names the field.
//!
//! The page comes from a process that handles the content of an image: every value in it is checked
//! or quoted, none is trusted.

use std::fs::File;
use std::os::unix::fs::FileExt;

use orlop_init::plan::{EXIT_NO_PLAN, Op, Special, Step as Doing, progress};
use serde::{Deserialize, Serialize};

use crate::container::ExitStatus;
use crate::error::{Error, ErrorKind, Field, Result};
use crate::plan::{Bytes, Plan};

/// The largest errno on Linux (EHWPOISON).
const MAX_ERRNO: i32 = 133;

/// The page, read once.
struct Page([u8; progress::SIZE]);

impl Page {
    fn read(file: &File) -> Result<Self> {
        let mut page = [0; progress::SIZE];
        file.read_exact_at(&mut page, 0)
            .map_err(|error| Error::sys("cannot read the init's progress", &error))?;
        Ok(Self(page))
    }

    fn word(&self, offset: usize) -> u32 {
        let bytes = self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn detail(&self) -> String {
        let length = usize::try_from(self.word(progress::DETAIL_LENGTH)).unwrap_or(0);
        let all = self.0.get(progress::DETAIL..).unwrap_or_default();
        let text = String::from_utf8_lossy(all.get(..length).unwrap_or(all));
        // It may quote an image's file: no control characters on the operator's terminal.
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
    }
}

/// Whether the init got as far as execve(2), without an error from it.
///
/// # Errors
/// The page cannot be read.
pub(crate) fn executed(file: &File) -> Result<bool> {
    Ok(Page::read(file)?.word(progress::STATE) == progress::EXECUTING)
}

/// What is left for `start` once a container is created, kept with its state: enough to name what
/// failed without the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Late {
    /// Index of the first such operation.
    first: u32,
    /// What each is, and its field.
    operations: Vec<(String, String)>,
}

impl Late {
    /// Those of a plan: all after the wait for `start`.
    pub(crate) fn of(plan: &Plan) -> Self {
        let first = plan.child.iter().position(|step| step.op == Op::AwaitStart).unwrap_or(0);
        let operations = plan.child.iter().skip(first);
        let operations = operations.map(|step| (what(&step.op), step.field.to_string())).collect();
        Self { first: u32::try_from(first).unwrap_or(0), operations }
    }
}

/// The error of an init that was released and did not get through execve(2).
pub(crate) fn exec_failure(late: &Late, file: &File) -> Error {
    let page = match Page::read(file) {
        Ok(page) => page,
        Err(error) => return error,
    };
    let place = page.word(progress::INDEX).checked_sub(late.first);
    let place = place.and_then(|place| usize::try_from(place).ok());
    let Some((what, field)) = place.and_then(|place| late.operations.get(place)) else {
        return Error::new(ErrorKind::Init, "the init ended before the program was executed");
    };
    describe(&page, what.clone(), Field::from(field.clone()), None)
}

/// The error of an init that failed before it was ready.
pub(crate) fn failure(plan: &Plan, file: &File, ended: Option<ExitStatus>) -> Error {
    let page = match Page::read(file) {
        Ok(page) => page,
        Err(error) => return error,
    };
    let index = usize::try_from(page.word(progress::INDEX)).unwrap_or(usize::MAX);
    let Some(step) = plan.child.get(index) else {
        return Error::bug("the init reported an operation that is not in its plan");
    };
    let field = if refuses_label(&step.op, &page) {
        Field::from("linux.mountLabel".to_owned())
    } else {
        step.field.clone()
    };
    describe(&page, what(&step.op), field, ended)
}

/// Whether an option was refused that is not the mount's own.
fn refuses_label(op: &Op<Bytes>, page: &Page) -> bool {
    let labelled = matches!(op, Op::Filesystem(new) if new.special.has(Special::LABELLED));
    labelled
        && page.word(progress::STATE) == progress::FAILED
        && Doing::from_number(page.word(progress::STEP)) == Some(Doing::SetOption)
        && page.detail().starts_with("context=")
}

/// A signal's name, and what it says about who sent it.
pub(super) fn signal_text(signal: i32) -> String {
    let name = nix::sys::signal::Signal::try_from(signal);
    let name = name.map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
    if signal == libc::SIGSYS {
        return format!("{name}: a seccomp filter forbids a system call that it makes");
    }
    name
}

fn describe(page: &Page, what: String, field: Field, ended: Option<ExitStatus>) -> Error {
    if page.word(progress::STATE) != progress::FAILED {
        let message = match ended {
            Some(ExitStatus::Signaled(signal)) => {
                format!("{what}: the init was killed by {}", signal_text(signal))
            }
            Some(ExitStatus::Exited(EXIT_NO_PLAN)) => {
                let message = "the init does not understand its plan: it is of another version";
                return Error::new(ErrorKind::Init, message);
            }
            // It got nowhere: the plan's first operation has no part in it.
            Some(ExitStatus::Exited(errno @ 1..=MAX_ERRNO)) => {
                return Error::new(ErrorKind::Init, "the init cannot begin").errno(errno);
            }
            Some(ExitStatus::Exited(code)) => format!("{what}: the init exited with {code}"),
            None => format!("{what}: the init ended"),
        };
        return Error::new(ErrorKind::Init, message).at(field);
    }
    let Some(doing) = Doing::from_number(page.word(progress::STEP)) else {
        return Error::bug("the init reported a step that does not exist").at(field);
    };
    let what = hook_name(&field).unwrap_or(what);
    let errno = page.word(progress::ERRNO).cast_signed();
    let field = part_of_mount(field, doing, errno);
    let detail = page.detail();
    match doing {
        Doing::NotInPath => {
            let message = format!("{what}: executable file not found in $PATH");
            Error::new(ErrorKind::Exec, message).at(field)
        }
        Doing::Stat => {
            let name = what.strip_prefix("exec: ").unwrap_or(&what).trim_matches('"');
            Error::new(ErrorKind::Exec, format!("{what}: stat {name}")).at(field).errno(errno)
        }
        Doing::IsDirectory | Doing::NotExecutable | Doing::Execve => {
            Error::new(ErrorKind::Exec, what).at(field).errno(errno)
        }
        Doing::HookStatus => hook(format!("{what}: exit status {errno}, {detail}"), field),
        Doing::HookSignal => {
            hook(format!("{what}: signal: {}, {detail}", signal_text(errno)), field)
        }
        Doing::HookTimeout => {
            hook(format!("{what}: hook ran past specified timeout of {errno}.0s, {detail}"), field)
        }
        _ => {
            let mut message = what;
            for part in [text(doing, errno), &detail].into_iter().filter(|part| !part.is_empty()) {
                message.push_str(": ");
                message.push_str(part);
            }
            let error = Error::new(ErrorKind::Init, message).at(field);
            if errno == 0 { error } else { error.errno(errno) }
        }
    }
}

/// The part of a mount that a step is about, where it is about one: `mounts[3].source`.
fn part_of_mount(field: Field, doing: Doing, errno: i32) -> Field {
    let part = match doing {
        Doing::OpenSource => "source",
        Doing::OpenTarget | Doing::CreateTarget => "destination",
        Doing::Attach if errno == libc::ENOTDIR => "destination",
        Doing::OpenFilesystem => "type",
        Doing::SetOption => "options",
        _ => return field,
    };
    let whole = field.strip_prefix("mounts[").and_then(|rest| rest.strip_suffix(']'));
    match whole {
        Some(index) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
            Field::from(format!("{field}.{part}"))
        }
        _ => field,
    }
}

/// `hooks.createContainer[0]` in the words of callers: `error running createContainer hook #0`.
fn hook_name(field: &str) -> Option<String> {
    let (stage, index) = field.strip_prefix("hooks.")?.strip_suffix(']')?.split_once('[')?;
    Some(format!("error running {stage} hook #{index}"))
}

fn hook(message: String, field: Field) -> Error {
    Error::new(ErrorKind::Hook, message).at(field)
}

/// What a step is, in words that follow the operation's.
fn text(doing: Doing, errno: i32) -> &'static str {
    match doing {
        Doing::Attach if errno == libc::ENOTDIR => {
            "a directory cannot be mounted onto a file, nor a file onto a directory"
        }
        Doing::Decode => "the init does not understand the plan",
        Doing::OpenSource => "cannot open the source",
        Doing::AskForSource => "cannot have the runtime open the source",
        Doing::SetGroup if errno == libc::EINVAL => "the group is not mapped in the namespace",
        Doing::SetGroup => "cannot set the group",
        Doing::ReadMaps => "cannot read its id maps",
        Doing::OtherMaps => "it has other id maps than config.json",
        Doing::OpenTarget if errno == libc::ELOOP => {
            "the destination must be mounted on ordinary directory or file: a link is in the way"
        }
        Doing::OpenTarget => "cannot look up the destination",
        Doing::CreateTarget => "cannot create the mountpoint",
        Doing::OpenFilesystem => "the kernel does not offer this filesystem here",
        Doing::SetOption => "option refused",
        Doing::CreateFilesystem => "the filesystem refused",
        Doing::CreateMount => "cannot create the mount",
        Doing::SetAttributes => "cannot set the mount's attributes",
        Doing::SetPropagation => "cannot set the propagation",
        Doing::Attach => "cannot attach the mount",
        Doing::CopyUp => "tmpcopyup: cannot copy the content below the mountpoint",
        Doing::OpenProcfs => "cannot mount a private procfs",
        Doing::HostProcfs => "cannot use the host's /proc",
        Doing::Open => "cannot open",
        Doing::Write => "cannot write",
        Doing::WrongObject => "what is there is not what it must be",
        Doing::Chown => "cannot change the owner",
        Doing::Chmod => "cannot change the mode",
        Doing::Spawn => "cannot run it",
        Doing::ExecHook => "cannot execute it",
        Doing::OpenPty => "cannot open a pty of the container's /dev/pts",
        Doing::SetPty => "cannot set the pty up",
        Doing::SendPty => "cannot send the pty to the console socket",
        Doing::MapIds if errno == libc::EINVAL || errno == libc::EOPNOTSUPP => {
            "cannot map ids: the filesystem, or one below it, cannot, or has mapped them already"
        }
        Doing::MapIds => "cannot map ids",
        Doing::MountConsole => "cannot mount /dev/console",
        Doing::CwdOutside => {
            "current working directory is outside of container mount namespace root -- possible \
             container breakout detected"
        }
        Doing::Clone => "cannot create the process in the pid namespace",
        Doing::Listener => "cannot hand over its listener",
        Doing::CreatorGone => "the runtime is gone",
        Doing::TooLong => "a path is too long",
        _ => "",
    }
}

/// What an operation does to what, as the beginning of an error.
fn what(op: &Op<Bytes>) -> String {
    let quoted = |bytes: &Bytes| format!("{:?}", bytes.to_text());
    match op {
        Op::JoinNamespace { .. } => "cannot join the namespace".to_owned(),
        Op::Unshare { .. } => "cannot create the namespace".to_owned(),
        Op::OpenProcfs => "cannot apply it".to_owned(),
        Op::Attribute { name, .. } => applying(&name.to_text()),
        Op::TimeNamespace { offsets } if offsets.0.is_empty() => {
            "cannot create the time namespace".to_owned()
        }
        Op::TimeNamespace { .. } => "cannot create a time namespace with these offsets".to_owned(),
        Op::Affinity { cpus, .. } => {
            let cpus = crate::compile::number_list_text(&cpus.0);
            format!("cannot run on the processors {cpus:?}")
        }
        Op::Scheduler(new) => {
            format!("cannot set the scheduler {}", crate::compile::scheduling_text(new))
        }
        Op::IoPriority { class, level } => {
            format!("cannot set the I/O priority (class {class}, level {level})")
        }
        Op::MemoryPolicy { mode, nodes } => {
            let policy = crate::compile::memory_policy_text(*mode, &nodes.0);
            format!("cannot set the memory policy {policy}")
        }
        Op::SessionKeyring { name, .. } => {
            format!("cannot join the session keyring {}", quoted(name))
        }
        Op::LoopbackUp => "cannot bring the loopback interface up".to_owned(),
        Op::CheckIdMaps { .. } => "cannot join the user namespace".to_owned(),
        Op::NamespaceUser { .. } => "cannot become a user of the user namespace".to_owned(),
        Op::HostPropagation { .. } => "cannot set the propagation of the host's mounts".to_owned(),
        Op::OpenRoot { path, .. } | Op::OpenRootInPlace { path } => {
            format!("invalid rootfs: {}", quoted(path))
        }
        Op::UseRoot | Op::Chroot { .. } => "cannot enter the container's root".to_owned(),
        Op::Bind(bind) => mounting(&bind.source, &bind.target),
        Op::Filesystem(filesystem) if filesystem.source.to_text().is_empty() => {
            mounting(&filesystem.fstype, &filesystem.target)
        }
        Op::Filesystem(filesystem) => mounting(&filesystem.source, &filesystem.target),
        Op::Relabel { target, .. } => format!("cannot set the SELinux label of {}", quoted(target)),
        Op::Remount { target, .. } => format!("error remounting {}", quoted(target)),
        Op::Sysctl { path, .. } => format!("cannot set the sysctl {}", quoted(path)),
        Op::Device(device) => format!("cannot create the device {}", quoted(&device.path)),
        Op::Symlink { path, .. } => format!("cannot create the link {}", quoted(path)),
        Op::RunHook(hook) => format!("error running hook {}", quoted(&hook.path)),
        Op::MaskPath { path } => format!("cannot mask {}", quoted(path)),
        Op::ReadonlyPath { path } => format!("cannot make {} read-only", quoted(path)),
        Op::HideMount { path } => format!("cannot hide the host's {}", quoted(path)),
        Op::PivotRoot | Op::MoveRoot | Op::EnterRoot => {
            "cannot make the root filesystem the root".to_owned()
        }
        Op::RootPropagation { .. } => "cannot set the propagation of the root mount".to_owned(),
        Op::CreateCwd { path } => format!("cannot create the working directory {}", quoted(path)),
        Op::Terminal(_) => "cannot set the terminal up".to_owned(),
        Op::ReopenNull { .. } => "cannot open the container's /dev/null".to_owned(),
        Op::SealMounts => "cannot make a tmpfs read-only".to_owned(),
        Op::SealRoot => "cannot make the root filesystem read-only".to_owned(),
        Op::Hostname { name } => format!("cannot set the hostname {}", quoted(name)),
        Op::Domainname { name } => format!("cannot set the domainname {}", quoted(name)),
        Op::Personality { persona } => format!("cannot set the personality {persona:#x}"),
        Op::Rlimit { resource, soft, hard } => {
            let name = crate::compile::rlimit_name(*resource);
            format!("cannot set {name} to {soft} (hard {hard}; raising it takes CAP_SYS_RESOURCE)")
        }
        Op::Umask { .. } => "cannot set the umask".to_owned(),
        Op::NoNewPrivileges => "cannot set no_new_privs".to_owned(),
        Op::Seccomp { .. } => "cannot load the seccomp filter".to_owned(),
        Op::Chdir { path } | Op::ChdirAgain { path } => {
            format!("chdir to cwd ({}) set in config.json failed", quoted(path))
        }
        Op::CloseDescriptors => "cannot close descriptors".to_owned(),
        Op::FindHome { .. } => "cannot find the user's home".to_owned(),
        Op::BoundingSet { .. } => "cannot drop capabilities from the bounding set".to_owned(),
        Op::Groups { .. } => "cannot set the supplementary groups".to_owned(),
        Op::User { uid, gid } => format!("cannot become user {uid}, group {gid}"),
        Op::Capabilities(_) => "cannot set the capabilities".to_owned(),
        Op::FindProgram { name, .. } => format!("exec: {}", quoted(name)),
        Op::Reborn { .. } => "cannot enter the pid namespace".to_owned(),
        Op::Notify(_) | Op::Await(_) | Op::AwaitStart => "waiting for the runtime".to_owned(),
        Op::Exec { args, .. } => {
            let name = args.to_text();
            format!("exec: {:?}", name.split('\0').next().unwrap_or_default())
        }
    }
}

/// Podman looks for the backquoted path.
fn applying(attribute: &str) -> String {
    let what = match attribute {
        "apparmor/exec" => "apparmor failed to apply profile",
        "keycreate" => "cannot set the SELinux label of keys",
        _ => "cannot set the SELinux label of the process",
    };
    format!("{what}: `/proc/thread-self/attr/{attribute}`")
}

fn mounting(source: &Bytes, target: &Bytes) -> String {
    format!("error mounting {:?} to rootfs at {:?}", source.to_text(), target.to_text())
}
