//! The state directory: what is kept of a container between calls, on disk before it is true.
//!
//! `ROOT/ID/` holds `intent.json` from before the first side effect of `create`, then `state.json`
//! (by rename) once the container is created, the `exec.fifo` that releases it until it is started,
//! and the page in which its init says where it is (`progress`).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use orlop_init::plan::progress;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::systemd::Bus;
use crate::compile::Rdt;
use crate::compile::exec::Join;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::HookPlan;
use crate::supervise::Late;

/// The state root unless the caller names another.
pub(crate) const DEFAULT_ROOT: &str = "/run/orlop";

const INTENT: &str = "intent.json";
const STATE: &str = "state.json";
const FIFO: &str = "exec.fifo";
const PROGRESS: &str = "progress";
const SECCOMP: &str = "seccomp.bpf";
const NOTIFY: &str = "notify";
const NOTIFY_SOCKET: &str = "notify.sock";

/// What is kept of a container. Readers take records of older versions: new fields have defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// Path of the cgroup below the cgroup root.
    pub(crate) cgroup: String,
    /// The unit whose cgroup that is, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<UnitRecord>,
    /// Its number ([`crate::cgroup::Cgroup::number`]); 0 in an intent.
    #[serde(default)]
    pub(crate) cgroup_number: u64,
    /// Pid of the init; 0 in an intent.
    pub(crate) pid: i32,
    /// When that process started (clock ticks since boot).
    pub(crate) start_time: u64,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) own_pid_namespace: bool,
    pub(crate) poststart: Vec<HookPlan>,
    pub(crate) poststop: Vec<HookPlan>,
    pub(crate) late: Late,
    /// For processes that join later; an intent has none.
    #[serde(default)]
    pub(crate) join: Option<Box<Join>>,
    /// The limits that were asked for last, by config.json or an update; not the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<LinuxResources>,
    /// The group of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<Rdt>,
}

/// The unit that systemd has made for a container: later calls are told of no driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRecord {
    pub(crate) name: String,
    pub(crate) bus: Bus,
}

/// A container's directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// The directory of a container that may exist.
    ///
    /// # Errors
    /// The id is not one.
    pub(crate) fn of(root: &Path, id: &str) -> Result<Self> {
        crate::compile::check_id(id)?;
        Ok(Self { path: root.join(id) })
    }

    /// Makes the directory; this claims the id.
    ///
    /// # Errors
    /// `container with given ID already exists`; it cannot be made.
    pub(crate) fn create(root: &Path, id: &str) -> Result<Self> {
        let directory = Self::of(root, id)?;
        let make = || DirBuilder::new().mode(0o711).create(&directory.path);
        let made = make().or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(error);
            }
            DirBuilder::new().mode(0o700).recursive(true).create(root)?;
            make()
        });
        match made {
            Ok(()) => Ok(directory),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::new(ErrorKind::AlreadyExists, "container with given ID already exists"))
            }
            Err(error) => Err(failed("create", &directory.path, &error)),
        }
    }

    /// Whether there is a directory.
    ///
    /// # Errors
    /// It cannot be looked for.
    pub(crate) fn exists(&self) -> Result<bool> {
        is_there(&self.path)
    }

    /// The record of a created container; `None` where `create` did not get that far.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        self.read(STATE)
    }

    /// The intent of a `create`; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(crate) fn intent(&self) -> Result<Option<Record>> {
        self.read(INTENT)
    }

    fn read(&self, name: &str) -> Result<Option<Record>> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::System, format!("the state in {path:?} is damaged: {error}"))
        })?;
        Ok(Some(record))
    }

    /// Records what `create` is about to do.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write_intent(&self, record: &Record) -> Result<()> {
        self.write(INTENT, record)
    }

    /// Records it otherwise, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn change_intent(&self, record: &Record) -> Result<()> {
        self.replace(INTENT, record)
    }

    /// Records a created container, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        self.replace(STATE, record)
    }

    fn replace(&self, name: &str, record: &Record) -> Result<()> {
        let new = format!(".{name}");
        self.write(&new, record)?;
        let path = self.path.join(name);
        fs::rename(self.path.join(new), &path).map_err(|error| failed("write", &path, &error))
    }

    /// Waits until nobody else changes the record, until the result is dropped.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(crate) fn lock(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let locked = rustix::fs::open(&self.path, flags, Mode::empty()).and_then(|directory| {
            let lock = || rustix::fs::flock(&directory, FlockOperation::LockExclusive);
            rustix::io::retry_on_intr(lock).map(|()| directory)
        });
        locked.map_err(|errno| Error::sys(format!("cannot lock {:?}", self.path), errno))
    }

    fn write(&self, name: &str, record: &Record) -> Result<()> {
        let path = self.path.join(name);
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::bug(format!("cannot encode the state: {error}")))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&bytes))
            .map_err(|error| failed("write", &path, &error))
    }

    /// Keeps the instructions of the seccomp filter for processes that join later.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write_filter(&self, program: &[u8]) -> Result<()> {
        let path = self.path.join(SECCOMP);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(program))
            .map_err(|error| failed("write", &path, &error))
    }

    /// The instructions of the seccomp filter.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read_filter(&self) -> Result<Vec<u8>> {
        let path = self.path.join(SECCOMP);
        fs::read(&path).map_err(|error| failed("read", &path, &error))
    }

    /// The file of the init's shared page, made new.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create_progress(&self) -> Result<File> {
        let path = self.path.join(PROGRESS);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let size = u64::try_from(progress::SIZE).unwrap_or(0);
        file.and_then(|file| file.set_len(size).map(|()| file))
            .map_err(|error| failed("create", &path, &error))
    }

    /// The file of the init's shared page.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open_progress(&self) -> Result<File> {
        let path = self.path.join(PROGRESS);
        File::open(&path).map_err(|error| failed("open", &path, &error))
    }

    /// The fifo that releases the container, made new; open both ways, as the init holds it: a
    /// reader that is always there as long as the init waits, and never sees end of file.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create_fifo(&self) -> Result<OwnedFd> {
        let path = self.path.join(FIFO);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0)
            .and_then(|()| rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
            .map_err(|errno| Error::sys(format!("cannot create {path:?}"), errno))
    }

    /// Opens the fifo for writing: `None` where no init waits at it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open_fifo(&self) -> Result<Option<OwnedFd>> {
        use rustix::io::Errno;
        let path = self.path.join(FIFO);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fifo) => Ok(Some(fifo)),
            Err(Errno::NOENT | Errno::NXIO) => Ok(None),
            Err(errno) => Err(Error::sys(format!("cannot open {path:?}"), errno)),
        }
    }

    /// Whether the fifo is there: nobody has released the container, or the one who does is not done with it.
    ///
    /// # Errors
    /// It cannot be looked for.
    pub(crate) fn has_fifo(&self) -> Result<bool> {
        is_there(&self.path.join(FIFO))
    }

    /// Where the directory of the socket for sd_notify(3) is; absolute.
    ///
    /// # Errors
    /// There is no working directory that it could be relative to.
    pub(crate) fn notify_directory(&self) -> Result<PathBuf> {
        let path = self.path.join(NOTIFY);
        std::path::absolute(&path).map_err(|error| failed("find", &path, &error))
    }

    /// Makes that directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create_notify(&self) -> Result<()> {
        let path = self.path.join(NOTIFY);
        let open = fs::Permissions::from_mode(0o755); // whatever the caller's umask is
        fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, open))
            .map_err(|error| failed("create", &path, &error))
    }

    /// Binds the socket in that directory; `None` where the container has none.
    ///
    /// # Errors
    /// Somebody listens on it; it cannot be bound.
    pub(crate) fn bind_notify(&self) -> Result<Option<UnixDatagram>> {
        let path = self.path.join(NOTIFY);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::sys(format!("cannot open {path:?}"), errno)),
        };
        let _lock = self.lock()?;
        // An address has no room for a long path.
        let address = format!("/proc/self/fd/{}/{NOTIFY_SOCKET}", directory.as_raw_fd());
        if UnixDatagram::unbound().and_then(|socket| socket.connect(&address)).is_ok() {
            const STARTED: &str = "cannot start an already running container";
            return Err(Error::new(ErrorKind::InvalidState, STARTED));
        }
        let _none = fs::remove_file(&address); // left by a start that was killed
        let socket = UnixDatagram::bind(&address);
        let everybody = fs::Permissions::from_mode(0o777);
        socket
            .and_then(|socket| fs::set_permissions(&address, everybody).map(|()| Some(socket)))
            .map_err(|error| failed("bind", &path.join(NOTIFY_SOCKET), &error))
    }

    /// Removes the fifo of a container that was released.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove_fifo(&self) -> Result<()> {
        let path = self.path.join(FIFO);
        fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))
    }

    /// Removes the directory; success where it is gone already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        // Nearly always these are all there is: no need to list the directory. The record goes
        // last: it knows the cgroup better than the intent.
        for name in [INTENT, PROGRESS, FIFO, SECCOMP, STATE] {
            let _missing = fs::remove_file(self.path.join(name)); // what stays, fails below
        }
        let removed = match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                fs::remove_dir_all(&self.path)
            }
            result => result,
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("remove", &self.path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Who owns it.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn owner(&self) -> Result<u32> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(&self.path);
        metadata.map(|metadata| metadata.uid()).map_err(|error| failed("read", &self.path, &error))
    }
}

/// The ids below a state root, sorted.
///
/// # Errors
/// The root cannot be read.
pub(crate) fn list(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root).map_err(|error| failed("read", root, &error))?;
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read", root, &error))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(id) = entry.file_name().to_str()
            && is_directory
        {
            ids.push(id.to_owned());
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Whether a path is there, which only the kernel's word tells.
fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| failed("find", path, &error))
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::sys(format!("cannot {action} {path:?}"), error)
}
