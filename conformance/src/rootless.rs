//! A caller who is not root.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::caller::own;
use crate::{Done, Run, Test, rootfs, tmp};

/// Who calls.
pub const USER: u32 = 1000;
/// Where its subordinate ids begin, and how many there are.
pub const SUB: (u32, u32) = (200_000, 1000);

/// The caller's bundle and state, and what its commands are run by.
#[derive(Debug)]
pub struct Rootless<'t> {
    t: &'t Test,
    /// The caller's own directory, and the bundle's.
    pub dir: PathBuf,
    program: PathBuf,
    /// The container.
    pub id: String,
    /// config.json.
    pub config: Value,
    /// A command that the caller's follows, run by root.
    pub before: Vec<String>,
    /// The same, run by the caller.
    pub within: Vec<String>,
    /// The caller's D-Bus, and with it systemd as the one who makes cgroups.
    pub bus: Option<String>,
}

impl<'t> Rootless<'t> {
    /// With what `spec --rootless` writes, but without a terminal.
    pub fn new(t: &'t Test) -> Self {
        rootfs::mode(t.dir(), 0o755);
        let dir = t.dir().join(tmp::unique("home"));
        std::fs::create_dir(&dir).unwrap();
        rootfs::make(&dir.join("rootfs"));
        std::fs::create_dir(dir.join("run")).unwrap();
        let program = dir.join(t.runtime().file_name().unwrap());
        rootfs::copy_program(t.runtime(), &program);
        own(&dir, USER);
        let mut new = Self {
            t,
            dir,
            program,
            id: tmp::unique("r"),
            config: Value::Null,
            before: Vec::new(),
            within: Vec::new(),
            bus: None,
        };
        let _ = new.call(&["spec", "--rootless", "--bundle", new.dir.to_str().unwrap()]).ok();
        let text = std::fs::read_to_string(new.dir.join("config.json")).unwrap();
        new.config = serde_json::from_str(&text).unwrap();
        new.config["process"]["terminal"] = json!(false);
        new.config["root"]["readonly"] = json!(false);
        new
    }

    /// The container's program is a shell with this script.
    #[must_use]
    pub fn sh(mut self, script: &str) -> Self {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        self
    }

    /// Sets a field of config.json.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    /// The maps of `/etc/subuid` and `/etc/subgid`, beside the caller itself.
    #[must_use]
    pub fn with_ranges(mut self) -> Self {
        let map = json!([
            {"containerID": 0, "hostID": USER, "size": 1},
            {"containerID": 1, "hostID": SUB.0, "size": SUB.1}
        ]);
        self = self.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let (ids, passwd) = (self.t.dir().join("ids"), self.t.dir().join("passwd"));
        std::fs::write(&ids, format!("caller:{}:{}\n", SUB.0, SUB.1)).unwrap();
        std::fs::write(&passwd, format!("caller:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
        let script = format!(
            "touch /etc/subuid /etc/subgid; mount --bind {0} /etc/subuid && \
             mount --bind {0} /etc/subgid && mount --bind {1} /etc/passwd && exec \"$@\"",
            ids.display(),
            passwd.display()
        );
        let before = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
        self.before.splice(0..0, before.map(str::to_owned));
        self
    }

    /// A command of the caller's.
    #[must_use]
    pub fn run_of(&self, args: &[&str]) -> Run {
        let id = USER.to_string();
        let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"];
        let program = self.program.to_str().unwrap();
        let (before, within) = (self.before.iter(), self.within.iter());
        let all = before.map(String::as_str).chain(user).chain(within.map(String::as_str));
        let systemd = self.bus.is_some().then_some("--systemd-cgroup");
        let all = all.chain([program]).chain(systemd);
        let all: Vec<&str> = all.chain(args.iter().copied()).collect();
        let run = Run::new(all[0], self.t.dir()).args(&all[1..]);
        let run = run.env("XDG_RUNTIME_DIR", self.dir.join("run")).cwd(&self.dir);
        match &self.bus {
            Some(bus) => run.env("DBUS_SESSION_BUS_ADDRESS", bus),
            None => run,
        }
    }

    /// Runs one to its end.
    #[must_use]
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        self.run_of(args).done()
    }

    /// Writes config.json.
    pub fn write(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    /// `run`
    #[must_use]
    #[track_caller]
    pub fn run(&self) -> Done {
        self.write();
        self.call(&["run", &self.id])
    }

    /// `run --detach`; the pid.
    #[must_use]
    #[track_caller]
    pub fn start(&self) -> i32 {
        self.write();
        let _ = self.call(&["run", "--detach", "--pid-file", "pid", &self.id]).ok();
        std::fs::read_to_string(self.dir.join("pid")).unwrap().parse().unwrap()
    }

    /// The caller has a hold on the container's cgroup: it is paused and resumed, and its process `pid` is listed.
    #[track_caller]
    pub fn assert_managed(&self, pid: i32) {
        let _ = self.call(&["pause", &self.id]).ok();
        assert_eq!(self.call(&["state", &self.id]).ok().json()["status"], "paused");
        let _ = self.call(&["resume", &self.id]).ok();
        let pids = self.call(&["ps", "--format", "json", &self.id]).ok().json();
        assert!(pids.as_array().unwrap().contains(&json!(pid)), "{pids}");
    }

    /// `exec` of a shell.
    #[must_use]
    #[track_caller]
    pub fn exec(&self, script: &str) -> Done {
        self.call(&["exec", &self.id, "/bin/sh", "-c", script])
    }
}

impl Drop for Rootless<'_> {
    fn drop(&mut self) {
        let _: Done = self.call(&["delete", "--force", &self.id]);
    }
}
