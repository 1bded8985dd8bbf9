//! Further processes: `exec` of runc's command line.

use serde_json::{Value, json};

use super::section;
use crate::run::wait_for;
use crate::suite::payload::{self, Facts, PATH};
use crate::suite::{Case, Section};
use crate::{Container, Test, proc};

fn sleeper(t: &Test) -> Container<'_> {
    t.bundle().sleeping().run_detached()
}

/// A process that exec left running; its end, and that it is reaped, as a shim does: the container could not end else.
struct Detached(nix::unistd::Pid);

impl Detached {
    fn new(c: &Container<'_>, action: &str) -> Self {
        let file = c.bundle.dir.join("exec.pid");
        let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
        let _ = c.call("exec", &flags, &[PATH, action]).ok();
        let pid = std::fs::read_to_string(file).unwrap().parse().expect("digits");
        Self(nix::unistd::Pid::from_raw(pid))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let _: nix::Result<()> = nix::sys::signal::kill(self.0, nix::sys::signal::SIGKILL);
        let _: nix::Result<nix::sys::wait::WaitStatus> = nix::sys::wait::waitpid(self.0, None);
    }
}

/// Executes by a process.json that has this, too.
fn by_file(c: &Container<'_>, extra: &Value, actions: &[&str]) -> crate::Done {
    let mut process = json!({
        "terminal": false, "cwd": "/", "args": payload::command(actions), "env": ["PATH=/"],
        "user": {"uid": 0, "gid": 0}
    });
    for (key, value) in extra.as_object().expect("an object") {
        process[key] = value.clone();
    }
    let path = c.bundle.dir.join("process.json");
    std::fs::write(&path, process.to_string()).unwrap();
    c.call("exec", &["--process", path.to_str().unwrap()], &[])
}

fn facts(done: crate::Done) -> Facts {
    Facts(payload::replies(&done.ok().stdout).remove(0).ok().clone())
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "exec", "runc exec");
    places(&mut s);
    options(&mut s);
    files(&mut s);
    results(&mut s);
    states(&mut s);
}

fn places(s: &mut Section<'_>) {
    for (kind, name) in [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("mount", "mnt"),
        ("cgroup", "cgroup"),
    ] {
        s.case(format!("process is in the container's {kind} namespace"), move |t| {
            let c = sleeper(t);
            assert_eq!(c.exec_facts(&[]).ns(name), proc::namespace(c.pid, name).unwrap());
        });
    }
    s.case("process is in the container's cgroup", |t| {
        let c = sleeper(t);
        let _other = Detached::new(&c, "forever");
        let procs = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.procs")).unwrap();
        assert_eq!(procs.lines().count(), 2, "{procs}");
    });
    s.case("process sees the container's root", |t| {
        let c = sleeper(t);
        std::fs::write(c.bundle.rootfs().join("file"), "here").unwrap();
        assert_eq!(c.exec(&[], &["read /file"])[0].text(), "here");
    });
    s.case("process has no descriptor but its three streams", |t| {
        let found = sleeper(t).exec_facts(&[]);
        let fds: Vec<_> = found["fds"].as_array().unwrap().iter().map(|f| &f["fd"]).collect();
        assert_eq!(fds, [0, 1, 2]);
    });
    s.case("process has the container's capabilities", |t| {
        let found =
            t.bundle().capabilities(&["CAP_KILL"]).sleeping().run_detached().exec_facts(&[]);
        assert_eq!(
            ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"].map(|n| found.set(n)),
            [32, 32, 32, 0, 0]
        );
    });
    s.case("process has the container's limits", |t| {
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
        let c = t.bundle().set("/process/rlimits", limits).sleeping().run_detached();
        assert_eq!(c.exec_facts(&[])["limits"]["RLIMIT_NOFILE"], json!([77, 88]));
    });
    s.case("process has the container's OOM score", |t| {
        let c = t.bundle().set("/process/oomScoreAdj", json!(321)).sleeping().run_detached();
        assert_eq!(c.exec_facts(&[]).text("oom_score_adj"), "321");
    });
}

fn options(s: &mut Section<'_>) {
    s.case("--cwd is the working directory", |t| {
        assert_eq!(sleeper(t).exec_facts(&["--cwd", "/etc"])["cwd"], "/etc");
    });
    s.case("--env adds to the container's environment", |t| {
        let found = sleeper(t).exec_facts(&["--env", "A=1", "--env", "B=x,y"]);
        assert_eq!((found.env("A"), found.env("B")), (Some("1"), Some("x,y")));
        assert!(found.env("PATH").is_some());
    });
    for (user, uid, gid) in [
        ("0", 0, 0),
        ("1", 1, 0),
        ("1:2", 1, 2),
        ("1000:1000", 1000, 1000),
        ("65534:65534", 65534, 65534),
    ] {
        s.case(format!("--user {user} is {uid}:{gid}"), move |t| {
            let found = sleeper(t).exec_facts(&["--user", user]);
            assert_eq!((found.number("uid"), found.number("gid")), (uid, gid));
            assert_eq!((found.number("euid"), found.number("egid")), (uid, gid));
        });
    }
    for user in ["-1", "4294967296", "nobody", "1:x", " 0", "0x0"] {
        s.case(format!("--user {user:?} is refused"), move |t| {
            let c = sleeper(t);
            let flag = format!("--user={user}");
            let done = c.call("exec", &[&flag], &[PATH]);
            assert!(!done.status.success(), "{done}");
        });
    }
    s.case("--additional-gids are groups of the process", |t| {
        let found = sleeper(t).exec_facts(&["--additional-gids", "5", "--additional-gids", "6"]);
        let groups = found["groups"].as_array().unwrap();
        assert!(groups.contains(&json!(5)) && groups.contains(&json!(6)), "{groups:?}");
    });
    s.case("--cap adds a capability", |t| {
        let found = sleeper(t).exec_facts(&["--cap", "CAP_CHOWN"]);
        assert_eq!(found.set("CapEff") & 1, 1);
        assert_eq!((found.set("CapInh"), found.set("CapAmb")), (0, 0));
    });
    s.case("--no-new-privs counts", |t| {
        let b = t.bundle().set("/process/noNewPrivileges", json!(false)).sleeping();
        assert_eq!(b.run_detached().exec_facts(&["--no-new-privs"])["no_new_privs"], 1);
    });
    s.case("--pid-file names the process", |t| {
        let c = sleeper(t);
        let other = Detached::new(&c, "forever");
        assert_eq!(proc::namespace(other.0.as_raw(), "pid"), proc::namespace(c.pid, "pid"));
    });
    s.case("--detach returns while the process runs", |t| {
        let c = sleeper(t);
        let start = std::time::Instant::now();
        let _other = Detached::new(&c, "sleep 20000");
        assert!(start.elapsed().as_secs() < 15);
    });
    s.case("--preserve-fds hands descriptors over", |t| {
        let c = sleeper(t);
        let file = std::fs::File::open("/etc/passwd").unwrap();
        super::process::duplicate(&file, 3);
        let found = c.exec_facts(&["--preserve-fds", "1"]);
        assert!(found["fds"].as_array().unwrap().iter().any(|f| f["fd"] == 3));
    });
}

fn files(s: &mut Section<'_>) {
    s.section_at("runc exec --process");
    s.case("process of a file has its arguments, environment and directory", |t| {
        let extra = json!({"env": ["X=1"], "cwd": "/etc"});
        let found = facts(by_file(&sleeper(t), &extra, &["facts"]));
        assert_eq!((found.env("X"), &found["cwd"]), (Some("1"), &json!("/etc")));
        assert_eq!(found["args"], json!([PATH, "facts"]));
    });
    s.case("process of a file has its user", |t| {
        let extra = json!({"user": {"uid": 5, "gid": 6, "additionalGids": [7]}});
        let found = facts(by_file(&sleeper(t), &extra, &["facts"]));
        assert_eq!((&found["uid"], &found["gid"]), (&json!(5), &json!(6)));
        assert!(found["groups"].as_array().unwrap().contains(&json!(7)));
    });
    s.case("process of a file has its capabilities and no inheritable ones", |t| {
        let set = json!(["CAP_KILL"]);
        let extra = json!({"capabilities": {"bounding": set, "effective": set, "permitted": set}});
        let found = facts(by_file(&sleeper(t), &extra, &["facts"]));
        assert_eq!((found.set("CapEff"), found.set("CapInh")), (32, 0));
    });
    s.case("process of a file has its limits", |t| {
        let extra = json!({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]});
        let found = facts(by_file(&sleeper(t), &extra, &["facts"]));
        assert_eq!(found["limits"]["RLIMIT_NOFILE"], json!([55, 66]));
    });
    for value in [true, false] {
        s.case(format!("process of a file has its noNewPrivileges {value}"), move |t| {
            let found = facts(by_file(&sleeper(t), &json!({"noNewPrivileges": value}), &["facts"]));
            assert_eq!(found["no_new_privs"], i32::from(value));
        });
    }
    for (what, extra) in [
        ("empty arguments", json!({"args": []})),
        ("an empty directory", json!({"cwd": ""})),
        ("a relative directory", json!({"cwd": "etc"})),
    ] {
        s.case(format!("file with {what} is refused"), move |t| {
            let done = by_file(&sleeper(t), &extra, &[]);
            assert!(!done.status.success(), "{done}");
        });
    }
}

fn results(s: &mut Section<'_>) {
    for code in [0, 1, 77, 255] {
        s.case(format!("exec ends with the process's exit code {code}"), move |t| {
            let action = format!("exit {code}");
            let _ = sleeper(t).call("exec", &[], &[PATH, &action]).exits(code);
        });
    }
    s.case("exec ends with 128 + 9 where SIGKILL ends the process", |t| {
        let c = t.bundle().without_namespace("pid").sleeping().run_detached();
        let run = t.command(["exec", &c.bundle.id, PATH, "echo up", "forever"]).spawn();
        wait_for("the process", || run.stdout_so_far().contains("up"));
        let procs = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.procs")).unwrap();
        let other = procs.lines().filter_map(|l| l.parse().ok()).find(|pid: &i32| *pid != c.pid);
        let pid = nix::unistd::Pid::from_raw(other.expect("a second process"));
        nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
        let _ = run.done().exits(137);
    });
    s.case("program that does not exist is error 255", |t| {
        let done = sleeper(t).call("exec", &[], &["/nosuch"]).exits(255);
        assert!(done.stderr.contains("no such file or directory"), "{done}");
    });
    s.case("standard input reaches the process", |t| {
        let c = sleeper(t);
        let (read, write) = std::io::pipe().unwrap();
        let run = t.command(["exec", &c.bundle.id, PATH, "read-fd 0"]).stdin(read).spawn();
        std::io::Write::write_all(&mut { write }, b"hello").unwrap();
        assert_eq!(payload::replies(&run.done().ok().stdout)[0].text(), "hello");
    });
    s.case("container goes on after its exec has ended", |t| {
        let c = sleeper(t);
        let _ = c.exec(&[], &["echo x"]);
        assert_eq!(c.status(), "running");
    });
}

fn states(s: &mut Section<'_>) {
    s.case("exec in a created container works", |t| {
        let c = t.bundle().sleeping().create();
        assert_eq!(c.exec(&[], &["echo x"])[0].text(), "x");
    });
    s.case("exec in a stopped container is refused", |t| {
        let c = t.bundle().create();
        let _ = c.start().ok();
        let _ = c.reap();
        assert!(!c.call("exec", &[], &[PATH]).status.success());
    });
    s.case("exec in a paused container is refused", |t| {
        let c = sleeper(t);
        let _ = c.call("pause", &[], &[]).ok();
        let done = c.call("exec", &[], &[PATH]);
        assert!(!done.status.success(), "{done}");
    });
    s.case("exec in a container that is not there is error 255", |t| {
        let _ = t.call(&["exec", "nobody", PATH]).exits(255);
    });
}
