//! A bundle: a root filesystem and the config that a test wants.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{CGROUP_PARENT, Test, by_systemd};
use crate::run::{Done, Run, wait_for};
use crate::suite::payload;
use crate::{Container, rootfs, tmp};

/// A bundle of one test, and the id of the container that it will be.
#[derive(Debug)]
pub struct Bundle<'t> {
    /// The test that it belongs to.
    pub test: &'t Test,
    /// The container's id.
    pub id: String,
    /// Where the bundle is.
    pub dir: PathBuf,
    /// What config.json will be.
    pub config: Value,
    /// Whether systemd makes the cgroup.
    systemd: bool,
    used: Cell<bool>,
}

/// What `spec` of runc writes, without terminal and with a writable root, in a cgroup of our own.
fn default_config(id: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{CGROUP_PARENT}/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    })
}

impl<'t> Bundle<'t> {
    /// A bundle with the default config and a fresh root filesystem.
    #[must_use]
    pub fn new(test: &'t Test) -> Self {
        // The suite's own prefix: what it takes away afterwards must not be another test's.
        let id = tmp::unique(if test.has_payload() { "s" } else { "c" });
        let dir = test.dir().join(&id);
        std::fs::create_dir(&dir).expect("bundle directory");
        let mut config = default_config(&id);
        if test.has_payload() {
            payload::rootfs(&dir.join("rootfs"));
            config["process"]["args"] = json!([payload::PATH]);
        } else {
            rootfs::make(&dir.join("rootfs"));
        }
        let bundle = Self { test, id, dir, config, systemd: false, used: Cell::new(false) };
        if by_systemd() { bundle.systemd() } else { bundle }
    }

    /// Has systemd make the cgroup.
    #[must_use]
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        let path = format!("{CGROUP_PARENT}.slice:test:{}", self.id);
        self.set("/linux/cgroupsPath", json!(path))
    }

    /// The name of the unit, where systemd makes the cgroup.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("test-{}.scope", self.id)
    }

    /// The same with a root filesystem that is there already: for many containers of one test.
    ///
    /// # Panics
    /// Where its directory cannot be made.
    #[must_use]
    pub fn on(test: &'t Test, root: &Path) -> Self {
        let id = tmp::unique("c");
        let dir = test.dir().join(&id);
        std::fs::create_dir(&dir).expect("bundle directory");
        let mut config = default_config(&id);
        config["root"]["path"] = json!(root);
        let bundle = Self { test, id, dir, config, systemd: false, used: Cell::new(false) };
        if by_systemd() { bundle.systemd() } else { bundle }
    }

    /// The directory of the root filesystem, unless it is another's.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The path of the container's cgroup, as `/proc/PID/cgroup` has it.
    #[must_use]
    pub fn cgroup_path(&self) -> String {
        let path = self.cgroup();
        let path = path.strip_prefix("/sys/fs/cgroup").expect("a cgroup");
        format!("/{}", path.display())
    }

    /// The directory of the container's cgroup.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        if self.systemd {
            let (prefix, _) = CGROUP_PARENT.split_once('-').expect("a name of two parts");
            let slices = format!("{prefix}.slice/{CGROUP_PARENT}.slice");
            return PathBuf::from(format!("/sys/fs/cgroup/{slices}/{}", self.unit()));
        }
        PathBuf::from(format!("/sys/fs/cgroup/{CGROUP_PARENT}/{}", self.id))
    }

    /// Sets `process.args`.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Makes the container run a shell script.
    #[must_use]
    pub fn sh(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Sets the field that the JSON pointer names; makes the objects on the way to it.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        *self.field(pointer) = value;
        self
    }

    /// Appends to the list that the JSON pointer names.
    #[must_use]
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        let field = self.field(pointer);
        if field.is_null() {
            *field = json!([]);
        }
        field.as_array_mut().expect("a list").push(value);
        self
    }

    /// Removes the object member that the JSON pointer names.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        self.field(parent).as_object_mut().expect("an object").remove(name);
        self
    }

    /// Appends a mount.
    #[must_use]
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({
            "destination": destination, "type": kind, "source": source, "options": options
        });
        self.push("/mounts", mount)
    }

    /// Removes a namespace from the list.
    #[must_use]
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let list = self.field("/linux/namespaces").as_array_mut().expect("a list");
        list.retain(|ns| ns["type"] != kind);
        self
    }

    /// Writes a file into the root filesystem.
    #[must_use]
    pub fn file(self, path: &str, content: &str, mode: u32) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        std::fs::write(&path, content).expect("file");
        rootfs::mode(&path, mode);
        self
    }

    fn field(&mut self, pointer: &str) -> &mut Value {
        let mut at = &mut self.config;
        for name in pointer.split('/').skip(1) {
            at = match (name.parse::<usize>(), at.is_array()) {
                (Ok(index), true) => &mut at[index],
                _ => &mut at[name],
            };
        }
        at
    }

    /// Writes config.json. From then on a container may exist, which the end of the bundle removes.
    pub fn write(&self) {
        self.used.set(true);
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        std::fs::write(self.dir.join("config.json"), text).expect("config.json");
    }

    /// `create` or `run` with flags, ready to be changed further.
    #[must_use]
    pub fn command(&self, command: &str, flags: &[&str]) -> Run {
        self.write();
        let driver: &[&str] = if self.systemd { &["--systemd-cgroup"] } else { &[] };
        self.test
            .command(driver)
            .args([command, "--bundle"])
            .arg(&self.dir)
            .args(flags)
            .arg(&self.id)
    }

    /// Runs the container attached, to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self) -> Done {
        self.command("run", &[]).done()
    }

    /// Tries to create it.
    #[track_caller]
    #[must_use]
    pub fn try_create(&self) -> Done {
        self.command("create", &[]).done()
    }

    /// Creates it; the test fails where that fails.
    #[track_caller]
    #[must_use]
    pub fn create(self) -> Container<'t> {
        self.detached("create")
    }

    /// Runs it detached; the test fails where that fails.
    #[track_caller]
    #[must_use]
    pub fn run_detached(self) -> Container<'t> {
        self.detached("run")
    }

    #[track_caller]
    fn detached(self, command: &str) -> Container<'t> {
        let pid_file = self.dir.join("pid");
        let mut flags = vec!["--pid-file", pid_file.to_str().expect("UTF-8")];
        if command == "run" {
            flags.push("--detach");
        }
        let run = self.command(command, &flags);
        let output = run.output_file();
        let done = run.done().ok();
        assert!(done.stderr.is_empty(), "a {command} that succeeds says nothing: {done}");
        let pid = std::fs::read_to_string(&pid_file).expect("a pid file");
        let pid = pid.parse().expect("a pid file holds digits and nothing else");
        Container { bundle: self, pid, output }
    }

    /// systemd forgets a unit soon after it has ended, unless it has failed.
    #[track_caller]
    fn wait_for_units_end(&self) {
        let unit = self.unit();
        wait_for(&format!("the end of {unit}"), || {
            let mut command = std::process::Command::new("systemctl");
            let shown = command.args(["show", "--property=LoadState,ActiveState", &unit]).output();
            let text = String::from_utf8(shown.expect("systemctl").stdout).expect("UTF-8");
            text == "LoadState=not-found\nActiveState=inactive\n"
        });
    }

    /// Fails the test if the runtime left anything of this container.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert!(!self.cgroup().exists(), "the cgroup {} stayed", self.cgroup().display());
        if self.systemd {
            self.wait_for_units_end();
        }
        let state = self.test.root().join(&self.id);
        assert!(!state.exists(), "the state {} stayed", state.display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = self.dir.to_string_lossy().into_owned();
        assert!(!mounts.contains(&dir), "mounts stayed on the host below {dir}");
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if !self.used.get() {
            return;
        }
        let done = self.test.command(["delete", "--force", &self.id]).done();
        if !std::thread::panicking() {
            assert!(done.status.success(), "delete --force must always succeed: {done}");
            self.assert_nothing_left();
        }
    }
}
