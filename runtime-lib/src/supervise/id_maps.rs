//! Writing the id maps of a new user namespace (user_namespaces(7)).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::hooks::{describe, memory_file, quote};
use crate::compile::{IdMap, IdMaps};
use crate::error::{Error, ErrorKind, Result};

/// Where the set-user-ID programs of the package uidmap are looked for: on the host, never by a
/// caller's or a container's `PATH`.
const DIRECTORIES: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

const GROUPS: &str = "linux.gidMappings";

/// Users or groups.
#[derive(Clone, Copy)]
struct Kind {
    file: &'static str,
    program: &'static str,
    field: &'static str,
}

const USER: Kind = Kind { file: "uid_map", program: "newuidmap", field: "linux.uidMappings" };
const GROUP: Kind = Kind { file: "gid_map", program: "newgidmap", field: GROUPS };

/// Writes both maps.
///
/// A caller without CAP_SETUID and CAP_SETGID may map itself, and nothing else; for more there are
/// newuidmap(1) and newgidmap(1), which give what `/etc/subuid` and `/etc/subgid` grant.
///
/// # Errors
/// The kernel or these programs refuse.
pub(super) fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    match write_file(pid, USER.file, &maps.users.to_string()) {
        Err(error) if is_refusal(&error) => run(USER, pid, &maps.users)?,
        result => result.map_err(|error| failed(USER, &error))?,
    }
    let text = maps.groups.to_string();
    match write_file(pid, GROUP.file, &text) {
        Err(error) if is_refusal(&error) => {}
        result => return result.map_err(|error| failed(GROUP, &error)),
    }
    if is_own_group(&maps.groups) {
        // Without setgroups(2) a process cannot drop a group that keeps it from a file.
        return write_file(pid, "setgroups", "deny")
            .and_then(|()| write_file(pid, GROUP.file, &text))
            .map_err(|error| failed(GROUP, &error));
    }
    run(GROUP, pid, &maps.groups)
}

fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn is_own_group(map: &IdMap) -> bool {
    let own = rustix::process::getegid().as_raw();
    matches!(map.0.as_slice(), [range] if range.count == 1 && range.outside == own)
}

fn write_file(pid: i32, name: &str, text: &str) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/{name}"), text)
}

fn failed(kind: Kind, error: &io::Error) -> Error {
    Error::sys(format!("cannot write the map of the user namespace ({})", kind.file), error)
        .at(kind.field)
}

/// Where a program is; `None` where it is nowhere.
fn find(program: &str) -> Result<Option<PathBuf>> {
    let mut unknown = None;
    for directory in DIRECTORIES {
        let path = PathBuf::from(directory).join(program);
        match path.try_exists() {
            Ok(true) => return Ok(Some(path)),
            Ok(false) => {}
            Err(error) => {
                let error = Error::sys(format!("cannot look for {path:?}"), &error);
                unknown.get_or_insert(error);
            }
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// Has the set-user-ID program write a map.
fn run(kind: Kind, pid: i32, map: &IdMap) -> Result<()> {
    let Kind { program, field, .. } = kind;
    let Some(path) = find(program).map_err(|error| error.at(field))? else {
        let message = format!("more than the caller itself takes {program}, which is not there");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .at(field)
            .hint(format!("looked for in {}", DIRECTORIES.join(", "))));
    };
    let mut command = Command::new(&path);
    command.arg(pid.to_string());
    for range in &map.0 {
        command.args([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    let cannot =
        |error: io::Error| Error::sys(format!("cannot execute {path:?}"), &error).at(field);
    // Not a pipe: Command::output panics where reading fails.
    let said = memory_file().map_err(cannot)?;
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(said.try_clone().map_err(cannot)?);
    let status = command.status().map_err(cannot)?;
    if status.success() {
        return Ok(());
    }
    let said = quote(said).replace('\n', "; ");
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let message = format!("{program}: {}{said}", describe(status));
    Err(Error::new(ErrorKind::System, message).at(field))
}
