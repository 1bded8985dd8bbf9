//! The loop: one arm for each operation.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use orlop_init::plan::{
    EXIT_NO_PLAN, Header, LISTENER, Message, NEW_LISTENER, Op, REBORN, SOURCE, Step, VERSION,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::ops;
use crate::progress::{At, Fail, Progress};
use crate::sys;
use orlop_init::wire::Str;

/// Exit status of an init that failed; the shared page says why.
const EXIT_FAILED: i32 = 255;
/// Exit status of an init that contradicts itself.
pub(crate) const EXIT_BUG: i32 = 253;

/// Longest path, with its NUL (PATH_MAX).
pub(crate) const PATH_MAX: usize = 4096;

/// What operations leave for later ones.
pub(crate) struct Init<'a> {
    header: Header<Str<'a>>,
    pub(crate) progress: Progress,
    control: OwnedFd,
    start: Option<OwnedFd>,
    /// The container's root directory, once it is attached.
    pub(crate) root: Option<OwnedFd>,
    /// What is mounted or unmounted in the host's tree would be so on the host, too.
    pub(crate) shared_with_host: bool,
    /// The init is in the runtime's mount namespace: nothing is mounted.
    pub(crate) mounts_are_the_hosts: bool,
    /// The init's own handle on procfs.
    pub(crate) procfs: Option<OwnedFd>,
    /// The host's procfs, where a security module is to be told something.
    pub(crate) host_procfs: Option<OwnedFd>,
    /// Host's `/dev/null` and the tmpfs that cover masked paths.
    pub(crate) covers: ops::masks::Covers,
    /// The directory that held the last device or link.
    pub(crate) last_directory: Option<(&'a [u8], BorrowedFd<'static>)>,
    /// Mounts that turn read-only later.
    pub(crate) sealed: ops::mounts::Sealed,
    /// Where strings are kept: not in here, as each copy of this would hold them.
    pub(crate) memory: sys::Table<u8>,
    /// The program's path, once it is found.
    pub(crate) program: &'static CStr,
    /// `HOME=...`, once it is looked up.
    pub(crate) home: Option<&'static CStr>,
    /// The pid namespace that was joined for children.
    pub(crate) pid_namespace: Option<BorrowedFd<'static>>,
    /// Where argv and envp are put together.
    pub(crate) strings: sys::Table<usize>,
    /// The first chdir was refused to the runtime's user.
    pub(crate) chdir_refused: bool,
    /// The creator's file mode creation mask; the init itself has none.
    pub(crate) umask: u32,
}

/// Executes the plan in the file `plan_fd`; called by the entry of the process.
pub(crate) fn main(plan_fd: Option<RawFd>) -> ! {
    let prepared = plan_fd.ok_or(Fail::new(Step::Decode)).and_then(prepare);
    let (mut init, ops) = match prepared {
        Ok(prepared) => prepared,
        Err(fail) => sys::exit(if fail.errno > 0 { fail.errno } else { EXIT_NO_PLAN }),
    };
    let progress = init.progress;
    if let Err(fail) = execute(&mut init, ops) {
        progress.fail(fail);
    }
    sys::exit(EXIT_FAILED)
}

/// Maps the plan and makes the process one of its own.
fn prepare(plan_fd: RawFd) -> Result<(Init<'static>, &'static [u8]), Fail> {
    let plan_file = sys::inherited(plan_fd).ok_or(Fail::new(Step::Decode))?;
    let size = rustix::fs::fstat(&plan_file).at(Step::Decode)?.st_size;
    let bytes = usize::try_from(size).map_err(|_| Fail::new(Step::Decode))?;
    let plan = sys::map_file(&plan_file, bytes).at(Step::Decode)?;
    sys::retire(plan_file);
    let (header, ops) = postcard::take_from_bytes::<Header<Str<'static>>>(plan)
        .map_err(|_| Fail::new(Step::Decode))?;
    if header.version != VERSION {
        return Err(Fail::new(Step::Decode));
    }
    if !header.admission {
        sys::set_undumpable().at(Step::Whole)?;
    }
    // The program inherits those below; the rest ends with execve(2) at the latest.
    sys::close_range(3 + header.preserve_fds, u32::MAX, true).at(Step::Whole)?;
    let control = sys::inherited(header.control_fd).ok_or(Fail::new(Step::Decode))?;
    let progress = sys::inherited(header.progress_fd).ok_or(Fail::new(Step::Decode))?;
    let page = sys::SharedPage::map(&progress).at(Step::Decode)?;
    sys::retire(progress);
    let progress = Progress(page);
    let start = sys::inherited(header.start_fd);
    let umask = sys::umask(0);
    reset_signals(header.ignored_signals).at(Step::Whole)?;
    if header.session {
        rustix::process::setsid().at(Step::Whole)?;
    } else {
        rustix::process::setpgid(None, None).at(Step::Whole)?;
    }
    let sealed = ops::mounts::Sealed::with_room(header.sealed_mounts).at(Step::Whole)?;
    let strings = usize::try_from(header.strings).map_err(|_| Fail::new(Step::Decode))?;
    let strings = sys::Table::with_room(strings).at(Step::Whole)?;
    let init = Init {
        header,
        progress,
        control,
        start,
        root: None,
        shared_with_host: false,
        mounts_are_the_hosts: false,
        procfs: None,
        host_procfs: None,
        covers: ops::masks::Covers::default(),
        last_directory: None,
        sealed,
        // The two below.
        memory: sys::Table::with_room(2 * PATH_MAX).at(Step::Whole)?,
        program: c"",
        home: None,
        pid_namespace: None,
        strings,
        chdir_refused: false,
        umask,
    };
    Ok((init, ops))
}

/// Ignored signals survive execve(2), and so does the mask; the program shall see neither.
fn reset_signals(ignored: u64) -> Result<(), Errno> {
    for signal in 1..=64_u32 {
        if ignored & (1 << (signal - 1)) != 0 {
            sys::default_signal(signal)?;
        }
    }
    sys::unblock_signals()
}

fn execute<'a>(init: &mut Init<'a>, mut ops: &'a [u8]) -> Result<(), Fail> {
    for index in 0..init.header.ops {
        init.progress.begin(index);
        let (op, rest) =
            postcard::take_from_bytes::<Op<Str<'a>>>(ops).map_err(|_| Fail::new(Step::Decode))?;
        ops = rest;
        run(init, op)?;
    }
    Ok(())
}

fn run<'a>(init: &mut Init<'a>, op: Op<Str<'a>>) -> Result<(), Fail> {
    match op {
        Op::JoinNamespace { slot, flag } => init.join(slot, flag),
        Op::Unshare { flags } => sys::unshare(flags).at(Step::Whole),
        Op::CheckIdMaps { uids, gids } => ops::ids::check_maps(uids.0, gids.0),
        Op::NamespaceUser { uid, gid } => ops::ids::become_setter(uid, gid),
        Op::OpenProcfs => {
            init.host_procfs = Some(ops::attributes::host_procfs()?);
            Ok(())
        }
        Op::Attribute { name, value } => ops::attributes::write(init, name.0, value.0),
        Op::TimeNamespace { offsets } => ops::time::enter_new(offsets.0),
        Op::Affinity { cpus, tolerant } => ops::schedule::affinity(cpus.0, tolerant),
        Op::Scheduler(new) => sys::sched_setattr(&new).at(Step::Whole),
        Op::IoPriority { class, level } => sys::set_io_priority(class, level).at(Step::Whole),
        Op::MemoryPolicy { mode, nodes } => sys::set_mempolicy(mode, nodes.0).at(Step::Whole),
        Op::SessionKeyring { name, permissions } => {
            ops::process::session_keyring(name.c_str()?, permissions)
        }
        Op::LoopbackUp => sys::loopback_up().at(Step::Whole),
        Op::HostPropagation { change } => ops::root::host_propagation(change),
        Op::OpenRoot { path, isolate } => ops::root::open(init, path.c_str()?, isolate),
        Op::OpenRootInPlace { path } => ops::root::open_in_place(init, path.c_str()?),
        Op::UseRoot => ops::root::use_current(init),
        Op::Chroot { slot } => ops::root::enter(init.slot(slot)?),
        Op::Bind(bind) => ops::mounts::bind(init, &bind),
        Op::Filesystem(filesystem) => ops::mounts::filesystem(init, &filesystem),
        Op::Relabel { target, label } => ops::mounts::relabel(init, target.c_str()?, label.0),
        Op::Remount { target, attributes, tree_attributes } => {
            ops::mounts::remount(init, target.c_str()?, attributes, tree_attributes)
        }
        Op::Sysctl { path, value } => ops::sysctl::write(init, path.c_str()?, value.0),
        Op::Device(device) => ops::devices::node(init, &device),
        Op::Symlink { target, path, replace } => {
            ops::devices::symlink(init, target.c_str()?, path.c_str()?, replace)
        }
        Op::RunHook(hook) => ops::hooks::run(init, &hook),
        Op::MaskPath { path } => ops::masks::mask(init, path.c_str()?),
        Op::ReadonlyPath { path } => ops::masks::read_only(init, path.c_str()?),
        Op::EnterRoot => ops::root::chroot(init),
        Op::PivotRoot => ops::root::pivot(init),
        Op::HideMount { path } => ops::root::hide(init, path.c_str()?),
        Op::MoveRoot => ops::root::move_over(init),
        Op::RootPropagation { change } => ops::root::propagation(init, change),
        Op::CreateCwd { path } => ops::process::create_cwd(init, path.c_str()?),
        Op::Terminal(terminal) => ops::terminal::set_up(init, &terminal),
        Op::ReopenNull { streams } => ops::terminal::reopen_null(init, streams),
        Op::SealMounts => init.sealed.seal(),
        Op::SealRoot => ops::root::seal(init),
        Op::Hostname { name } => rustix::system::sethostname(name.0).at(Step::Whole),
        Op::Domainname { name } => rustix::system::setdomainname(name.0).at(Step::Whole),
        Op::Personality { persona } => sys::personality(persona).at(Step::Whole),
        Op::Rlimit { resource, soft, hard } => {
            sys::set_rlimit(resource, soft, hard).at(Step::Whole)
        }
        Op::Umask { mask } => {
            sys::umask(mask);
            Ok(())
        }
        Op::NoNewPrivileges => sys::set_no_new_privileges().at(Step::Whole),
        Op::Seccomp { flags, program } => init.load_filter(flags, program.0),
        Op::Chdir { path } => ops::process::chdir(init, path.c_str()?),
        Op::CloseDescriptors => ops::process::close_descriptors(init),
        Op::ChdirAgain { path } => ops::process::chdir_again(init, path.c_str()?),
        Op::FindHome { uid } => ops::program::find_home(init, uid),
        Op::BoundingSet { keep } => ops::process::bounding_set(keep),
        Op::Groups { gids } => ops::process::groups(gids.0),
        Op::User { uid, gid } => ops::process::user(uid, gid),
        Op::Capabilities(sets) => ops::process::capabilities(sets),
        Op::FindProgram { name, path } => ops::program::find(init, name.c_str()?, path.0),
        Op::Reborn { terminal } => init.reborn(terminal),
        Op::Notify(message) => init.notify(message),
        Op::Await(Message::Admitted) => init.wait_for_admission(),
        Op::Await(message) => init.wait_for(message),
        Op::AwaitStart => init.wait_for_start(),
        Op::Exec { args, env } => ops::program::execute(init, args, env),
    }
}

/// A message of up to five bytes, with the descriptor that may come along.
fn receive(socket: BorrowedFd<'_>) -> Result<([u8; 5], Option<OwnedFd>), Errno> {
    let mut bytes = [0; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut all) => all.next(),
        _ => None,
    });
    Ok((bytes, descriptor))
}

impl Init<'_> {
    /// The container's root; no operation needs it before [`Op::OpenRoot`].
    pub(crate) fn root(&self) -> Result<BorrowedFd<'_>, Fail> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Fail::new(Step::Decode))
    }

    /// The descriptor of a slot.
    pub(crate) fn slot(&self, slot: u16) -> Result<BorrowedFd<'static>, Fail> {
        let (numbers, _) = self.header.slots.0.as_chunks::<4>();
        let number = numbers.get(usize::from(slot)).ok_or(Fail::new(Step::Decode))?;
        sys::inherited(i32::from_le_bytes(*number))
            .map(sys::leave_open)
            .ok_or(Fail::new(Step::Decode))
    }

    /// Forgets every descriptor that is only needed to set up: they are about to be closed.
    pub(crate) fn release_descriptors(&mut self) {
        let root = self.root.take();
        let (procfs, host_procfs) = (self.procfs.take(), self.host_procfs.take());
        for fd in [root, procfs, host_procfs].into_iter().chain(self.covers.take()).flatten() {
            sys::leave_open(fd);
        }
        self.last_directory = None;
    }

    /// The first descriptor that the program does not inherit.
    pub(crate) fn first_own_descriptor(&self) -> u32 {
        3 + self.header.preserve_fds
    }

    /// The descriptors that must outlive all others until execve(2).
    pub(crate) fn last_descriptors(&self) -> [Option<u32>; 2] {
        [Some(&self.control), self.start.as_ref()]
            .map(|fd| fd.and_then(|fd| u32::try_from(fd.as_raw_fd()).ok()))
    }

    fn join(&mut self, slot: u16, flag: u32) -> Result<(), Fail> {
        const CLONE_NEWPID: u32 = 0x2000_0000;
        let namespace = self.slot(slot)?;
        if flag == CLONE_NEWPID {
            self.pid_namespace = Some(namespace);
        }
        sys::setns(namespace, flag).at(Step::Whole)
    }

    /// Goes on as a child of the creator in the joined pid namespace.
    fn reborn(&self, terminal: bool) -> Result<(), Fail> {
        if let Some(child) = sys::clone_sibling().at(Step::Clone)? {
            let [a, b, c, d] = child.to_le_bytes();
            let message = [REBORN, a, b, c, d];
            let told = rustix::io::retry_on_intr(|| rustix::io::write(&self.control, &message));
            told.at(Step::CreatorGone)?;
            sys::exit(0)
        }
        // Until then in its predecessor's process group, where the creator finds it if that could
        // not name it.
        self.wait_for(Message::Adopted)?;
        rustix::process::setsid().at(Step::Whole)?;
        if terminal {
            let terminal = sys::inherited(0).ok_or(Fail::new(Step::SetPty))?;
            rustix::process::ioctl_tiocsctty(sys::leave_open(terminal)).at(Step::SetPty)?;
        }
        Ok(())
    }

    /// Loads the filter, and has the creator take its listener before anything can hang on it.
    ///
    /// The creator takes it out of this process, by pidfd_getfd(2): sending it would take
    /// sendmsg(2), which the profile may have given to the agent. A write and a read it takes all
    /// the same; the plan was checked for that. Nor does it stay here: whoever could trace this
    /// process in the container would answer in the agent's place.
    fn load_filter(&self, flags: u32, program: &[u8]) -> Result<(), Fail> {
        let number = sys::load_seccomp(flags, program).at(Step::Whole)?;
        if flags & NEW_LISTENER == 0 {
            return Ok(());
        }
        let listener = sys::inherited(number).ok_or(Fail::new(Step::Listener))?;
        let [a, b, c, d] = number.to_le_bytes();
        rustix::io::retry_on_intr(|| rustix::io::write(&self.control, &[LISTENER, a, b, c, d]))
            .at(Step::CreatorGone)?;
        self.wait_for(Message::ListenerTaken)?;
        drop(listener);
        Ok(())
    }

    fn notify(&self, message: Message) -> Result<(), Fail> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.control, &[message as u8]))
            .map(drop)
            .map_err(|errno| Fail::errno(Step::CreatorGone, errno))
    }

    fn wait_for(&self, message: Message) -> Result<(), Fail> {
        let mut byte = [0];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut byte))
            .at(Step::CreatorGone)?;
        if count == 1 && byte == [message as u8] {
            Ok(())
        } else {
            Err(Fail::new(Step::CreatorGone))
        }
    }

    /// Until here the creator could reach the process by its files in `/proc`.
    fn wait_for_admission(&self) -> Result<(), Fail> {
        self.wait_for(Message::Admitted)?;
        sys::set_undumpable().at(Step::Whole)
    }

    /// Has the creator open what this operation names on the host, in this mount namespace: the
    /// user of a user namespace may not enter every directory on the way.
    pub(crate) fn ask_for_source(&self) -> Result<OwnedFd, Fail> {
        let [a, b, c, d] = self.progress.index().to_le_bytes();
        rustix::io::write(&self.control, &[SOURCE, a, b, c, d]).at(Step::AskForSource)?;
        let (answer, descriptor) = receive(self.control.as_fd()).at(Step::AskForSource)?;
        match (descriptor, answer) {
            (Some(source), [SOURCE, 0, 0, 0, 0]) => Ok(source),
            (None, [SOURCE, a, b, c, d]) => {
                Err(Fail { step: Step::OpenSource, errno: i32::from_le_bytes([a, b, c, d]) })
            }
            _ => Err(Fail::new(Step::CreatorGone)),
        }
    }

    /// A created container ends on the signals that end a program, though it may be pid 1.
    fn wait_for_start(&self) -> Result<(), Fail> {
        let Some(fifo) = &self.start else {
            return self.wait_for(Message::Start);
        };
        for signal in [1, 2, 3, 15] {
            sys::end_on_signal(signal).at(Step::Whole)?;
        }
        // The descriptor is open for writing too, so that this never sees end of file.
        let mut byte = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(fifo, &mut byte)).map(drop).at(Step::Whole)
    }
}
