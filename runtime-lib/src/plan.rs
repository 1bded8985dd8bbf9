//! The plan: everything that creating a container will do, decided, in order, before any of it is done.

use std::path::PathBuf;

use orlop_init::plan::{Message, Op, Scheduling, Special};
use serde::{Serialize, Serializer};

use crate::cgroup::systemd::{Bus, Property};
use crate::cgroup::{CgroupWrite, DeviceProgram};
use crate::compile::{IdMaps, Rdt};
use crate::error::{Error, Field, Result};

/// The bytes of a string or blob in an operation of the init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// A string for the kernel: NUL-terminated.
    ///
    /// # Errors
    /// A NUL inside, named by `field`.
    pub(crate) fn c_string(text: impl AsRef<[u8]>, field: &str) -> Result<Self> {
        Self::list([text], field)
    }

    /// A list of strings, each NUL-terminated.
    ///
    /// # Errors
    /// A NUL inside one, named by `field`.
    pub(crate) fn list<S: AsRef<[u8]>>(
        items: impl IntoIterator<Item = S>,
        field: &str,
    ) -> Result<Self> {
        let mut bytes = Vec::new();
        for item in items {
            let item = item.as_ref();
            if item.contains(&0) {
                return Err(Error::config(field.to_owned(), "contains a NUL byte"));
            }
            bytes.extend_from_slice(item);
            bytes.push(0);
        }
        Ok(Self(bytes))
    }

    /// The text without its last NUL, for people.
    pub(crate) fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.0.strip_suffix(&[0]).unwrap_or(&self.0))
    }

    /// A blob.
    pub(crate) fn blob(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// One operation, with the config.json field that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step<T> {
    pub(crate) op: T,
    pub(crate) field: Field,
}

/// A descriptor that the creator opens and the init inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// `linux.namespaces[i].path`, opened once; it must be of the type that `flag` (`CLONE_NEW*`) says.
    /// `foreign`: it must not be the runtime's own, since sysctls will be written in it.
    Namespace { path: PathBuf, flag: u32, foreign: bool },
    /// A user namespace with these maps, in which nobody is: for the ids of mounts.
    UserNamespace(IdMaps),
    /// The connected console socket.
    ConsoleSocket,
    /// A pidfd of the container's init.
    Container,
    /// The root directory of the container's init (`/proc/PID/root`).
    ContainerRoot,
}

/// One operation of the creator on the init's process or its cgroup, while the init mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostOp {
    /// A file of the container's cgroup.
    CgroupWrite(CgroupWrite),
    /// The same, in its turn.
    LateCgroupWrite(CgroupWrite),
    /// A property of the container's unit, in its turn.
    LateUnitProperty(Property),
    /// The device program, attached to the container's cgroup.
    DeviceProgram(DeviceProgram),
    /// fchown(2) of the container's cgroup, as far as it is to be managed from inside.
    CgroupOwner { uid: u32 },
    /// `/proc/PID/oom_score_adj`.
    OomScoreAdj(i32),
    /// fchown(2) of the standard streams that are not `/dev/null` to the container's user.
    StdioOwner { uid: u32 },
    /// Moves a network device into the container's network namespace.
    MoveNetDevice { name: String, new_name: String },
    /// Enters a group of resctrl, made where that is asked for.
    Rdt(Rdt),
    /// Enters the group that the container is in.
    JoinRdt(Rdt),
    /// The id maps of the init's new user namespace.
    IdMaps(IdMaps),
    /// Raises a hard limit (`RLIMIT_*`) as far as this, where it is lower: the init cannot.
    HardLimit { resource: u32, hard: u64 },
    /// sched_setattr(2) of the init, which is ready.
    Scheduler(Scheduling),
    /// ioprio_set(2) of the init: `IOPRIO_CLASS_*`, and 0 (highest) to 7.
    IoPriority { class: u8, level: u8 },
    /// Waits for the init to be reborn, and takes the new process for it.
    Adopt,
    /// Lets that process go on, once nothing is left of the one that it was.
    Release,
    /// Waits for the seccomp filter to be loaded, and takes its listener.
    TakeListener,
    /// Gives the listener to the agent.
    CallAgent(Agent),
    /// Waits for a message of the init.
    Await(Message),
    /// Sends a message to the init.
    Notify(Message),
    /// Runs a hook in the runtime's namespaces.
    RunHook(HookPlan),
}

/// Whether a container can do without a cgroup of its own, where the caller may not make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupNeed {
    /// It cannot.
    Always,
    /// It could, if config.json did not name one or a limit.
    Asked,
    /// It stays in the caller's then.
    IfPermitted,
}

/// Who answers for a seccomp filter (`linux.seccomp.listenerPath`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Agent {
    /// The socket that it listens on; absolute.
    pub(crate) path: PathBuf,
    /// `linux.seccomp.listenerMetadata`.
    pub(crate) metadata: Option<String>,
}

/// The unit that systemd makes for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitPlan {
    /// As `docker-0123.scope`.
    pub(crate) name: String,
    /// The slice that it is in.
    pub(crate) slice: String,
    pub(crate) bus: Bus,
    /// All of them but the processes.
    pub(crate) properties: Vec<Step<Property>>,
    /// Path of its cgroup below the cgroup root, absolute.
    pub(crate) cgroup: String,
}

impl UnitPlan {
    /// Whether it is a slice: those take no processes by themselves.
    pub(crate) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// A hook that runs in the runtime's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct HookPlan {
    /// `prestart`, `createRuntime`, `poststart` or `poststop`.
    pub(crate) stage: String,
    /// Its place in the list of that stage.
    pub(crate) index: usize,
    pub(crate) path: PathBuf,
    /// The whole argv; empty means the path alone.
    pub(crate) args: Vec<String>,
    /// `None` inherits what the caller of the library gave for hooks.
    pub(crate) env: Option<Vec<String>>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

/// What creating a container will do, in order, in two columns.
///
/// It is made by [`Container::plan`](crate::Container) without effects, prints as `orlop explain`
/// shows it, and is then executed as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(crate) id: String,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    /// Absolute; `root.path`.
    pub(crate) rootfs: PathBuf,
    /// `CLONE_NEW*` of clone3(2).
    pub(crate) clone_flags: u32,
    /// Whether the container's pid namespace is its own, so that the init's death ends all of it.
    pub(crate) own_pid_namespace: bool,
    /// Namespaces that the init is born in.
    pub(crate) joins: Vec<Step<Slot>>,
    pub(crate) slots: Vec<Step<Slot>>,
    /// The init's operations.
    pub(crate) child: Vec<Step<Op<Bytes>>>,
    /// The creator's operations, in parallel with the init's, joined by messages.
    pub(crate) host: Vec<Step<HostOp>>,
    /// Path below the cgroup root, absolute, as `/docker/ID`.
    pub(crate) cgroup: Step<String>,
    /// Whether the container can do without.
    pub(crate) cgroup_need: CgroupNeed,
    /// The unit that this is the cgroup of, where systemd makes it.
    pub(crate) unit: Option<Step<UnitPlan>>,
    /// Hooks of later stages, kept with the container's state.
    pub(crate) poststart: Vec<HookPlan>,
    pub(crate) poststop: Vec<HookPlan>,
    /// `annotations`, kept with the container's state (sorted).
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    /// `process.execCPUAffinity` in words: it is for processes that join later.
    pub(crate) later_affinity: Option<String>,
    /// How many descriptors from 3 on the program inherits.
    pub(crate) preserve_fds: u32,
    /// What config.json asks for that has no effect, each with its field.
    pub(crate) warnings: Vec<(Field, String)>,
}

impl Plan {
    /// The most strings that an argv and its envp have together, with a null for each and `HOME`.
    pub(crate) fn strings(&self) -> u32 {
        let strings = |list: &Bytes| list.0.iter().filter(|byte| **byte == 0).count();
        let most = self.child.iter().map(|step| match &step.op {
            Op::Exec { args, env } => strings(args) + strings(env) + 3,
            Op::RunHook(hook) => strings(&hook.args) + strings(&hook.env) + 3,
            _ => 0,
        });
        u32::try_from(most.max().unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The group of resctrl that it makes or enters.
    pub(crate) fn rdt(&self) -> Option<&Rdt> {
        self.host.iter().find_map(|step| match &step.op {
            HostOp::Rdt(rdt) => Some(rdt),
            _ => None,
        })
    }

    /// Whether the init waits for its creator before anything else.
    pub(crate) fn admission(&self) -> bool {
        let wait = Op::Await(Message::Admitted);
        self.child.iter().any(|step| step.op == wait)
    }

    /// Whether the init leads a session: all do but those whose successor does, and that have no terminal to hand on.
    pub(crate) fn session(&self) -> bool {
        !self.child.iter().any(|step| step.op == Op::Reborn { terminal: false })
    }

    /// How many mounts turn read-only after everything is in place.
    pub(crate) fn sealed_mounts(&self) -> u32 {
        let sealed = self.child.iter().filter(|step| match &step.op {
            Op::Filesystem(filesystem) => filesystem.special.has(Special::SEAL),
            _ => false,
        });
        u32::try_from(sealed.count()).unwrap_or(u32::MAX)
    }
}
