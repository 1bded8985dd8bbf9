//! What stands before the command: the global options, and what follows from them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use orlop::CgroupDriver;

use crate::args::{Flag, Grammar, Options, Parsed, boolean};
use crate::failure::Failure;
use crate::log::{Format, Log};

/// Where state is kept unless something else is said. Not runc's directory: neither program
/// could read what the other keeps there.
const DEFAULT_ROOT: &str = "/run/orlop";

/// The global options.
pub(crate) const GRAMMAR: Grammar = Grammar {
    name: "",
    about: "Open Container Initiative runtime",
    operands: "command [command options] [arguments...]",
    count: (0, usize::MAX),
    flags: &[
        Flag::value("root", "root directory of the containers' state (default: \"/run/orlop\")"),
        Flag::value("log", "file for the log (default: standard error)"),
        Flag::value("log-format", "format of the log: \"text\" or \"json\" (default: \"text\")"),
        Flag::switch("debug", "log what is done, too"),
        Flag::switch(
            "systemd-cgroup",
            "let systemd manage the cgroups; linux.cgroupsPath is slice:prefix:name",
        ),
        Flag::value(
            "rootless",
            "tolerate missing rights over cgroups, and use the user's systemd: \"true\", \"false\", \"auto\"",
        ),
        Flag::value("criu", ""),
        Flag::switch("version", "print the version").short("v"),
    ],
    options: Options::First,
};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The name the program goes by.
    pub(crate) program: &'static str,
    /// Absolute path of the state directory.
    pub(crate) root: PathBuf,
    /// Whether the caller chose it.
    pub(crate) root_given: bool,
    /// Whether systemd is to manage the cgroups.
    pub(crate) systemd_cgroup: bool,
    /// What `--rootless` says, if it does not leave it to us.
    pub(crate) rootless: Option<bool>,
    /// The log.
    pub(crate) log: &'a Log,
}

impl<'a> Context<'a> {
    /// What the global options say.
    pub(crate) fn new(
        program: &'static str,
        global: &Parsed,
        log: &'a Log,
    ) -> Result<Self, Failure> {
        let rootless = rootless(global.value("rootless"))?;
        let root = match global.value("root") {
            Some(root) => given_root(root)?,
            None => default_root()?,
        };
        if global.value("criu").is_some() {
            log.warning("--criu has no effect");
        }
        Ok(Self {
            program,
            root,
            root_given: global.value("root").is_some(),
            systemd_cgroup: global.is_on("systemd-cgroup"),
            rootless,
            log,
        })
    }

    /// Who makes the cgroup of a new container.
    pub(crate) fn cgroup_driver(&self) -> Result<CgroupDriver, Failure> {
        if !self.systemd_cgroup {
            return Ok(CgroupDriver::Cgroupfs);
        }
        let is_root = rustix::process::geteuid().is_root();
        let in_user_namespace = is_root && root_of_a_user_namespace();
        match (self.rootless.unwrap_or(!is_root || in_user_namespace), user_bus()) {
            (false, _) => Ok(CgroupDriver::Systemd),
            (true, Some(driver)) => Ok(driver),
            // Root of a system container, with a systemd of its own.
            (true, None) if in_user_namespace => Ok(CgroupDriver::Systemd),
            (true, None) => Err(Failure::new(
                "could not detect DBUS_SESSION_BUS_ADDRESS from the environment; make sure you \
                 have installed the dbus-user-session or dbus-daemon package; note you may need \
                 to re-login",
            )),
        }
    }
}

/// The name to answer with: callers that execute a file named `runc` look for that name.
pub(crate) fn program_name(argv0: &str) -> &'static str {
    if Path::new(argv0).file_name() == Some(OsStr::new("runc")) { "runc" } else { "orlop" }
}

/// Opens the log, before anything else can fail.
pub(crate) fn open_log(global: &Parsed) -> Result<Log, Failure> {
    let path = global.value("log");
    let mut log = Log::open(path, global.is_on("debug"))
        .map_err(|error| Failure::io(format!("open {}", shown(path)), &error))?;
    match global.value("log-format").map(|format| (format.to_str(), format)) {
        None | Some((Some("" | "text"), _)) => Ok(log),
        Some((Some("json"), _)) => {
            log.set_format(Format::Json);
            Ok(log)
        }
        Some((_, other)) => {
            Err(Failure::new(format!("invalid log-format: {}", other.to_string_lossy())))
        }
    }
}

fn shown(path: Option<&OsStr>) -> String {
    path.unwrap_or_default().to_string_lossy().into_owned()
}

/// `None` leaves it to us.
fn rootless(value: Option<&OsStr>) -> Result<Option<bool>, Failure> {
    let Some(value) = value.filter(|value| !value.is_empty() && *value != "auto") else {
        return Ok(None);
    };
    let wrong = || Failure::new(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
    boolean(value).map(Some).ok_or_else(wrong)
}

/// The systemd of the user behind the bus of this session.
fn user_bus() -> Option<CgroupDriver> {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    if let Some(bus) = variable("DBUS_SESSION_BUS_ADDRESS") {
        return Some(CgroupDriver::SystemdUser { bus });
    }
    let socket = Path::new(&variable("XDG_RUNTIME_DIR")?).join("bus");
    let socket = socket.to_str().filter(|_| socket.exists())?;
    Some(CgroupDriver::systemd_user_at(socket))
}

fn given_root(root: &OsStr) -> Result<PathBuf, Failure> {
    let root = absolute(Path::new(root))?;
    // Also `.` in `/`, `../../..` and the like, and a link to `/`.
    if root == Path::new("/") || fs::canonicalize(&root).is_ok_and(|real| real == Path::new("/")) {
        return Err(Failure::new("Option --root argument should not be set to /"));
    }
    Ok(root)
}

fn default_root() -> Result<PathBuf, Failure> {
    let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        return Ok(PathBuf::from(DEFAULT_ROOT));
    };
    if rustix::process::geteuid().is_root() && !root_of_a_user_namespace() {
        return Ok(PathBuf::from(DEFAULT_ROOT));
    }
    let root = absolute(&Path::new(&runtime).join("orlop"))?;
    let prepare = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        // The sticky bit keeps it from being cleaned up (XDG Base Directory Specification).
        fs::set_permissions(&root, fs::Permissions::from_mode(0o1700))
    };
    prepare().map_err(|error| {
        Failure::io(format!("the path in $XDG_RUNTIME_DIR must be writable: {root:?}"), &error)
    })?;
    Ok(root)
}

/// Whether the caller is root only in a user namespace, and not because root entered it.
fn root_of_a_user_namespace() -> bool {
    if std::env::var_os("USER").is_some_and(|user| user == "root") {
        return false;
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().ne(["0", "0", "4294967295"])
}

/// An absolute path without `.` and `..`, by its text alone.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path = match path.is_absolute() {
        true => path.to_owned(),
        false => std::env::current_dir().map_err(|error| Failure::io("getwd", &error))?.join(path),
    };
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_clean() {
        assert_eq!(absolute(Path::new("/a/./b/../c/")).unwrap(), Path::new("/a/c"));
        assert_eq!(absolute(Path::new("/../..")).unwrap(), Path::new("/"));
        assert_eq!(absolute(Path::new("x")).unwrap(), std::env::current_dir().unwrap().join("x"));
    }

    #[test]
    fn the_root_directory_holds_no_state() {
        for root in ["/", "//", "/a/..", "../../../../../../../../../../../.."] {
            let message = given_root(OsStr::new(root)).unwrap_err().message;
            assert_eq!(message, "Option --root argument should not be set to /", "{root}");
        }
    }

    #[test]
    fn rootless_is_a_boolean_or_auto() {
        for (good, meaning) in
            [("", None), ("auto", None), ("true", Some(true)), ("0", Some(false))]
        {
            assert_eq!(rootless(Some(OsStr::new(good))).unwrap(), meaning, "{good}");
        }
        assert_eq!(
            rootless(Some(OsStr::new("X"))).unwrap_err().message,
            "strconv.ParseBool: parsing \"X\": invalid syntax"
        );
    }

    #[test]
    fn the_program_answers_to_the_name_runc() {
        assert_eq!(program_name("/usr/bin/runc"), "runc");
        assert_eq!(program_name("/usr/bin/orlop"), "orlop");
        assert_eq!(program_name("/usr/bin/other"), "orlop");
    }
}
