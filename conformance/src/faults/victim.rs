//! A container with something of everything that confines one, which is made over and over, and what is to be said
//! of it afterwards.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::{Value, json};

use super::{Fault, Inside, Wrong, inside};
use crate::caller::{Caller, Side, own};
use crate::console::{ConsoleSocket, Terminals};
use crate::rootless::{SUB, USER};
use crate::run::{Running, limit, lossy, wait_for};
use crate::{Bundle, Done, Run, Test, rootfs, traces};

/// The hooks that it has, in their order.
pub const HOOKS: [&str; 5] =
    ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// What is special about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Plain,
    /// A user namespace of its own with three ranges of ids.
    Ranges,
    /// A terminal.
    Terminal,
    /// Somebody else's pid namespace: its init begins there anew.
    JoinedPid,
    /// A limit that can be changed.
    Limited,
    /// Its program ends by itself.
    Brief,
    /// It is never ready: a hook of it does not end.
    Stuck,
    /// The same, an ordinary user's, without a cgroup.
    RootlessStuck,
    /// It is an ordinary user's, with that user's id and no cgroup.
    Rootless,
    /// It is an ordinary user's, with subordinate ids, in a cgroup below that user's.
    RootlessRanges,
}

impl Shape {
    /// The user and group of its program, and of what `exec` runs.
    fn users(self) -> [u32; 2] {
        match self {
            Self::Rootless | Self::RootlessStuck => [0, 0],
            Self::RootlessRanges => [1000, 999],
            _ => [1000, 1001],
        }
    }

    fn is_rootless(self) -> bool {
        matches!(self, Self::Rootless | Self::RootlessRanges | Self::RootlessStuck)
    }

    fn is_stuck(self) -> bool {
        matches!(self, Self::Stuck | Self::RootlessStuck)
    }
}

/// A container with something of everything that confines it, which is made over and over.
#[derive(Debug)]
pub struct Victim<'t> {
    /// The test whose it is.
    pub t: &'t Test,
    /// What it is made of.
    pub bundle: Bundle<'t>,
    /// The state root.
    pub root: String,
    /// What the container's program has said, unless it has a terminal.
    pub output: PathBuf,
    /// What the command has said.
    pub errors: PathBuf,
    shape: Shape,
    /// Whose it is, unless it is root's.
    caller: Option<Caller>,
    runtime: PathBuf,
    /// Where terminals are sent to.
    terminals: RefCell<Terminals>,
    /// Who holds the pid namespace that is joined.
    _host: Option<Running>,
}

fn hooks(bundle: &Bundle<'_>) -> Value {
    let busybox = bundle.rootfs().join("bin/busybox");
    let mut hooks = serde_json::Map::new();
    for stage in HOOKS {
        let inside = stage == "startContainer";
        let path = if inside { PathBuf::from("/bin/busybox") } else { busybox.clone() };
        let mark = if inside { PathBuf::from("/shared") } else { bundle.dir.join("shared") };
        let hook = json!({"path": path, "args": ["touch", mark.join(stage)]});
        hooks.insert(stage.to_owned(), json!([hook]));
    }
    hooks.into()
}

/// Something of everything.
fn configured(t: &Test) -> Bundle<'_> {
    let mut bundle = t.bundle().sh(&format!("{}; sleep 1000", inside::SCRIPT));
    for directory in [
        "rootfs/masked",
        "rootfs/hidden",
        "rootfs/copied",
        "rootfs/shared",
        "rootfs/data",
        "shared",
        "data",
    ] {
        std::fs::create_dir(bundle.dir.join(directory)).unwrap();
    }
    rootfs::mode(&bundle.dir.join("shared"), 0o777);
    let (shared, data) = (bundle.dir.join("shared"), bundle.dir.join("data"));
    let hooks = hooks(&bundle);
    let all = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let some = json!(["CAP_NET_BIND_SERVICE"]);
    let mounts = bundle.config["mounts"].as_array().unwrap().clone();
    let without = ["/dev/mqueue", "/dev/shm"];
    let mounts = mounts.into_iter().filter(|m| !without.iter().any(|w| m["destination"] == *w));
    bundle.config["mounts"] = mounts.collect();
    bundle
        .file("masked/secret", "secret", 0o644)
        .file("hidden/secret", "secret", 0o644)
        .file("copied/file", "copied", 0o640)
        .set("/root/readonly", json!(true))
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 1001], "umask": 0o27}))
        .set("/process/capabilities", json!({"bounding": all, "permitted": all, "effective": some, "inheritable": some, "ambient": some}))
        .set("/process/oomScoreAdj", json!(500))
        .set("/process/cwd", json!("/tmp"))
        .set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]))
        .set("/domainname", json!("faults"))
        .set("/linux/personality", json!({"domain": "LINUX32"}))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}))
        .push("/linux/devices", json!({"type": "c", "path": "/dev/kmsg", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 1000, "gid": 1000}))
        .set("/linux/maskedPaths", json!(["/proc/keys", "/proc/scsi", "/sys/firmware", "/masked/secret", "/hidden"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/irq"]))
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 117}]}))
        .mount("/copied", "tmpfs", "tmpfs", &["nosuid", "tmpcopyup"])
        .mount("/shared", "bind", shared.to_str().unwrap(), &["bind", "nodev", "rslave"])
        .mount("/data", "bind", data.to_str().unwrap(), &["rbind", "ro"])
        .set("/hooks", hooks)
}

/// What `exec` is to run.
fn process(shape: Shape) -> Value {
    let [_, id] = shape.users();
    let groups: &[u32] = if shape.is_rootless() { &[] } else { &[5] };
    let all = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let some = json!(["CAP_NET_BIND_SERVICE"]);
    json!({
        "args": ["/bin/sh", "-c", inside::SCRIPT],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "EXEC=1"],
        "user": {"uid": id, "gid": id, "additionalGids": groups, "umask": 0o77},
        "capabilities": {"bounding": all, "permitted": some, "effective": some, "inheritable": some, "ambient": some},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 256, "soft": 128}],
        "oomScoreAdj": 600,
        "noNewPrivileges": true
    })
}

/// Ids 0 to 999, 1000, and the others are three ranges on the host.
fn ranges<'t>(t: &Test, bundle: Bundle<'t>) -> Bundle<'t> {
    let map = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    let maps = json!([map(0, 100_000, 1000), map(1000, 300_000, 1), map(1001, 200_000, 64000)]);
    for dir in [t.dir(), &bundle.dir] {
        rootfs::mode(dir, 0o755);
    }
    own(&bundle.rootfs(), 100_000);
    let bundle = bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps)
}

fn stuck(bundle: Bundle<'_>) -> Bundle<'_> {
    let mark = bundle.dir.join("shared/createContainer");
    let script = format!("touch {}; sleep 1000", mark.display());
    bundle.set("/hooks/createContainer/0/args", json!(["sh", "-c", script]))
}

/// What an ordinary user may ask for: no cgroup, no further groups, no devices, no sysctls of root's; and nothing that
/// takes an id which is not there.
fn rootless<'t>(t: &Test, bundle: Bundle<'t>, shape: Shape) -> Bundle<'t> {
    let mut maps = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let [id, _] = shape.users();
    let mut bundle = bundle;
    if shape == Shape::RootlessRanges {
        let (first, size) = SUB;
        maps.as_array_mut().unwrap().push(json!({"containerID": 1, "hostID": first, "size": size}));
    } else {
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    }
    for dir in [t.dir(), &bundle.dir] {
        rootfs::mode(dir, 0o755);
    }
    own(&bundle.dir, USER);
    std::fs::create_dir(t.root()).unwrap();
    own(&t.root(), USER);
    bundle
        .set("/process/user", json!({"uid": id, "gid": id, "umask": 0o27}))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        .remove("/linux/devices")
        .remove("/linux/resources")
        .remove("/linux/cgroupsPath")
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps)
}

/// A pid namespace, and who keeps it.
fn pid_namespace(t: &Test) -> (String, Running) {
    // The init of a pid namespace is who waits for its orphans: a shell does so between its commands.
    let script = "while :; do /bin/busybox sleep 0.05; done";
    let args = ["--pid", "--fork", "--kill-child", "/bin/busybox", "sh", "-c", script];
    let host = Run::new("unshare", t.dir()).args(args).spawn();
    let mut first = String::new();
    wait_a_little(|| {
        let children = lossy(Path::new(&format!("/proc/{0}/task/{0}/children", host.pid())));
        first = children.trim().to_owned();
        !first.is_empty()
    });
    (format!("/proc/{first}/ns/pid"), host)
}

impl<'t> Victim<'t> {
    /// A bundle, and no container yet.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn new(t: &'t Test, shape: Shape) -> Self {
        let bundle = configured(t);
        let (mut host, mut caller) = (None, None);
        let mut runtime = t.runtime().to_owned();
        let bundle = match shape {
            Shape::Plain => bundle,
            Shape::Stuck => stuck(bundle),
            Shape::Brief => bundle.sh(inside::SCRIPT),
            Shape::Rootless | Shape::RootlessRanges | Shape::RootlessStuck => {
                // The build may be where an ordinary user cannot read.
                runtime = t.dir().join(t.runtime().file_name().unwrap());
                rootfs::copy_program(t.runtime(), &runtime);
                let delegated = shape == Shape::RootlessRanges;
                let user = Caller::new(&bundle.id, delegated);
                caller = Some(if delegated { user.with_ranges() } else { user });
                let bundle = if shape.is_stuck() { stuck(bundle) } else { bundle };
                rootless(t, bundle, shape)
            }
            Shape::Ranges => ranges(t, bundle),
            Shape::Terminal => bundle.set("/process/terminal", json!(true)),
            Shape::JoinedPid => {
                let (path, holder) = pid_namespace(t);
                host = Some(holder);
                let bundle = bundle.without_namespace("pid");
                bundle.push("/linux/namespaces", json!({"type": "pid", "path": path}))
            }
            Shape::Limited => bundle.set(
                "/linux/resources/hugepageLimits",
                json!([{"pageSize": "2MB", "limit": 4 << 20}]),
            ),
        };
        bundle.write();
        let mut process = process(shape);
        std::fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
        process["terminal"] = json!(true);
        std::fs::write(bundle.dir.join("terminal.json"), process.to_string()).unwrap();
        let (output, errors) = (t.dir().join("inside"), t.dir().join("errors"));
        let terminals = RefCell::new(ConsoleSocket::listen(t).into());
        let root = t.root().to_str().unwrap().to_owned();
        Self { t, bundle, root, output, errors, shape, caller, runtime, terminals, _host: host }
    }

    /// `create` or `run` with the options that it needs, up to the id.
    #[must_use]
    pub fn making(&self, command: &[&str]) -> Vec<String> {
        let mut all: Vec<_> = command.iter().map(|arg| (*arg).to_owned()).collect();
        all.extend(["--bundle".to_owned(), self.bundle.dir.to_str().unwrap().to_owned()]);
        if self.shape == Shape::Terminal {
            all.extend(["--console-socket".to_owned(), self.console()]);
        }
        all.push(self.id().to_owned());
        all
    }

    /// Where a terminal can be sent to.
    #[must_use]
    pub fn console(&self) -> String {
        self.terminals.borrow().path().to_str().unwrap().to_owned()
    }

    /// Whose commands those that are made to fail are, unless they are root's.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The program under test, where its caller may execute it.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, side: Side) -> Run {
        let Some(caller) = &self.caller else { return self.t.command(args) };
        let run = Run::new(&self.runtime, self.t.dir()).arg("--root").arg(&self.root);
        run.args(args).by(caller, side)
    }

    /// A command that makes or executes something, undisturbed, with the output that is looked into.
    ///
    /// # Panics
    /// Where it fails.
    pub fn does<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) {
        let output = File::options().append(true).create(true).open(&self.output).unwrap();
        let _ = self.command(args, Side::Inside).stdout(output).done().ok();
    }

    /// Any other command, undisturbed.
    #[must_use]
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        // What the caller's cgroup holds is the container's, and this is not.
        self.command(args, Side::Outside).done()
    }

    /// The user of its program, and of what `exec` runs.
    #[must_use]
    pub fn users(&self) -> [u32; 2] {
        self.shape.users()
    }

    fn cgroup(&self) -> PathBuf {
        match &self.caller {
            Some(caller) => caller.cgroup_of(self.id()),
            None => self.bundle.cgroup(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// `create` or `run`, undisturbed.
    ///
    /// # Panics
    /// Where that fails.
    pub fn made(&self, command: &[&str]) {
        self.forget();
        self.does(self.making(command));
    }

    /// What `create` leaves that is killed while a hook of a stuck one runs.
    ///
    /// # Panics
    /// Where that hook is not run.
    pub fn left_by_create(&self) {
        self.forget();
        let create = self.command(self.making(&["create"]), Side::Inside).spawn();
        let mark = self.bundle.dir.join("shared/createContainer");
        wait_for("the hook", || mark.exists());
        // Which kills it.
        drop(create);
    }

    /// `run`, undisturbed, until its program has said what it is.
    ///
    /// # Panics
    /// Where it does not.
    pub fn started(&self) {
        self.made(&["run", "--detach"]);
        assert!(self.inside().is_some());
    }

    /// Removes what an earlier container has told.
    pub fn forget(&self) {
        self.terminals.borrow_mut().forget();
        let _missing = std::fs::remove_file(&self.output);
        for hook in HOOKS {
            let _missing = std::fs::remove_file(self.bundle.dir.join("shared").join(hook));
        }
    }

    /// What the program inside says; `None` where it does not come to its end.
    #[must_use]
    pub fn inside(&self) -> Option<Inside> {
        let mut inside = None;
        wait_a_little(|| {
            inside = Inside::parse(&self.said());
            inside.is_some()
        });
        inside
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        lossy(&self.output) + &self.terminals.borrow_mut().text()
    }

    /// The state's word; `None` where there is no container.
    ///
    /// # Errors
    /// `state` fails, or contradicts itself.
    pub fn status(&self) -> Result<Option<String>, String> {
        let done = self.call(&["state", self.id()]);
        if !done.status.success() {
            let none = done.code() == 1 && done.stderr.contains("container does not exist");
            return if none { Ok(None) } else { Err(format!("{done}")) };
        }
        let state = done.json();
        let status = state["status"].as_str().unwrap_or_default().to_owned();
        let consistent = (state["pid"] == 0) == (status == "stopped") && state["id"] == self.id();
        if consistent { Ok(Some(status)) } else { Err(format!("the state is {state}")) }
    }

    /// The same.
    ///
    /// # Errors
    /// It is another than these.
    pub fn status_is(&self, possible: &[&str]) -> Result<Option<String>, String> {
        let status = self.status()?;
        let known = status.as_deref().is_none_or(|status| possible.contains(&status));
        if known { Ok(status) } else { Err(format!("the status is {status:?}")) }
    }

    /// What is there of the container.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        wait_a_little(|| {
            // Whoever writes to a terminal waits for its reader.
            drop(self.said());
            traces::processes_after_reaping(self.id()).is_empty()
        });
        left.extend(traces::processes_after_reaping(self.id()).iter().map(|p| format!("{p:?}")));
        if self.cgroup().exists() {
            left.push("its cgroup".to_owned());
        }
        for entry in std::fs::read_dir(self.t.root()).into_iter().flatten() {
            left.push(format!("{}", entry.unwrap().path().display()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.bundle.dir.to_str().unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(dir)).map(str::to_owned));
        left
    }

    /// Nothing is there of the container.
    ///
    /// # Errors
    /// What is there.
    pub fn nothing_left(&self) -> Result<(), String> {
        let left = self.left();
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join("; "))) }
    }

    /// `delete --force` succeeds, and nothing is there then.
    ///
    /// # Errors
    /// It fails, or something is there.
    pub fn removed(&self) -> Result<(), String> {
        let mut delete = self.command(["delete", "--force", self.id()], Side::Outside).spawn();
        // A pid namespace is gone when all of it have been waited for: this is the parent of what `exec` has left.
        while delete.runs() {
            let _others = traces::processes_after_reaping(self.id());
            std::thread::sleep(Duration::from_millis(2));
        }
        let done = delete.done();
        if !done.status.success() || !done.stderr.is_empty() {
            return Err(format!("after it: {done}"));
        }
        self.nothing_left().map_err(|left| format!("after delete --force: {left}"))
    }

    /// These hooks have run.
    ///
    /// # Errors
    /// Which has not.
    pub fn hooks_ran(&self, stages: &[&str]) -> Result<(), String> {
        for stage in stages {
            if !self.bundle.dir.join("shared").join(stage).exists() {
                return Err(format!("the {stage} hook did not run"));
            }
        }
        Ok(())
    }
}

/// Waits until something is so, or for longer than it could take, however busy the machine is.
pub fn wait_a_little(mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + limit();
    while !ready() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A user's id, as `/proc/PID/status` has it.
#[must_use]
pub fn ids(user: u32) -> String {
    [user; 4].map(|id| id.to_string()).join("\t")
}

/// What an undisturbed container is, which is as its config says.
///
/// # Panics
/// Where it is not.
#[must_use]
pub fn model(victim: &Victim<'_>) -> Inside {
    if victim.shape == Shape::Brief {
        victim.made(&["run"]);
    } else {
        victim.started();
    }
    let inside = victim.inside().unwrap();
    victim.hooks_ran(&HOOKS[..4]).unwrap();
    victim.removed().unwrap();
    victim.hooks_ran(&HOOKS[4..]).unwrap();
    assert_eq!(inside.status("Uid"), ids(victim.users()[0]));
    assert_eq!(inside.status("CapBnd"), "0000000020000420");
    // execve(2) gives root all that it may have.
    let is_root = victim.users()[0] == 0;
    let effective = if is_root { "0000000020000420" } else { "0000000000000400" };
    assert_eq!(inside.status("CapEff"), effective);
    assert_eq!(inside.status("CapAmb"), "0000000000000400");
    assert_eq!(
        (inside.status("NoNewPrivs").as_str(), inside.status("Seccomp").as_str()),
        ("1", "2")
    );
    let mounts = inside.section("mountinfo").join("\n");
    for mask in ["/proc/keys", "/masked/secret", "/hidden", "/proc/sys", "/data", "/copied"] {
        assert!(mounts.contains(&format!(" on {mask} type ")), "{mask}: {mounts}");
    }
    let refused = inside.section("refused").join("\n");
    for words in ["Structure needs cleaning", "Read-only file system"] {
        assert!(refused.contains(words), "{refused}");
    }
    // A bind mount of the host's device, which has no owner in a user namespace.
    let kmsg = ["Operation not permitted", "Permission denied"];
    let is_refused = kmsg.iter().any(|words| refused.contains(&format!("kmsg: {words}")));
    assert!(is_refused || victim.shape.is_rootless(), "{refused}");
    assert_eq!(inside.section("/masked/secret"), &[] as &[String]);
    inside
}

/// What makes a difference: an /etc/passwd that may not be read is as good as none, as an image may have it.
fn differences(model: &Inside, inside: &Inside, fault: &Fault) -> Vec<String> {
    let no_passwd = fault.name == "openat2" && fault.wrong == Wrong::Fails(libc::EACCES);
    let mut differences = model.differences(inside);
    differences.retain(|line| !(no_passwd && line.contains(" HOME=")));
    differences
}

/// A container that was made in spite of a fault is the same as one that was made without.
///
/// # Errors
/// What differs.
pub fn is_confined(victim: &Victim<'_>, model: &Inside, fault: &Fault) -> Result<(), String> {
    let inside = victim.inside().ok_or_else(|| {
        let said = victim.said();
        let last: Vec<_> = said.lines().rev().take(3).collect();
        format!("its program did not get through; it said last, in reverse: {last:?}")
    })?;
    let differences = differences(model, &inside, fault);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!("SUCCESS, BUT THE CONTAINER DIFFERS:\n  {}", differences.join("\n  ")))
    }
}
