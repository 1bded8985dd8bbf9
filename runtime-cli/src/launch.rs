//! What `create` and `run` share: from the options to a builder, and what callers are told afterwards.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use orlop::{Builder, Bundle, Container, Stdio};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::args::Parsed;
use crate::failure::Failure;
use crate::global::{Context, absolute};
use crate::notify;

/// Whether the command stays with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It returns and leaves the container to the caller.
    Detached,
    /// It stays until the container ends.
    Attached,
}

/// A container about to be created.
#[derive(Debug)]
pub(crate) struct Launch {
    /// All that the options say; without standard streams where the command stays.
    pub(crate) builder: Builder,
    /// Whether the program gets a terminal.
    pub(crate) terminal: bool,
    /// The ids on the host of the container's root, for what it has to own.
    pub(crate) root: (u32, u32),
    /// Whom to tell about it.
    pub(crate) report: Report,
}

/// Whom to tell about a container once it is there.
#[derive(Debug)]
pub(crate) struct Report {
    /// Whether the container outlives a failure.
    pub(crate) keep: bool,
    pid_file: Option<PathBuf>,
    pidfd_socket: Option<UnixStream>,
}

impl Launch {
    /// Checks the options and the bundle, and connects the sockets.
    pub(crate) fn prepare(
        context: &Context<'_>,
        parsed: &Parsed,
        manner: Manner,
    ) -> Result<Self, Failure> {
        let id = parsed.operand(0);
        if id.is_empty() {
            return Err(Failure::new("container id cannot be empty"));
        }
        // The pid file is relative to where the caller is, all other paths to the bundle.
        let pid_file =
            given(parsed, "pid-file").map(|path| absolute(Path::new(path))).transpose()?;
        let bundle = enter_bundle(parsed)?;
        let terminal = has_terminal(&bundle);
        let console = given(parsed, "console-socket");
        check_terminal(terminal, manner, console.is_some())?;
        let listen = listen_fds();
        let preserved = preserved_fds(parsed, listen)?;
        let bundle = if listen > 0 { with_listen_fds(bundle, listen)? } else { bundle };
        let root = (host_id(&bundle, Ids::User), host_id(&bundle, Ids::Group));
        let console = console.map(connect).transpose()?;
        let pidfd_socket = given(parsed, "pidfd-socket").map(connect).transpose()?;

        let hooks = bundle.spec().hooks().is_some();
        let mut builder = Container::builder(id, bundle)
            .state_root(&context.root)
            .preserve_fds(preserved)
            .no_pivot(parsed.is_on("no-pivot"))
            .no_new_keyring(parsed.is_on("no-new-keyring"))
            .cgroup_driver(context.cgroup_driver()?)
            .keep_failed(parsed.is_on("keep"))
            .notify_directory(notify::is_wanted());
        if let Some(yes) = context.rootless {
            builder = builder.rootless(yes);
        }
        if hooks {
            builder = builder.hook_environment(environment());
        }
        if let Some(console) = console {
            builder = builder.console_socket(OwnedFd::from(console));
        } else if manner == Manner::Detached {
            builder = builder.stdio(Stdio::Inherit);
        }
        let report = Report { keep: parsed.is_on("keep"), pid_file, pidfd_socket };
        Ok(Self { builder, terminal, root, report })
    }
}

impl Report {
    /// Tells them; a container that nobody hears of is not left running.
    pub(crate) fn deliver(
        self,
        context: &Context<'_>,
        container: &mut Container,
    ) -> Result<(), Failure> {
        for (field, message) in container.warnings() {
            context.log.warning(&format!("{field}: {message}"));
        }
        let keep = self.keep;
        self.tell(container).inspect_err(|_| give_up(context, container, keep))
    }

    fn tell(&self, container: &Container) -> Result<(), Failure> {
        if let (Some(socket), Some(pidfd)) = (&self.pidfd_socket, container.pidfd()) {
            send_descriptor(socket, pidfd, b"standard")?;
        }
        match &self.pid_file {
            Some(path) => write_pid_file(path, container.pid()),
            None => Ok(()),
        }
    }
}

/// Kills a container that cannot be run to its end; what is left of it stays if it is to be kept.
pub(crate) fn give_up(context: &Context<'_>, container: &mut Container, keep: bool) {
    let gone = if keep { container.kill(nix::libc::SIGKILL) } else { container.delete(true) };
    if let Err(error) = gone {
        context.log.error(&error.to_string());
    }
}

/// Makes the bundle of the options the working directory.
pub(crate) fn enter(parsed: &Parsed) -> Result<(), Failure> {
    match given(parsed, "bundle") {
        Some(bundle) => std::env::set_current_dir(bundle)
            .map_err(|error| Failure::io(format!("chdir {}", bundle.display()), &error)),
        None => Ok(()),
    }
}

/// Makes the bundle of the options the working directory, and reads it.
pub(crate) fn enter_bundle(parsed: &Parsed) -> Result<Bundle, Failure> {
    enter(parsed)?;
    if fs::symlink_metadata("config.json").is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Err(Failure::new("JSON specification file config.json not found"));
    }
    let directory = std::env::current_dir().map_err(|error| Failure::io("getwd", &error))?;
    Ok(Bundle::load(directory)?)
}

/// The text of a flag, unless it is empty, which is as good as not given.
pub(crate) fn given<'a>(parsed: &'a Parsed, name: &str) -> Option<&'a OsStr> {
    parsed.value(name).filter(|value| !value.is_empty())
}

fn has_terminal(bundle: &Bundle) -> bool {
    let process = bundle.spec().process().as_ref();
    process.and_then(|process| process.terminal()).unwrap_or(false)
}

pub(crate) fn check_terminal(terminal: bool, manner: Manner, console: bool) -> Result<(), Failure> {
    let detached = manner == Manner::Detached;
    if detached && terminal && !console {
        return Err(Failure::new(
            "process.terminal: cannot allocate tty if runc will detach without setting console socket",
        ));
    }
    if !(detached && terminal) && console {
        return Err(Failure::new(
            "process.terminal: cannot use console socket if runc will not detach or allocate tty",
        ));
    }
    Ok(())
}

/// How many sockets the caller passes on by systemd's protocol (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") == Some(std::process::id()) {
        number("LISTEN_FDS").unwrap_or(0)
    } else {
        0
    }
}

/// Tells the program of those sockets; it is process 1 of its namespace.
fn with_listen_fds(bundle: Bundle, count: u32) -> Result<Bundle, Failure> {
    let directory = bundle.directory().to_owned();
    let mut spec = bundle.spec().clone();
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("LISTEN_FDS={count}"));
        env.push("LISTEN_PID=1".to_owned());
        process.set_env(Some(env));
    }
    Ok(Bundle::from_spec(directory, spec))
}

/// How many descriptors from 3 on are passed on. Those that the caller named must be there.
pub(crate) fn preserved_fds(parsed: &Parsed, listen: u32) -> Result<u32, Failure> {
    let count = parsed.number("preserve-fds").unwrap_or(0);
    let count = u32::try_from(count)
        .map_err(|_| Failure::new(format!("invalid value {count} for flag -preserve-fds")))?;
    for index in 0..count {
        let descriptor = listen.saturating_add(3).saturating_add(index);
        if !is_inherited(descriptor) {
            return Err(Failure::new(format!(
                "unable to stat preserved-fd {index} (of {count}): \
                 stat /proc/self/fd/{descriptor}: no such file or directory"
            )));
        }
    }
    Ok(listen.saturating_add(count))
}

/// Whether the caller left this descriptor open. One of our own (the log's) may have taken the
/// number of one that it did not; ours are closed by execve(2), and those of a caller are not.
fn is_inherited(descriptor: u32) -> bool {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

#[derive(Debug, Clone, Copy)]
enum Ids {
    User,
    Group,
}

/// The id on the host of the container's root.
fn host_id(bundle: &Bundle, ids: Ids) -> u32 {
    let Some(linux) = bundle.spec().linux() else { return 0 };
    let mappings = match ids {
        Ids::User => linux.uid_mappings(),
        Ids::Group => linux.gid_mappings(),
    };
    let mut mappings = mappings.iter().flatten();
    mappings.find(|m| m.container_id() == 0 && m.size() > 0).map_or(0, |m| m.host_id())
}

/// Our whole environment, which hooks on the host's side inherit.
pub(crate) fn environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(key, value)| {
            Some(format!("{}={}", key.into_string().ok()?, value.into_string().ok()?))
        })
        .collect()
}

pub(crate) fn connect(path: &OsStr) -> Result<UnixStream, Failure> {
    let mut connected = UnixStream::connect(path);
    while connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
        connected = UnixStream::connect(path);
    }
    connected.map_err(|error| {
        let what = format!("dial unix {}: connect", path.display());
        match error.raw_os_error() {
            Some(_) => Failure::io(what, &error),
            // What std refuses by itself: a path that is too long.
            None => Failure::system(what, Errno::INVAL),
        }
    })
}

/// Sends one message with one descriptor, and waits for nobody to take it.
pub(crate) fn send_descriptor(
    socket: impl AsFd,
    descriptor: impl AsFd,
    payload: &[u8],
) -> Result<(), Failure> {
    send_with_descriptor(socket, descriptor, payload)
        .map_err(|errno| Failure::system("cannot send the pidfd", errno))
}

/// The same, for others who fail in other words.
pub(crate) fn send_with_descriptor(
    socket: impl AsFd,
    descriptor: impl AsFd,
    payload: &[u8],
) -> Result<(), Errno> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Writes the pid, and nothing else, so that whoever sees the file sees it whole.
///
/// What is there and is no file gets the pid itself: `/dev/null` stays a device.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io(format!("open {}", path.display()), error);
    let digits = pid.to_string();
    let is_left = |kind: fs::FileType| !kind.is_file() && !kind.is_symlink();
    if fs::symlink_metadata(path).is_ok_and(|there| is_left(there.file_type())) {
        let flags = O_NONBLOCK | O_NOFOLLOW;
        let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
        let written = opened.and_then(|mut there| there.write_all(digits.as_bytes()));
        return written.map_err(|error| failed(&error));
    }
    let name =
        path.file_name().ok_or_else(|| failed(&io::Error::from_raw_os_error(nix::libc::EISDIR)))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    let create = || OpenOptions::new().write(true).create_new(true).open(&temporary);
    let created = create().or_else(|error| match error.kind() {
        // Left behind by one that was killed here.
        io::ErrorKind::AlreadyExists => fs::remove_file(&temporary).and_then(|()| create()),
        _ => Err(error),
    });
    let written = created
        .and_then(|mut file| file.write_all(digits.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _: io::Result<()> = fs::remove_file(&temporary);
        failed(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("orlop-cli-{name}-{}", std::process::id()));
        let _: io::Result<()> = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_terminal_and_a_console_socket_need_each_other_when_detached() {
        use Manner::{Attached, Detached};
        for (terminal, manner, console) in
            [(false, Detached, false), (true, Detached, true), (true, Attached, false)]
        {
            assert_eq!(check_terminal(terminal, manner, console), Ok(()));
        }
        let message = check_terminal(true, Detached, false).unwrap_err().message;
        assert!(message.contains("cannot allocate tty if runc will detach"), "{message}");
        for (terminal, manner) in [(false, Detached), (true, Attached), (false, Attached)] {
            let message = check_terminal(terminal, manner, true).unwrap_err().message;
            assert!(message.contains("cannot use console socket"), "{message}");
        }
    }

    #[test]
    fn the_pid_file_holds_digits_only_and_replaces_what_was_there() {
        let directory = directory("pid");
        let path = directory.join("init.pid");
        fs::write(&path, "old content").unwrap();
        fs::write(directory.join(".init.pid"), "stale").unwrap();
        write_pid_file(&path, 4711).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"4711");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_no_file_gets_the_pid_and_stays() {
        let directory = directory("pid-pipe");
        let path = directory.join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let message = write_pid_file(&path, 4711).unwrap_err().message;
        assert!(message.ends_with("no such device or address"), "nobody reads: {message}");
        let mut reader =
            OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&path).unwrap();
        write_pid_file(&path, 4711).unwrap();
        let mut digits = String::new();
        std::io::Read::read_to_string(&mut reader, &mut digits).unwrap();
        assert_eq!(digits, "4711");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_an_error() {
        let message = write_pid_file(Path::new("/nonexistent/x"), 1).unwrap_err().message;
        assert_eq!(message, "open /nonexistent/x: no such file or directory");
    }

    #[test]
    fn sending_a_descriptor_needs_nobody_who_accepts() {
        let directory = directory("socket");
        let path = directory.join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let socket = connect(path.as_os_str()).unwrap();
        send_descriptor(&socket, rustix::stdio::stdin(), b"standard").unwrap();
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let message = connect(OsStr::new("/nonexistent/s")).unwrap_err().message;
        assert_eq!(message, "dial unix /nonexistent/s: connect: no such file or directory");
        let message = connect(OsStr::new(&"x".repeat(200))).unwrap_err().message;
        assert!(message.ends_with("x: connect: invalid argument"), "{message}");
    }

    #[test]
    fn our_own_descriptors_are_not_the_caller_s() {
        use std::os::fd::AsRawFd as _;
        let file = fs::File::open("/dev/null").unwrap();
        assert!(!is_inherited(u32::try_from(file.as_raw_fd()).unwrap()));
        assert!(!is_inherited(987_654));
        assert!(is_inherited(0));
    }
}
