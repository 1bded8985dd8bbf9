//! Hooks that run in the runtime's namespaces (runtime-spec, config.md, POSIX-platform Hooks).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::HookPlan;

/// As much of each of a hook's outputs as an error quotes, in bytes.
const QUOTED: u64 = 4096;

/// The state that a hook reads from its standard input (runtime-spec, runtime.md, State).
#[derive(Debug)]
pub(crate) struct HookState<'a> {
    pub(crate) id: &'a str,
    pub(crate) status: &'static str,
    /// 0 where there is no process: left out.
    pub(crate) pid: i32,
    pub(crate) bundle: &'a Path,
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

/// The keys are in the order of the specification, in which others write them, too.
impl Serialize for HookState<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut state = serializer.serialize_map(None)?;
        state.serialize_entry("ociVersion", crate::compile::OCI_VERSION)?;
        state.serialize_entry("id", self.id)?;
        state.serialize_entry("status", self.status)?;
        if self.pid != 0 {
            state.serialize_entry("pid", &self.pid)?;
        }
        state.serialize_entry("bundle", &self.bundle.to_string_lossy())?;
        if !self.annotations.is_empty() {
            state.serialize_entry("annotations", self.annotations)?;
        }
        state.end()
    }
}

/// Runs a hook to its end.
///
/// # Errors
/// It cannot be executed, exits with another status than 0 or runs past its timeout (it is killed
/// then); with what it wrote.
pub(crate) fn run_hook(
    hook: &HookPlan,
    state: &HookState<'_>,
    directory: Option<&Path>,
    environment: &[String],
) -> Result<()> {
    let field = format!("hooks.{}[{}]", hook.stage, hook.index);
    let what = format!("error running {} hook #{}", hook.stage, hook.index);
    // Files rather than pipes: neither side can block the other, nor a grandchild hold them.
    let io_error =
        |error: std::io::Error| Error::sys(format!("{what}: cannot create a file"), &error);
    let mut input = memory_file().map_err(io_error)?;
    let text = serde_json::to_vec(state).map_err(|error| io_error(error.into()))?;
    input.write_all(&text).map_err(io_error)?;
    input.rewind().map_err(io_error)?;
    let (output, errors) = (memory_file().map_err(io_error)?, memory_file().map_err(io_error)?);

    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let variables = hook.env.as_deref().unwrap_or(environment);
    command.env_clear().envs(variables.iter().filter_map(|variable| variable.split_once('=')));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.stdin(input);
    command.stdout(output.try_clone().map_err(io_error)?);
    command.stderr(errors.try_clone().map_err(io_error)?);
    let failed = |message: String| Error::new(ErrorKind::Hook, message).at(field.clone());
    let mut child = spawn_unmasked(&mut command)
        .map_err(|error| failed(format!("{what}: cannot execute {:?}", hook.path)).errno(&error))?;
    drop(command);

    if let Some(seconds) = hook.timeout {
        let ended = ends_within(child.id(), Duration::from_secs(seconds));
        if ended != Ok(true) {
            let _dead_already = child.kill();
            let _status = child.wait(); // it was killed: there is nothing to learn from it
            return Err(match ended {
                Err(errno) => failed(format!("{what}: cannot wait for it")).errno(errno),
                _ => failed(format!("{what}: hook ran past specified timeout of {seconds}.0s")),
            });
        }
    }
    let status = child
        .wait()
        .map_err(|error| failed(format!("{what}: cannot wait for it")).errno(&error))?;
    if status.success() {
        return Ok(());
    }
    let (output, errors) = (quote(output), quote(errors));
    Err(failed(format!("{what}: {}, stdout: {output}, stderr: {errors}", describe(status))))
}

/// Spawns from a thread of its own that blocks no signal: the hook inherits the mask of the thread
/// that spawns it, and the caller's is the caller's.
fn spawn_unmasked(command: &mut Command) -> std::io::Result<Child> {
    let spawn = || {
        SigSet::empty().thread_set_mask()?;
        command.spawn()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, spawn)?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the spawning thread panicked")))
    })
}

/// A file of no name for what a program writes.
pub(super) fn memory_file() -> std::io::Result<File> {
    let file: OwnedFd = rustix::fs::memfd_create(c"orlop-hook", MemfdFlags::CLOEXEC)?;
    Ok(File::from(file))
}

/// Whether a process ends in that time.
fn ends_within(pid: u32, timeout: Duration) -> Result<bool, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    crate::host::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(timeout))
}

/// How a program has ended.
pub(super) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", super::report::signal_text(signal)),
        (None, None) => status.to_string(),
    }
}

/// What has been written to it, as far as an error quotes it.
pub(super) fn quote(mut file: File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(QUOTED).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// A timeout as poll takes it.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    }
}
