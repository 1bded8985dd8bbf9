//! Creating a container: from a bundle to an init that waits for `start`, or to a running program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use orlop_init::plan::Op;

use crate::bundle::Bundle;
use crate::cgroup::systemd::{Bus, Manager, address_of};
use crate::cgroup::{Cgroup, Hierarchy};
use crate::compile::exec::Join;
use crate::compile::{HostFacts, Request, compile};
use crate::container::Container;
use crate::error::{Error, ErrorKind, Field, Result};
use crate::host;
use crate::plan::{CgroupNeed, Plan};
use crate::state::{DEFAULT_ROOT, Record, StateDirectory, UnitRecord};
use crate::streams::{Stdio, Streams};
use crate::supervise::unit::{NotAdmitted, admit};
use crate::supervise::{Init, Late, Launch, Target, execute};

/// What a new container needs; made by [`Container::builder`].
#[derive(Debug)]
pub struct Builder {
    id: String,
    bundle: Bundle,
    state_root: PathBuf,
    stdio: Stdio,
    console_socket: Option<OwnedFd>,
    shown_on: Option<(u16, u16)>,
    preserve_fds: u32,
    notify: bool,
    hook_environment: Vec<String>,
    no_pivot: bool,
    no_new_keyring: bool,
    init_file: Option<PathBuf>,
    cgroup_driver: CgroupDriver,
    keep: bool,
    rootless: Option<bool>,
}

/// Who makes the container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupDriver {
    /// The library itself. `linux.cgroupsPath` is a path.
    #[default]
    Cgroupfs,
    /// The system's systemd, as a transient scope. `linux.cgroupsPath` is `slice:prefix:name`.
    Systemd,
    /// A user's systemd.
    SystemdUser {
        /// The D-Bus address of the user's bus, as `unix:path=/run/user/1000/bus`.
        bus: String,
    },
}

impl CgroupDriver {
    /// The systemd of the user whose bus has its socket at this path, as `/run/user/1000/bus`.
    #[must_use]
    pub fn systemd_user_at(path: &str) -> Self {
        Self::SystemdUser { bus: address_of(path) }
    }

    fn bus(&self) -> Option<Bus> {
        match self {
            Self::Cgroupfs => None,
            Self::Systemd => Some(Bus::System),
            Self::SystemdUser { bus } => Some(Bus::User(bus.clone())),
        }
    }
}

/// What a successful creation leaves to the handle.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) record: Record,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) hook_environment: Vec<String>,
    pub(crate) warnings: Vec<(Field, String)>,
}

/// How the program is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// Later, by anybody who can open the fifo.
    Fifo,
    /// At once, by the creator.
    AtOnce,
}

impl Builder {
    pub(crate) fn new(id: String, bundle: Bundle) -> Self {
        Self {
            id,
            bundle,
            state_root: PathBuf::from(DEFAULT_ROOT),
            stdio: Stdio::default(),
            console_socket: None,
            shown_on: None,
            preserve_fds: 0,
            notify: false,
            hook_environment: Vec::new(),
            no_pivot: false,
            no_new_keyring: false,
            init_file: None,
            cgroup_driver: CgroupDriver::default(),
            keep: false,
            rootless: None,
        }
    }

    /// Directory of all containers' state; `/run/orlop` unless set. It is created with mode 0700
    /// when it is missing.
    #[must_use]
    pub fn state_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.state_root = root.into();
        self
    }

    /// The standard streams; [`Stdio::Null`] unless set. With `process.terminal` they are the
    /// terminal.
    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.stdio = stdio;
        self
    }

    /// A connected `AF_UNIX` stream socket that takes the master of the container's terminal.
    #[must_use]
    pub fn console_socket(mut self, socket: OwnedFd) -> Self {
        self.console_socket = Some(socket);
        self
    }

    /// The caller shows the terminal on one of its own, of so many rows and columns: the container's has this size from
    /// its beginning, whatever `process.consoleSize` says, and adds no carriage returns (`ONLCR` of termios(3)).
    #[must_use]
    pub fn shown_on(mut self, rows: u16, columns: u16) -> Self {
        self.shown_on = Some((rows, columns));
        self
    }

    /// How many of the caller's descriptors from 3 on the program inherits under the same numbers.
    #[must_use]
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.preserve_fds = count;
        self
    }

    /// Gives the program a directory `/run/notify`, and `NOTIFY_SOCKET` in its environment: where
    /// it tells by sd_notify(3) that it is ready. Whoever starts the container listens there
    /// ([`Container::notify_socket`]).
    #[must_use]
    pub fn notify_directory(mut self, yes: bool) -> Self {
        self.notify = yes;
        self
    }

    /// Environment (`KEY=value`) of hooks in the runtime's namespaces that name none of their own;
    /// empty unless set.
    #[must_use]
    pub fn hook_environment(mut self, environment: Vec<String>) -> Self {
        self.hook_environment = environment;
        self
    }

    /// Moves the root over `/` instead of pivot_root(2), which a ramdisk as the host's root forbids.
    #[must_use]
    pub fn no_pivot(mut self, yes: bool) -> Self {
        self.no_pivot = yes;
        self
    }

    /// Keeps the caller's session keyring.
    #[must_use]
    pub fn no_new_keyring(mut self, yes: bool) -> Self {
        self.no_new_keyring = yes;
        self
    }

    /// An installed `orlop-init` to execute where the host forbids executing memfds.
    #[must_use]
    pub fn init_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.init_file = Some(path.into());
        self
    }

    /// Who makes the cgroup; [`CgroupDriver::Cgroupfs`] unless set. It is remembered: later calls
    /// need not be told.
    #[must_use]
    pub fn cgroup_driver(mut self, driver: CgroupDriver) -> Self {
        self.cgroup_driver = driver;
        self
    }

    /// Leaves the cgroup and the state of a container that could not be created or started, for
    /// whoever looks into why: it counts as one that has ended, until [`Container::delete`].
    #[must_use]
    pub fn keep_failed(mut self, yes: bool) -> Self {
        self.keep = yes;
        self
    }

    /// Whether missing rights over cgroups are tolerated: a container that names neither a cgroup nor
    /// a limit then runs in the caller's. Unless set, that is where the caller is not root, or is
    /// root of a user namespace.
    #[must_use]
    pub fn rootless(mut self, yes: bool) -> Self {
        self.rootless = Some(yes);
        self
    }

    /// What creating would do, without doing it; a terminal's console socket may be missing.
    ///
    /// # Errors
    /// What is wrong with config.json, naming the field.
    pub fn plan(&self) -> Result<Plan> {
        let process = self.bundle.spec.process().as_ref();
        let terminal = process.and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let console_socket = terminal || self.console_socket.is_some();
        self.compile(&self.request(Streams::open(&self.stdio)?.null, console_socket)?)
    }

    fn request(&self, null_streams: u8, console_socket: bool) -> Result<Request> {
        let notify = match self.notify {
            true => Some(StateDirectory::of(&self.state_root, &self.id)?.notify_directory()?),
            false => None,
        };
        Ok(Request {
            id: self.id.clone(),
            bundle: self.bundle.directory.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            notify,
            null_streams,
            console_socket,
            shown_on: self.shown_on,
            systemd: self.cgroup_driver.bus(),
            joins: false,
            joins_pid: false,
            rootless: self.rootless,
        })
    }

    fn compile(&self, request: &Request) -> Result<Plan> {
        if !self.bundle.directory.is_absolute() {
            let message = format!("the bundle's directory {:?} is not absolute", request.bundle);
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let spec = &self.bundle.spec;
        let cgroups_path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        let absolute = cgroups_path.is_some_and(|path| path.is_absolute());
        let by_path = request.systemd.is_none() && !absolute;
        let mut facts = HostFacts::probe(by_path)?;
        if let Some(bus @ Bus::User(_)) = &request.systemd {
            facts.manager_cgroup = Manager::connect(bus)?.property("ControlGroup")?;
        }
        if request.no_pivot {
            facts.whole_pseudo_filesystems = host::whole_pseudo_filesystems()?;
        }
        let mut plan = compile(spec, request, &facts)?;
        plan.warnings.extend(self.bundle.warnings.iter().cloned());
        Ok(plan)
    }

    /// Creates the container: all but its program is there afterwards, waiting for
    /// [`Container::start`] by this process or any other.
    ///
    /// # Errors
    /// Naming the field; nothing is left behind.
    pub fn create(self) -> Result<Container> {
        self.execute(Release::Fifo)
    }

    /// Creates and starts in one step, cheaper than both.
    ///
    /// # Errors
    /// As [`Builder::create`] and [`Container::start`]; nothing is left behind.
    pub fn run(self) -> Result<Container> {
        self.execute(Release::AtOnce)
    }

    fn execute(self, release: Release) -> Result<Container> {
        let streams = Streams::open(&self.stdio)?;
        let request = self.request(streams.null, self.console_socket.is_some())?;
        let plan = self.compile(&request)?;
        let hierarchy = Hierarchy::open()?;
        let directory = StateDirectory::create(&self.state_root, &self.id)?;
        let mut record = intent(&plan);
        let claimed = match claim_cgroup(&plan, hierarchy, &directory, &mut record) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                // The cgroup may be somebody else's: only the directory is ours.
                directory.remove()?;
                return Err(error);
            }
        };
        record.resources = crate::update::saved(&self.bundle.spec);
        let join = Join::of(&self.bundle.spec, &plan, &request).map(Box::new);
        let attempt =
            self.attempt(&plan, claimed, &directory, (&mut record, join), &streams, release);
        match attempt {
            Ok((pidfd, cgroup)) => {
                let creation = Creation {
                    record,
                    pidfd,
                    cgroup,
                    hook_environment: self.hook_environment,
                    warnings: plan.warnings,
                };
                let container = Container::created(directory, creation);
                if release == Release::AtOnce
                    && let Err(error) = container.run_poststart()
                {
                    let mut container = container;
                    let _first_error_counts =
                        if self.keep { container.kill_and_wait() } else { container.delete(true) };
                    return Err(error);
                }
                Ok(container)
            }
            Err(NotAdmitted { error, begun: false }) => {
                if !self.keep {
                    let _first_error_counts = directory.remove();
                }
                Err(error)
            }
            Err(NotAdmitted { error, .. }) => {
                if self.keep {
                    // The init is gone, whether it was recorded or not.
                    (record.pid, record.created) = (0, host::now());
                    let _first_error_counts = directory.write_record(&record);
                    return Err(error);
                }
                let mut failed = Container::from_record(directory, record);
                failed.hook_environment = self.hook_environment;
                let _first_error_counts = failed.destroy(false);
                Err(error)
            }
        }
    }

    /// Everything that has further effects. What a failure leaves is cleaned up by the caller, but for the
    /// init, which is gone when this returns an error.
    fn attempt(
        &self,
        plan: &Plan,
        claimed: Option<Cgroup>,
        directory: &StateDirectory,
        (record, join): (&mut Record, Option<Box<Join>>),
        streams: &Streams<'_>,
        release: Release,
    ) -> Result<(OwnedFd, Option<Cgroup>), NotAdmitted> {
        let progress = directory.create_progress()?;
        if self.notify {
            directory.create_notify()?;
        }
        let start = match release {
            Release::Fifo => Some(directory.create_fifo()?),
            Release::AtOnce => None,
        };
        let console_socket = self.console_socket.as_ref().map(host::duplicate).transpose()?;
        let launch = Launch {
            init_file: self.init_file.as_deref(),
            cgroup: claimed.as_ref().map(Cgroup::as_fd),
            progress,
            start,
            streams: streams.replaced(),
            console_socket,
            container: None,
        };
        let init = Init::spawn(plan, launch)?;
        let cgroup = match (claimed, &plan.unit) {
            (Some(cgroup), _) => Ok(Some(cgroup)),
            (None, Some(unit)) => admit(unit, &init).map(Some),
            // The caller may not make one, and the container does without.
            (None, None) => Ok(None),
        };
        let cgroup = cgroup.inspect_err(|_| init.destroy())?;
        let target = Target {
            init: &init,
            cgroup: cgroup.as_ref(),
            streams: streams.all(),
            null_streams: streams.null,
            hook_environment: &self.hook_environment,
            joined: None,
        };
        record.join = join;
        let result = finish(plan, &target, directory, record, release);
        if let Err(error) = result {
            let killed = init.was_killed();
            init.destroy();
            let error = if killed { out_of_memory(cgroup.as_ref(), error) } else { error };
            return Err(error.into());
        }
        Ok((init.into_pidfd(), cgroup))
    }
}

/// Why an init was killed, where the cgroup tells: in a new one, nobody else can have been meant.
fn out_of_memory(cgroup: Option<&Cgroup>, error: Error) -> Error {
    if cgroup.and_then(Cgroup::oom_kills).unwrap_or(0) == 0 {
        return error;
    }
    Error::new(ErrorKind::Init, "container init was OOM-killed (memory limit too low?)")
        .at("linux.resources.memory.limit")
        .hint(error.to_string())
}

/// Records the intent, then makes the cgroup, unless systemd will. One that is in use is refused
/// before the intent names it: whoever cleans up after an intent kills what is in there.
fn claim_cgroup(
    plan: &Plan,
    hierarchy: Hierarchy,
    directory: &StateDirectory,
    record: &mut Record,
) -> Result<Option<Cgroup>> {
    let at_field = |error: Error| error.at(plan.cgroup.field.clone());
    hierarchy.check_unused(&plan.cgroup.op).map_err(at_field)?;
    directory.write_intent(record)?;
    if plan.unit.is_some() {
        return Ok(None);
    }
    let error = match hierarchy.create(&plan.cgroup.op) {
        Ok(cgroup) => return Ok(Some(cgroup)),
        Err(error) => error,
    };
    let forbidden = [libc::EACCES, libc::EPERM, libc::EROFS];
    let forbidden = error.raw_os_error().is_some_and(|errno| forbidden.contains(&errno));
    match plan.cgroup_need {
        CgroupNeed::IfPermitted if forbidden => {
            // Whoever cleans up shall not look for it.
            record.cgroup.clear();
            directory.change_intent(record)?;
            Ok(None)
        }
        CgroupNeed::Asked if forbidden => {
            let message = format!(
                "rootless needs no limits + no cgrouppath when no permission is granted for \
                 cgroups: {error}"
            );
            Err(Error::new(ErrorKind::Unsupported, message).at(plan.cgroup.field.clone()))
        }
        _ => Err(at_field(error)),
    }
}

/// The creator's column, up to a container that is created and recorded, or runs.
fn finish(
    plan: &Plan,
    target: &Target<'_>,
    directory: &StateDirectory,
    record: &mut Record,
    release: Release,
) -> Result<()> {
    for step in &plan.child {
        if let Op::Seccomp { program, .. } = &step.op {
            directory.write_filter(&program.0)?;
        }
    }
    if target.cgroup.is_none() {
        // Where there is no cgroup, whoever cleans up finds it by its pid alone.
        record.pid = target.init.pid();
        record.start_time = host::start_time(record.pid)?.unwrap_or_default();
        directory.change_intent(record)?;
    }
    execute(plan, target)?;
    record.pid = target.init.pid();
    record.cgroup_number = target.cgroup.map_or(Ok(0), Cgroup::number)?;
    let ended = || Error::new(ErrorKind::Init, "the init ended before it was started");
    record.start_time = host::start_time(record.pid)?.ok_or_else(ended)?;
    record.created = host::now();
    directory.write_record(record)?;
    match release {
        Release::Fifo => Ok(()),
        Release::AtOnce => target.init.start(plan),
    }
}

/// What is recorded before the first effect.
pub(crate) fn intent(plan: &Plan) -> Record {
    Record {
        id: plan.id.clone(),
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        cgroup: plan.cgroup.op.clone(),
        unit: plan
            .unit
            .as_ref()
            .map(|unit| UnitRecord { name: unit.op.name.clone(), bus: unit.op.bus.clone() }),
        cgroup_number: 0,
        pid: 0,
        start_time: 0,
        created: String::new(),
        annotations: plan.annotations.clone(),
        own_pid_namespace: plan.own_pid_namespace,
        poststart: plan.poststart.clone(),
        poststop: plan.poststop.clone(),
        late: Late::of(plan),
        join: None,
        resources: None,
        rdt: plan.rdt().cloned(),
    }
}
