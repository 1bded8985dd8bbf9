//! The wire form of a plan: what the library compiles and the init executes.
//!
//! A plan is a [`Header`] followed by [`Header::ops`] operations, each in postcard's encoding, in a
//! sealed memfd. `B` is a string or blob: owned bytes in the library, bytes borrowed from the map
//! in the init. A string for the kernel carries its NUL; a list of strings is their concatenation,
//! each with its NUL.
//!
//! An operation says everything that it needs (nothing is taken from its neighbours) and leaves
//! the init no choice that config.json could have decided.

use serde::{Deserialize, Serialize};

mod step;

pub use step::Step;

/// The form written here: a digest (FNV-1a) of its sources. The library embeds the init that it was built with, so this
/// only guards against an init file that was installed, or left by a build, of another form.
pub const VERSION: u32 = {
    let digest = fnv(0x811c_9dc5, include_bytes!("plan.rs"));
    fnv(fnv(digest, include_bytes!("plan/step.rs")), include_bytes!("wire.rs"))
};

const fn fnv(mut digest: u32, mut bytes: &[u8]) -> u32 {
    while let [first, rest @ ..] = bytes {
        digest = (digest ^ *first as u32).wrapping_mul(0x0100_0193);
        bytes = rest;
    }
    digest
}

/// What the init has to know before the first operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header<B> {
    /// [`VERSION`].
    pub version: u32,
    /// How many operations follow.
    pub ops: u32,
    /// The socket to the creator: [`Message`]s both ways; end of file means that the other is gone.
    pub control_fd: i32,
    /// The file of [`progress`], shared with the creator and with `start`.
    pub progress_fd: i32,
    /// The fifo that releases a created container, or -1 where the creator does it by message.
    pub start_fd: i32,
    /// The descriptors that operations name by slot: one little-endian i32 each.
    pub slots: B,
    /// Bit n-1 is set for each signal n that the caller ignored: they go back to their default.
    pub ignored_signals: u64,
    /// How many mounts turn read-only after everything is in place ([`Op::SealMounts`]).
    pub sealed_mounts: u32,
    /// The most strings that an argv and its envp have together, with a null for each and `HOME`.
    pub strings: u32,
    /// How many descriptors from 3 on the program inherits; all others named here are above.
    pub preserve_fds: u32,
    /// The init waits for [`Message::Admitted`], and stays open to its creator's hands until then.
    pub admission: bool,
    /// The init leads a session. Where its successor will ([`Op::Reborn`]), a process group is enough for it: a session
    /// costs a scheduling group (sched(7), autogroup), and a turn of the processor on a busy host.
    pub session: bool,
}

/// Attributes of a mount: `MOUNT_ATTR_*` of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Those of `clear` that nobody named: they stay where they are locked, as a user namespace
    /// finds them on the mounts of its parent (mount_namespaces(7)).
    pub yielding: u64,
}

impl Attributes {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// Other ids of a mount's files than the filesystem has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Slot of the user namespace whose maps these are; `None` for the container's own.
    pub slot: Option<u16>,
    /// For the whole tree.
    pub tree: bool,
    /// The creator makes the mount, as the init in its user namespace may not.
    pub by_creator: bool,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind<B> {
    /// Absolute path on the host; looked up once.
    pub source: B,
    /// Path in the container's root.
    pub target: B,
    /// `rbind`: the mounts below the source come along.
    pub recursive: bool,
    /// For the top mount.
    pub attributes: Attributes,
    /// For the whole tree (`rro` and its kind).
    pub tree_attributes: Attributes,
    /// Its ids, where they are not those of the source.
    pub map: Option<IdMap>,
    /// Changes of propagation in order, a byte each: see [`propagation`].
    pub propagation: B,
}

/// A new instance of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem<B> {
    /// The filesystem's name for fsopen(2).
    pub fstype: B,
    /// What `/proc/self/mountinfo` shows as source; empty for none.
    pub source: B,
    /// Path in the container's root.
    pub target: B,
    /// Options of the filesystem: a list of `key` and `key=value`. SELinux contexts may be in
    /// double quotes, as mount(2) needs them where they have commas.
    pub options: B,
    /// `MOUNT_ATTR_*` to set.
    pub attributes: u64,
    /// Its ids, where they are not those of the filesystem.
    pub map: Option<IdMap>,
    /// Changes of propagation in order, a byte each: see [`propagation`].
    pub propagation: B,
    /// What is special about it.
    pub special: Special,
}

/// What a [`Filesystem`] needs beside its options: bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special(pub u8);

impl Special {
    /// `tmpcopyup`: the content below the mountpoint is copied into the new filesystem.
    pub const COPY_UP: Self = Self(1);
    /// Read-only from [`Op::SealMounts`] on: later mounts still need mountpoints inside.
    pub const SEAL: Self = Self(2);
    /// A tmpfs without `mode=` takes the mode of a directory that was there.
    pub const MODE_OF_TARGET: Self = Self(4);
    /// The init's own handle on procfs for the writes that follow.
    pub const PROCFS: Self = Self(8);
    /// The target must be an ordinary directory reached without symbolic links (procfs, sysfs):
    /// a link in the image would put it where masks and checks do not look (CVE-2019-19921).
    pub const PLAIN_TARGET: Self = Self(16);
    /// A procfs of the pid namespace that was joined, in which the init is not yet.
    pub const JOINED_PIDS: Self = Self(32);
    /// Its option `context=` is `linux.mountLabel`: what the kernel says to it is about that field.
    pub const LABELLED: Self = Self(64);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The bytes of a change of propagation: one of the four, with or without [`RECURSIVE`](propagation::RECURSIVE).
pub mod propagation {
    /// `private`.
    pub const PRIVATE: u8 = 1;
    /// `shared`.
    pub const SHARED: u8 = 2;
    /// `slave`.
    pub const SLAVE: u8 = 3;
    /// `unbindable`.
    pub const UNBINDABLE: u8 = 4;
    /// The `r` forms: for the whole tree.
    pub const RECURSIVE: u8 = 0x80;
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device<B> {
    /// Path in the container's root.
    pub path: B,
    /// File type and permission bits, as mknod(2) takes them.
    pub mode: u32,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A hook that the init runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook<B> {
    /// Absolute path of the program.
    pub path: B,
    /// List: the whole argv.
    pub args: B,
    /// List: the environment.
    pub env: B,
    /// The user's home, where it was looked up, belongs to the environment.
    pub home: bool,
    /// The container's state as JSON up to the value of `pid`.
    pub state_head: B,
    /// The rest of it.
    pub state_tail: B,
    /// Milliseconds until it is killed; 0 for no limit.
    pub timeout_ms: u64,
    /// Runs in the container's root directory (`createContainer`, before the pivot).
    pub in_root: bool,
}

/// The terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Slot of the connected socket that takes the pty's master.
    pub socket_slot: u16,
    /// Window size in characters; 0 leaves the kernel's.
    pub rows: u16,
    /// Window size in characters; 0 leaves the kernel's.
    pub columns: u16,
    /// Output gets no carriage returns: the terminal that shows it adds them.
    pub plain: bool,
    /// Owner of the pty's slave.
    pub uid: u32,
    /// The slave is mounted on `/dev/console` too.
    pub console: bool,
    /// The slave becomes the controlling terminal: of the process that goes on to the program.
    pub controlling: bool,
}

/// The four sets of capset(2) and of the ambient set, as bit masks by capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `process.capabilities.effective`.
    pub effective: u64,
    /// `process.capabilities.permitted`.
    pub permitted: u64,
    /// `process.capabilities.inheritable`.
    pub inheritable: u64,
    /// `process.capabilities.ambient`.
    pub ambient: u64,
}

/// What sched_setattr(2) sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for the realtime policies, else 0.
    pub priority: u32,
    /// Nanoseconds of each period, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds; 0 for the deadline.
    pub period: u64,
}

impl Scheduling {
    /// struct sched_attr of version 1 (since Linux 5.3), on a little-endian machine.
    #[must_use]
    pub fn attributes(&self) -> [u64; 7] {
        const SIZE: u64 = 56;
        let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (nice, priority) = (self.nice.cast_unsigned(), self.priority);
        [
            SIZE | u64::from(self.policy) << 32,
            self.flags,
            halves(nice, priority),
            self.runtime,
            self.deadline,
            self.period,
            // The bounds of utilisation, for which config.json has no fields.
            0,
        ]
    }
}

/// One operation of the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<B> {
    /// setns(2) into a namespace that the creator opened, or into those of a process by its pidfd.
    JoinNamespace {
        /// Slot of the descriptor.
        slot: u16,
        /// `CLONE_NEW*` flags: one for a namespace, those to join for a process.
        flag: u32,
    },
    /// unshare(2).
    Unshare {
        /// `CLONE_NEW*` flags.
        flags: u32,
    },
    /// The maps of the joined user namespace must be these.
    CheckIdMaps {
        /// First id inside, first id outside, count: little-endian u32 each.
        uids: B,
        /// The same of groups.
        gids: B,
    },
    /// Becomes the user that sets the container up, in a user namespace: its root, or these where
    /// it has none.
    NamespaceUser {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Opens the host's procfs, for [`Op::Attribute`]: before anything of a container is joined.
    OpenProcfs,
    /// Tells a security module what the process shall be: proc_pid_attr(5).
    Attribute {
        /// Path below `/proc/thread-self/attr`.
        name: B,
        /// What is written, without NUL.
        value: B,
    },
    /// A new time namespace, which the init enters by setns(2): unshare(2) would leave it out, and
    /// the offsets cannot be set any more once somebody is in.
    TimeNamespace {
        /// What is written to `timens_offsets`; may be empty.
        offsets: B,
    },
    /// sched_setaffinity(2).
    Affinity {
        /// Bit n for processor n, in little-endian 64-bit words; empty for all.
        cpus: B,
        /// Where the cgroup allows none of them, those that it allows are used.
        tolerant: bool,
    },
    /// sched_setattr(2).
    Scheduler(Scheduling),
    /// ioprio_set(2).
    IoPriority {
        /// `IOPRIO_CLASS_*`.
        class: u8,
        /// 0 (highest) to 7.
        level: u8,
    },
    /// set_mempolicy(2).
    MemoryPolicy {
        /// `MPOL_*` with `MPOL_F_*`.
        mode: u32,
        /// Bit n for node n, in little-endian 64-bit words; may be empty.
        nodes: B,
    },
    /// The session keyring of this name, new where there is none (keyctl(2)); a kernel without
    /// keyrings is fine.
    SessionKeyring {
        /// `_ses.ID`.
        name: B,
        /// What others may do with a new one, as `KEYCTL_SETPERM` takes it; 0 where it is another's.
        permissions: u32,
    },
    /// Sets `lo` up in a new network namespace.
    LoopbackUp,
    /// Propagation of the whole tree of mounts that the init came with.
    HostPropagation {
        /// See [`propagation`].
        change: u8,
    },
    /// Clones the root filesystem's mount and attaches it to its own path; all that follows is
    /// looked up inside it.
    OpenRoot {
        /// Absolute path on the host.
        path: B,
        /// The host's mounts stay shared: the mount that the root is attached to is made private
        /// first, lest the host see all that follows.
        isolate: bool,
    },
    /// Takes the root filesystem as it is on the host, in whose mount namespace the init stays.
    OpenRootInPlace {
        /// Absolute path on the host.
        path: B,
    },
    /// The root is that of the namespace which the init has joined.
    UseRoot,
    /// chroot(2) into a directory that the creator opened: the root of a container that was made
    /// with [`Op::MoveRoot`].
    Chroot {
        /// Slot of the descriptor.
        slot: u16,
    },
    /// A bind mount.
    Bind(Bind<B>),
    /// A new filesystem.
    Filesystem(Filesystem<B>),
    /// Sets the SELinux label of a file: for a filesystem that takes none as an option.
    Relabel {
        /// Path of a directory in the container's root.
        target: B,
        /// The label, without NUL.
        label: B,
    },
    /// Changes the attributes of a mount that is there (`remount`).
    Remount {
        /// Path in the container's root.
        target: B,
        /// For the mount.
        attributes: Attributes,
        /// For the tree.
        tree_attributes: Attributes,
    },
    /// Writes below `/proc/sys`, through the init's own procfs handle.
    Sysctl {
        /// Path below `sys/`, with slashes.
        path: B,
        /// The value.
        value: B,
    },
    /// A device node; one of the same number that is there is kept.
    Device(Device<B>),
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: B,
        /// Where it is, in the container's root.
        path: B,
        /// Replaces a file that is there.
        replace: bool,
    },
    /// Runs a hook.
    RunHook(Hook<B>),
    /// Hides a path: a file under `/dev/null`, a directory under an empty tmpfs.
    MaskPath {
        /// Path in the container's root.
        path: B,
    },
    /// Makes a tree read-only.
    ReadonlyPath {
        /// Path in the container's root.
        path: B,
    },
    /// pivot_root(2) into the root, and the host's tree is gone.
    PivotRoot,
    /// Takes a mount of the host away, or covers it: [`Op::MoveRoot`] leaves the host's tree where it is.
    HideMount {
        /// Absolute path on the host.
        path: B,
    },
    /// Moves the root over `/` and chroots, where pivot_root cannot work (a ramdisk).
    MoveRoot,
    /// chroot(2) into a root that is in the host's mount namespace.
    EnterRoot,
    /// Propagation of the container's root mount.
    RootPropagation {
        /// See [`propagation`].
        change: u8,
    },
    /// Creates the working directory where it is missing.
    CreateCwd {
        /// Absolute path in the container.
        path: B,
    },
    /// A pty on the standard streams.
    Terminal(Terminal),
    /// Opens the container's `/dev/null` in place of standard streams that are the host's.
    ReopenNull {
        /// Bit n for descriptor n.
        streams: u8,
    },
    /// Turns the mounts marked [`Special::SEAL`] read-only.
    SealMounts,
    /// Turns the root mount read-only.
    SealRoot,
    /// sethostname(2).
    Hostname {
        /// Without NUL.
        name: B,
    },
    /// setdomainname(2).
    Domainname {
        /// Without NUL.
        name: B,
    },
    /// personality(2).
    Personality {
        /// The persona with its flags.
        persona: u32,
    },
    /// prlimit(2) of the init itself, when it needs few descriptors and little memory any more.
    Rlimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit; `u64::MAX` for none.
        soft: u64,
        /// Hard limit; `u64::MAX` for none.
        hard: u64,
    },
    /// umask(2).
    Umask {
        /// The mask.
        mask: u32,
    },
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Loads the seccomp filter, and lets the creator take its listener where it has one.
    Seccomp {
        /// `SECCOMP_FILTER_FLAG_*`; [`NEW_LISTENER`] for a listener.
        flags: u32,
        /// `struct sock_filter`s.
        program: B,
    },
    /// chdir(2); where the runtime's user may not, [`Op::ChdirAgain`] tries as the container's.
    Chdir {
        /// Absolute path in the container.
        path: B,
    },
    /// Closes every descriptor but the standard streams, those that the program inherits and those
    /// that report: nothing of the runtime is left that a path below /proc/self/fd could lead to.
    CloseDescriptors,
    /// The second try of [`Op::Chdir`], and the check that the directory is inside the root.
    ChdirAgain {
        /// The same path.
        path: B,
    },
    /// Looks `HOME` up in the container's `/etc/passwd`.
    FindHome {
        /// `process.user.uid`.
        uid: u32,
    },
    /// Drops all capabilities but these from the bounding set.
    BoundingSet {
        /// By capability number.
        keep: u64,
    },
    /// setgroups(2).
    Groups {
        /// Little-endian u32 each.
        gids: B,
    },
    /// setresgid(2) and setresuid(2), keeping the permitted capabilities.
    User {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// capset(2) and the ambient set.
    Capabilities(Capabilities),
    /// Finds the program as execvp(3) would.
    FindProgram {
        /// `process.args[0]`.
        name: B,
        /// The value of `PATH` in `process.env`, without NUL.
        path: B,
    },
    /// Goes on as a child, in the pid namespace that was joined, and ends.
    ///
    /// Only here does a process of ours appear among those of a pid namespace that others live in:
    /// with the program's credentials, inside the container's root, and in memory that it shares
    /// with nobody. Whoever may trace it there gains nothing but the program's own rights.
    Reborn {
        /// The standard input is to become its controlling terminal.
        terminal: bool,
    },
    /// Tells the creator.
    Notify(Message),
    /// Waits for the creator.
    Await(Message),
    /// Waits until `start` releases the container.
    AwaitStart,
    /// execve(2).
    Exec {
        /// List.
        args: B,
        /// List.
        env: B,
    },
}

/// A byte over the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Message {
    /// Init: the mounts are in place, and the hooks of the runtime namespace may run.
    Mounted = b'm',
    /// Creator: those hooks have run.
    HooksDone = b'h',
    /// Creator: it has the filter's listener.
    ListenerTaken = b't',
    /// Creator: the process that was reborn is known.
    Adopted = b'a',
    /// Creator: what only it can do to a process in a user namespace is done, its id maps first.
    Admitted = b'd',
    /// Creator: the process is in the cgroup that systemd has made.
    InUnit = b'u',
    /// Init: nothing but `start` and execve is left.
    Ready = b'r',
    /// Creator: go.
    Start = b's',
}

/// Exit status of an init that was handed no plan that it understands. One that failed before it had a
/// page to say so in exits with the errno, which is smaller.
pub const EXIT_NO_PLAN: i32 = 254;

/// First byte of the message in which the init tells the pid that it was [`Op::Reborn`] as, as its
/// own pid namespace numbers it: a little-endian u32 follows.
pub const REBORN: u8 = b'p';

/// First byte of the message in which the init asks for what it may not open itself: the source of
/// a bind mount, or the root. The index of the operation follows, a little-endian u32. The answer is
/// this byte with a descriptor, or with an errno, a little-endian i32.
pub const SOURCE: u8 = b'o';
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (linux/seccomp.h, since Linux 5.0).
pub const NEW_LISTENER: u32 = 1 << 3;

/// First byte of the message in which the init tells the number of the descriptor that is its
/// filter's listener: a little-endian u32 follows.
pub const LISTENER: u8 = b'l';

/// The shared page in which the init tells where it is: byte offsets of little-endian u32s.
///
/// The init stores the index before each operation, so that even a SIGKILL or SIGSYS has a name.
pub mod progress {
    /// Bytes of the file.
    pub const SIZE: usize = 4096;
    /// Index of the operation in progress.
    pub const INDEX: usize = 0;
    /// [`RUNNING`], [`FAILED`] or [`EXECUTING`].
    pub const STATE: usize = 4;
    /// The [`Step`](super::Step) that failed.
    pub const STEP: usize = 8;
    /// Its errno.
    pub const ERRNO: usize = 12;
    /// Bytes of detail.
    pub const DETAIL_LENGTH: usize = 16;
    /// Where the detail begins; it ends with the page.
    pub const DETAIL: usize = 20;

    /// Operations are in progress.
    pub const RUNNING: u32 = 0;
    /// The operation at INDEX failed.
    pub const FAILED: u32 = 1;
    /// The last thing that the init did was execve(2).
    pub const EXECUTING: u32 = 2;
}
