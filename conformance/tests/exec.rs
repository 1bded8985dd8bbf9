//! `exec`: further processes in a container.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use orlop_conformance::console::{ConsoleSocket, read_until};
use orlop_conformance::run::{Done, lossy, wait_for};
use orlop_conformance::{Bundle, Container, Peer, Run, Test, proc, tmp};
use serde_json::{Value, json};

/// What Docker 28 hands to `exec --process` for `docker exec CONTAINER id`.
const DOCKER: &str = include_str!("../bundles/docker-exec-process.json");

/// A container that stays until it is killed, and the processes that `exec --detach` left in it.
struct Held<'t> {
    container: Container<'t>,
    detached: RefCell<Vec<Pid>>,
}

impl<'t> Deref for Held<'t> {
    type Target = Container<'t>;
    fn deref(&self) -> &Container<'t> {
        &self.container
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // A pid namespace ends only when the parents of all its processes have reaped them.
        for pid in self.detached.take() {
            let _: nix::Result<()> = kill(pid, Signal::SIGKILL);
            let _: nix::Result<WaitStatus> = waitpid(pid, None);
        }
    }
}

impl Held<'_> {
    /// `exec --detach FLAGS ID ARGS`; its pid, and the file of its output.
    #[track_caller]
    fn detach(&self, flags: &[&str], args: &[&str]) -> (i32, PathBuf) {
        let pid_file = self.bundle.test.dir().join(tmp::unique("pid"));
        let flags = [flags, &["-d", "--pid-file", pid_file.to_str().unwrap()]].concat();
        let run = command(self, &flags, args);
        let output = run.output_file();
        let done = run.done();
        // runc fails to say so where its init cannot execute the program.
        if let Ok(pid) = lossy(&pid_file).parse() {
            self.detached.borrow_mut().push(Pid::from_raw(pid));
        }
        let done = done.ok();
        assert!(done.stderr.is_empty(), "an exec that succeeds says nothing: {done}");
        (lossy(&pid_file).parse().expect("digits and nothing else"), output)
    }

    /// A `sleep` that was started so.
    #[track_caller]
    fn sleeper(&self, flags: &[&str]) -> i32 {
        self.detach(flags, &["/bin/sleep", "1000"]).0
    }

    /// Waits for the end of one of them.
    fn reap(&self, pid: i32) -> WaitStatus {
        let pid = Pid::from_raw(pid);
        self.detached.borrow_mut().retain(|other| *other != pid);
        waitpid(pid, None).unwrap()
    }
}

fn hold(bundle: Bundle<'_>) -> Held<'_> {
    held(bundle.args(&["/bin/sleep", "1000"]).run_detached())
}

fn held(container: Container<'_>) -> Held<'_> {
    Held { container, detached: RefCell::default() }
}

/// `exec FLAGS ID ARGS`, ready to be changed further.
fn command(c: &Container<'_>, flags: &[&str], args: &[&str]) -> Run {
    c.bundle.test.command(["exec"]).args(flags).arg(&c.bundle.id).args(args)
}

#[track_caller]
fn exec(c: &Container<'_>, flags: &[&str], args: &[&str]) -> Done {
    command(c, flags, args).done()
}

#[track_caller]
fn sh(c: &Container<'_>, flags: &[&str], script: &str) -> Done {
    exec(c, flags, &["/bin/sh", "-c", script])
}

/// The smallest process that can run a script.
fn process(script: &str) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/"
    })
}

/// `exec --process` of this process.
#[track_caller]
fn with_process(c: &Container<'_>, flags: &[&str], process: &Value) -> Done {
    let file = c.bundle.test.dir().join(tmp::unique("process"));
    std::fs::write(&file, process.to_string()).unwrap();
    exec(c, &[flags, &["--process", file.to_str().unwrap()]].concat(), &[])
}

#[track_caller]
fn status(done: Done) -> BTreeMap<String, String> {
    proc::status(&done.ok().stdout)
}

/// The failure of an `exec`: 255, and the text on standard error.
#[track_caller]
fn refused(done: Done, text: &str) {
    let done = done.exits(255);
    assert!(done.stderr.contains(text), "expected {text:?} on standard error: {done}");
}

fn processes(cgroup: &Path) -> Vec<i32> {
    lossy(&cgroup.join("cgroup.procs")).lines().map(|line| line.parse().unwrap()).collect()
}

fn freeze(c: &Container<'_>, yes: bool) {
    std::fs::write(c.bundle.cgroup().join("cgroup.freeze"), if yes { "1" } else { "0" }).unwrap();
    let want = if yes { "frozen 1" } else { "frozen 0" };
    wait_for(want, || lossy(&c.bundle.cgroup().join("cgroup.events")).contains(want));
}

#[test]
fn process_runs_beside_the_containers_own() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let script = "hostname; cat /proc/1/comm; readlink /proc/1/root; for n in pid net ipc uts mnt cgroup; do readlink \
                  /proc/self/ns/$n; done";
    let done = sh(&c, &[], script).ok();
    assert!(done.stderr.is_empty(), "{done}");
    let lines = done.lines();
    assert_eq!(lines[..3], ["test", "sleep", "/"]);
    for (line, kind) in lines[3..].iter().zip(["pid", "net", "ipc", "uts", "mnt", "cgroup"]) {
        assert_eq!(*line, proc::namespace(c.pid, kind).unwrap(), "{kind}");
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn exit_code_is_the_programs_or_128_and_the_signal() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    for code in [0, 1, 7, 126, 127, 254, 255] {
        let _ = sh(&c, &[], &format!("exit {code}")).exits(code);
    }
    let _ = sh(&c, &[], "kill -KILL $$").exits(137);
    let _ = sh(&c, &[], "kill -TERM $$").exits(143);
    let _ = sh(&c, &[], "kill -SEGV $$").exits(139);
}

#[test]
fn failures_of_the_runtime_are_255() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "exits with 1, and words it differently") {
        return;
    }
    let c = hold(t.bundle());
    refused(exec(&c, &[], &["nosuchprogram"]), "executable file not found in $PATH");
    refused(exec(&c, &[], &["/no/such"]), "stat /no/such: no such file or directory");
    refused(exec(&c, &[], &["/etc"]), "is a directory");
    refused(exec(&c, &[], &["/etc/passwd"]), "permission denied");
    refused(exec(&c, &[], &[]), "args cannot be empty");
    refused(t.call(&["exec", "missing", "/bin/true"]), "container does not exist");
    let done = exec(&c, &[], &["nosuchprogram"]);
    refused(done.clone(), "exec failed: unable to start container process: ");
    assert!(!done.stderr.contains("container init"), "it is not the container that failed: {done}");
}

#[test]
fn failures_are_logged_once_as_json() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "logs twice") {
        return;
    }
    let c = hold(t.bundle());
    let log = t.dir().join("log.json");
    let run = t.bare().arg("--root").arg(t.root()).arg("--log").arg(&log);
    let done = run.args(["--log-format", "json", "exec", &c.bundle.id, "nosuchprogram"]).done();
    assert_ne!(done.code(), 0);
    let text = lossy(&log);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(lines[0]["level"], "error");
    assert!(lines[0]["msg"].as_str().unwrap().contains("executable file not found"), "{text}");
}

#[test]
fn created_containers_take_further_processes() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "1000"]).create();
    assert_eq!(exec(&c, &[], &["/bin/hostname"]).ok().stdout, "test\n");
    assert_eq!(c.status(), "created");
    let _ = c.start().ok();
}

#[test]
fn stopped_containers_take_none() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "exits with 1, and words it differently") {
        return;
    }
    let c = t.bundle().args(&["/bin/true"]).run_detached();
    let _ = c.reap();
    refused(exec(&c, &[], &["/bin/true"]), "cannot exec in a stopped container");
    // Whatever else is wrong: here is no terminal.
    refused(exec(&c, &["--tty"], &["/bin/true"]), "cannot exec in a stopped container");
    // Before its end was waited for, too.
    let c = t.bundle().args(&["/bin/true"]).run_detached();
    c.wait_gone();
    refused(exec(&c, &[], &["/bin/true"]), "cannot exec in a stopped container");
}

#[test]
fn paused_containers_take_none_unless_asked() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "exits with 1, and words it differently") {
        return;
    }
    let c = hold(t.bundle());
    freeze(&c, true);
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    refused(exec(&c, &[], &["/bin/true"]), text);
    let running =
        command(&c, &["--ignore-paused"], &["/bin/sh", "-c", "echo thawed; exit 3"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(running.stdout_so_far(), "");
    freeze(&c, false);
    let done = running.done().exits(3);
    assert_eq!(done.stdout, "thawed\n");
}

#[test]
fn process_file_of_docker_runs_as_it_stands() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let file = t.dir().join("process.json");
    std::fs::write(&file, DOCKER).unwrap();
    let (pid, output) = c.detach(&["--process", file.to_str().unwrap()], &[]);
    assert_eq!(c.reap(pid), WaitStatus::Exited(Pid::from_raw(pid), 0));
    assert_eq!(lossy(&output), "uid=0(root) gid=0(root) groups=0(root)\n");
}

#[test]
fn process_file_is_taken_verbatim_and_options_do_not_change_it() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let mut p = process("pwd; id -u; id -g; id -G");
    p["env"] = json!(["ONLY=this", "HOME=/h"]);
    p["cwd"] = json!("/tmp");
    p["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]});
    let mut env = p.clone();
    env["args"] = json!(["/bin/env"]);
    let more = ["--env", "MORE=x", "--cwd", "/etc", "--user", "77", "--cap", "CAP_SYS_ADMIN"];
    for flags in [&[][..], &more] {
        if !flags.is_empty() && t.differs(&[Peer::Crun], "applies some options to it too") {
            return;
        }
        assert_eq!(with_process(&c, flags, &env).ok().lines(), ["ONLY=this", "HOME=/h"]);
        assert_eq!(with_process(&c, flags, &p).ok().lines(), ["/tmp", "7", "8", "8 9 10"]);
    }
}

#[test]
fn what_a_process_file_leaves_open_is_the_containers() {
    let Some(t) = Test::begin() else { return };
    let bundle = t
        .bundle()
        .set("/process/user/umask", json!(0o077))
        .set("/process/oomScoreAdj", json!(321))
        .set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
            }),
        );
    let c = hold(bundle);
    let script =
        "cat /proc/self/status; ulimit -n; umask; cat /proc/self/oom_score_adj; mkdir /tmp/x; true";
    let done = with_process(&c, &[], &process(script)).ok();
    let status = proc::status(&done.stdout);
    let caps = "0000000020000420"; // AUDIT_WRITE, KILL, NET_BIND_SERVICE
    for (set, want) in
        [("CapBnd", caps), ("CapEff", caps), ("CapPrm", caps), ("CapInh", "0000000000000000")]
    {
        assert_eq!(status[set], want, "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "0", "absent is false, whatever the container has");
    assert_eq!(status["Seccomp"], "2");
    let tail = done.lines()[done.lines().len() - 3..].to_vec();
    if !t.differs(&[Peer::Crun, Peer::Runc], "1.1 takes limits and umask of the caller") {
        assert_eq!(tail, ["1024", "0077", "321"]);
    }
    assert!(done.stderr.contains("Operation not permitted"), "the filter holds: {done}");
}

#[test]
fn what_a_process_file_says_is_its_own() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let mut p = process("cat /proc/self/status; ulimit -Sn; ulimit -Hn");
    p["capabilities"] =
        json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]});
    p["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
    p["noNewPrivileges"] = json!(true);
    let done = with_process(&c, &[], &p).ok();
    let status = proc::status(&done.stdout);
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(status[set], "0000000000000001", "{set}");
    }
    assert_eq!(
        (status["CapInh"].as_str(), status["CapAmb"].as_str()),
        ("0000000000000000", "0000000000000000")
    );
    assert_eq!(status["NoNewPrivs"], "1");
    assert!(done.stdout.ends_with("77\n88\n"), "{done}");
}

#[test]
fn malformed_process_files_are_refused_by_name() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently, and exits with 1") {
        return;
    }
    let c = hold(t.bundle());
    let mut p = process("true");
    p["cwd"] = json!("relative");
    refused(with_process(&c, &[], &p), "Cwd must be an absolute path");
    p["cwd"] = json!("");
    refused(with_process(&c, &[], &p), "Cwd property must not be empty");
    p.as_object_mut().unwrap().remove("cwd");
    refused(with_process(&c, &[], &p), "Cwd property must not be empty");
    p = process("true");
    p["args"] = json!([]);
    refused(with_process(&c, &[], &p), "args must not be empty");
    p.as_object_mut().unwrap().remove("args");
    refused(with_process(&c, &[], &p), "args must not be empty");
    p = process("true");
    p["env"] = json!(["NOEQUALS"]);
    refused(with_process(&c, &[], &p), "invalid environment variable");
    for text in ["", "{", "[]", "7", "{\"args\": 7}"] {
        let file = t.dir().join("bad.json");
        std::fs::write(&file, text).unwrap();
        let done = exec(&c, &["--process", file.to_str().unwrap()], &[]).exits(255);
        assert!(done.stderr.contains("exec failed: "), "{text:?}: {done}");
        assert_eq!(done.stderr.lines().count(), 1, "{text:?}: {done}");
    }
    refused(exec(&c, &["--process", "/no/such/file"], &[]), "no such file or directory");
}

#[test]
fn missing_process_property_is_named() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently, and exits with 1") {
        return;
    }
    let c = hold(t.bundle());
    let file = t.dir().join("null.json");
    std::fs::write(&file, "null").unwrap();
    // runc reads null as an empty process.
    let done = exec(&c, &["--process", file.to_str().unwrap()], &[]).exits(255);
    assert!(done.stderr.contains("must not be empty"), "{done}");
    // The configuration may have changed since.
    let mut config = c.bundle.config.clone();
    config.as_object_mut().unwrap().remove("process");
    std::fs::write(c.bundle.dir.join("config.json"), config.to_string()).unwrap();
    refused(exec(&c, &[], &["/bin/true"]), "process property must not be empty");
}

#[test]
fn options_change_the_process_of_the_bundle() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "takes nothing of the bundle where an option is") {
        return;
    }
    let c = hold(t.bundle().push("/process/env", json!("OWN=1")));
    let flags = ["--cwd", "/tmp", "-e", "A=x,y", "-e", "B=2", "-e", "A=last"];
    let done = sh(&c, &flags, "pwd; echo $A $B $OWN; id -u; id -g").ok();
    assert_eq!(done.lines(), ["/tmp", "last 2 1", "0", "0"]);
    let done = sh(&c, &["--user", "1000:1001", "-g", "5", "-g", "6"], "id -u; id -g; id -G").ok();
    assert_eq!(done.lines(), ["1000", "1001", "1001 5 6"]);
    // A terminal in config.json counts for the container alone.
    let done = sh(&c, &[], "tty").exits(1);
    assert_eq!(done.stdout, "not a tty\n");
}

#[test]
fn configuration_is_read_again_at_each_exec() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "reads the copy of the time of creation") {
        return;
    }
    let c = hold(t.bundle());
    let mut config = c.bundle.config.clone();
    config["process"]["env"] = json!(["PATH=/bin", "NEW=yes"]);
    std::fs::write(c.bundle.dir.join("config.json"), config.to_string()).unwrap();
    assert_eq!(sh(&c, &[], "echo $NEW").ok().stdout, "yes\n");
}

#[test]
fn user_forms_are_exact() {
    // CVE-2026-30892: `-u 1` ran as user 0. CVE-2016-3697: a line of passwd with the number as its name.
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "1.21 has CVE-2026-30892") {
        return;
    }
    let passwd = "root:x:0:0::/root:/bin/sh\n1:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n";
    let c = hold(t.bundle().file("/etc/passwd", passwd, 0o644).file(
        "/etc/group",
        "a:x:44:1000,1\n",
        0o644,
    ));
    // runc goes up to 2^31 - 1 only.
    let high = if t.peer() == Peer::Orlop { 4_294_967_294 } else { 2_147_483_647 };
    let highest = high.to_string();
    for (form, uid, gid) in [
        ("0", 0, 0),
        ("1", 1, 0),
        ("1:2", 1, 2),
        ("1000", 1000, 0),
        ("65534", 65534, 0),
        (highest.as_str(), high, 0),
    ] {
        let found = status(exec(&c, &["-u", form], &["/bin/cat", "/proc/self/status"]));
        let four =
            |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t");
        assert_eq!((&found["Uid"], &found["Gid"]), (&four(uid), &four(gid)), "{form}");
        assert_eq!(found["Groups"], "", "{form}");
    }
}

#[test]
fn other_user_forms_are_refused_or_exact() {
    // CVE-2024-40635: what overflows or is no number must not become user 0.
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun, Peer::Runc], "wraps or misreads some of them") {
        return;
    }
    let c = hold(t.bundle());
    for form in [
        ":2",
        "1:",
        ":",
        "name",
        "root",
        "1:root",
        "-1",
        "+0",
        " 0",
        "0 ",
        "1e3",
        "0x0",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "18446744073709551616",
        "1:4294967296",
        "1:-1",
        "1:2:3",
        "1.5",
    ] {
        let flag = format!("--user={form}");
        let done = exec(&c, &[&flag], &["/bin/id", "-u"]).exits(255);
        assert_eq!(done.stdout, "", "{form:?}: {done}");
    }
    for form in ["-1", "4294967295", "4294967296", "x", "+1"] {
        let flag = format!("--additional-gids={form}");
        let done = exec(&c, &[&flag], &["/bin/id", "-u"]).exits(255);
        assert_eq!(done.stdout, "", "{form:?}: {done}");
    }
    for id in
        [json!(-1), json!(4_294_967_295_u32), json!(4_294_967_296_u64), json!("0"), json!(1.5)]
    {
        for field in ["uid", "gid"] {
            let mut p = process("id -u");
            p["user"][field] = id.clone();
            let done = with_process(&c, &[], &p).exits(255);
            assert_eq!(done.stdout, "", "{field} {id}: {done}");
        }
    }
}

#[test]
fn nothing_is_inheritable_or_ambient() {
    // CVE-2022-24769, CVE-2022-29162, CVE-2022-27650.
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let cat = ["/bin/cat", "/proc/self/status"];
    let none = "0000000000000000";
    for flags in [
        &[][..],
        &["-u", "1000"],
        &["--cap", "CAP_NET_RAW"],
        &["--cap", "CAP_NET_RAW", "-u", "1000:1000"],
    ] {
        let found = status(exec(&c, flags, &cat));
        assert_eq!((found["CapInh"].as_str(), found["CapAmb"].as_str()), (none, none), "{flags:?}");
    }
    let found = status(with_process(&c, &[], &process("cat /proc/self/status")));
    assert_eq!((found["CapInh"].as_str(), found["CapAmb"].as_str()), (none, none));
    let mut p = process("cat /proc/self/status");
    p["user"] = json!({"uid": 1000, "gid": 1000});
    let found = status(with_process(&c, &[], &p));
    for set in ["CapInh", "CapAmb", "CapEff", "CapPrm"] {
        assert_eq!(found[set], none, "{set}");
    }
}

#[test]
fn capabilities_are_added_to_three_sets() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "takes the option's as all there are") {
        return;
    }
    let c = hold(t.bundle());
    let cat = ["/bin/cat", "/proc/self/status"];
    let found = status(exec(&c, &["--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"], &cat));
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(found[set], "0000000020002421", "{set}");
    }
    // Unknown ones are left out, as those of config.json are.
    let found = status(exec(&c, &["--cap", "CAP_FLY", "--cap", "CAP_CHOWN"], &cat));
    assert_eq!(found["CapEff"], "0000000020000421");
    // Of a configuration with an inheritable set, the ambient set gets it, as far as the kernel allows.
    let mut config = c.bundle.config.clone();
    config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    std::fs::write(c.bundle.dir.join("config.json"), config.to_string()).unwrap();
    if t.differs(&[Peer::Crun], "reads the copy of the time of creation") {
        return;
    }
    let found = status(exec(&c, &["--cap", "CAP_KILL", "-u", "1000"], &cat));
    assert_eq!(found["CapAmb"], "0000000000000020");
}

#[test]
fn no_new_privileges_follows_option_and_bundle() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "takes nothing of the bundle where an option is") {
        return;
    }
    let cat = ["/bin/cat", "/proc/self/status"];
    let c = hold(t.bundle().set("/process/noNewPrivileges", json!(false)));
    assert_eq!(status(exec(&c, &[], &cat))["NoNewPrivs"], "0");
    assert_eq!(status(exec(&c, &["--no-new-privs"], &cat))["NoNewPrivs"], "1");
    let c = hold(t.bundle());
    assert_eq!(status(exec(&c, &[], &cat))["NoNewPrivs"], "1");
    if t.differs(&[Peer::Crun], "cannot be told no") {
        return;
    }
    assert_eq!(status(exec(&c, &["--no-new-privs=false"], &cat))["NoNewPrivs"], "0");
}

#[test]
fn seccomp_holds_with_and_without_new_privileges() {
    let Some(t) = Test::begin() else { return };
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    });
    for nnp in [false, true] {
        let c = hold(
            t.bundle()
                .set("/linux/seccomp", filter.clone())
                .set("/process/noNewPrivileges", json!(nnp)),
        );
        let done = exec(&c, &[], &["/bin/mkdir", "/tmp/x"]).exits(1);
        assert!(done.stderr.contains("Operation not permitted"), "{done}");
        let done = exec(&c, &["-u", "1000"], &["/bin/mkdir", "/tmp/x"]).exits(1);
        assert!(done.stderr.contains("Operation not permitted"), "{done}");
    }
}

#[test]
fn home_comes_from_the_containers_passwd_unless_it_is_set() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "keeps root's for another user") {
        return;
    }
    let c = hold(t.bundle());
    assert_eq!(sh(&c, &[], "echo $HOME").ok().stdout, "/root\n");
    assert_eq!(sh(&c, &["-u", "1000"], "echo $HOME").ok().stdout, "/home/user\n");
    assert_eq!(sh(&c, &["-u", "4242"], "echo $HOME").ok().stdout, "/\n");
    assert_eq!(sh(&c, &["-e", "HOME=/elsewhere"], "echo $HOME").ok().stdout, "/elsewhere\n");
    let mut p = process("echo $HOME");
    assert_eq!(with_process(&c, &[], &p).ok().stdout, "/root\n");
    p["env"] = json!(["HOME=", "PATH=/bin"]);
    if !t.differs(&[Peer::Crun], "takes an empty HOME for one") {
        assert_eq!(with_process(&c, &[], &p).ok().stdout, "/root\n");
    }
}

#[test]
fn missing_cwd_is_an_error_and_not_made() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let done = exec(&c, &["--cwd", "/no/such"], &["/bin/true"]);
    assert_ne!(done.code(), 0);
    if !t.differs(&[Peer::Crun], "words it differently, and exits with 1") {
        refused(done, "no such file or directory");
        refused(exec(&c, &["--cwd", "/etc/passwd"], &["/bin/true"]), "not a directory");
    }
    assert!(!c.bundle.rootfs().join("no").exists());
}

#[test]
fn cwd_that_only_the_user_may_not_enter_is_entered() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/secret/x", "", 0o600);
    orlop_conformance::rootfs::mode(&bundle.rootfs().join("secret"), 0o700);
    let c = hold(bundle);
    // As root it can be entered; what the user may do there is another matter.
    let _ = exec(&c, &["--cwd", "/secret", "-u", "1000"], &["/bin/true"]).ok();
}

/// Runs the runtime's `exec` from a shell that leaks descriptors of the host.
fn leaking(c: &Container<'_>, flags: &[&str], args: &[&str]) -> Done {
    let t = c.bundle.test;
    let leak = "exec 3</ 4</etc/passwd 7</ 8</proc 9</usr; exec \"$@\"";
    let run = Run::new("/bin/sh", t.dir()).args(["-c", leak, "sh"]).arg(t.runtime()).arg("--root");
    run.arg(t.root()).arg("exec").args(flags).arg(&c.bundle.id).args(args).done()
}

#[test]
fn leaked_descriptors_are_not_passed_on() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let script = "for fd in /proc/self/fd/*; do n=${fd##*/}; l=$(readlink $fd 2>/dev/null) && echo $n $l; done; true";
    let done = leaking(&c, &[], &["/bin/sh", "-c", script]).ok();
    let mut numbers: Vec<_> =
        done.lines().iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1", "2"], "{done}");
}

#[test]
fn standard_streams_are_the_containers_or_pipes() {
    // A file of the host's would be a way to the host's mount.
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "hands the caller's streams on") {
        return;
    }
    let c = hold(t.bundle());
    let script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; \
                  grep mnt_id /proc/self/fdinfo/0; grep ' /dev ' /proc/self/mountinfo";
    let done = sh(&c, &[], script).ok();
    let lines = done.lines();
    assert!(lines[1].starts_with("pipe:") && lines[2].starts_with("pipe:"), "{done}");
    if !lines[0].starts_with("pipe:") {
        assert_eq!(lines[0], "/dev/null");
        let mount = lines[3].split_whitespace().last().unwrap();
        let own = lines[4].split(' ').next().unwrap();
        assert_eq!(mount, own, "the container's own /dev/null: {done}");
    }
}

#[test]
fn cwd_through_a_leaked_descriptor_stays_inside() {
    // CVE-2024-21626.
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    std::os::unix::fs::symlink("/proc/self/fd/7", bundle.rootfs().join("link")).unwrap();
    let c = hold(bundle);
    let marker = c.bundle.dir.file_name().unwrap().to_string_lossy().into_owned();
    let mut tried: Vec<String> = (3..25).map(|n| format!("/proc/self/fd/{n}")).collect();
    tried.extend(
        [
            "/proc/thread-self/fd/7/..",
            "/proc/self/fd/7/tmp",
            "/link",
            "/proc/1/cwd",
            "/proc/1/root",
        ]
        .map(str::to_owned),
    );
    for cwd in tried {
        let script =
            format!("pwd -P; ls; ls -d ../../../../../../..{} 2>/dev/null", c.bundle.dir.display());
        let done = leaking(&c, &["--cwd", &cwd], &["/bin/sh", "-c", &script]);
        assert!(!done.stdout.contains(&marker), "{cwd}: {done}");
        if done.status.success() {
            assert!(done.stdout.starts_with('/'), "{cwd}: {done}");
        }
    }
    let done = leaking(&c, &[], &["/proc/self/fd/7/bin/sh", "-c", "echo host"]);
    assert!(!done.status.success() && done.stdout.is_empty(), "{done}");
}

#[test]
fn preserved_descriptors_keep_their_numbers() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let file = t.dir().join("kept");
    std::fs::write(&file, "kept\n").unwrap();
    let open = "exec 3<\"$0\" 4<\"$0\" 5</; exec \"$@\"";
    let at = |count: &str, script: &str| {
        let run = Run::new("/bin/sh", t.dir())
            .args(["-c", open])
            .arg(&file)
            .arg(t.runtime())
            .arg("--root");
        let run = run.arg(t.root()).args(["exec", "--preserve-fds", count, &c.bundle.id]);
        run.args(["/bin/sh", "-c", script]).done()
    };
    // 0, 1, 2, 3, 4 and the directory that ls reads.
    assert_eq!(at("2", "cat <&4; ls /proc/self/fd | wc -l").ok().stdout, "kept\n6\n");
    if t.differs(&[Peer::Crun], "accepts what is not there") {
        return;
    }
    refused(at("9", "true"), "unable to stat preserved-fd");
}

#[test]
fn listen_fds_are_not_for_exec() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "passes them on") {
        return;
    }
    let c = hold(t.bundle());
    let open = "exec 3</etc/passwd; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let run = Run::new("/bin/sh", t.dir()).args(["-c", open, "sh"]).arg(t.runtime()).arg("--root");
    let run = run.arg(t.root()).args([
        "exec",
        &c.bundle.id,
        "/bin/sh",
        "-c",
        "env | grep LISTEN; ls /proc/self/fd | wc -l",
    ]);
    assert_eq!(run.done().ok().stdout, "4\n");
}

#[test]
fn attached_exec_copies_input_its_end_and_both_outputs() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let (read, mut write) = std::io::pipe().unwrap();
    let running = command(&c, &[], &["/bin/sh", "-c", "cat; echo end; echo err >&2; exit 5"])
        .stdin(read)
        .spawn();
    write.write_all(b"one\ntwo\n").unwrap();
    drop(write);
    let done = running.done().exits(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("one\ntwo\nend\n", "err\n"));
}

#[test]
fn attached_exec_ends_with_the_program_while_input_is_open() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let (read, write) = std::io::pipe().unwrap();
    let done =
        command(&c, &[], &["/bin/sh", "-c", "echo done; exit 4"]).stdin(read).done().exits(4);
    assert_eq!(done.stdout, "done\n");
    drop(write);
}

#[test]
fn stalled_reader_stalls_the_program_and_not_the_memory() {
    // CVE-2022-31030: output that nobody reads must not be collected.
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let (mut read, write) = std::io::pipe().unwrap();
    let running =
        command(&c, &[], &["/bin/sh", "-c", "yes | head -c 50000000"]).stdout(write).spawn();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let status = proc::status(&lossy(Path::new(&format!("/proc/{}/status", running.pid()))));
    let resident: u64 = status["VmRSS"].split(' ').next().unwrap().parse().unwrap();
    assert!(resident < 60_000, "{resident} KiB");
    let mut all = Vec::new();
    read.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 50_000_000);
    let _ = running.done().ok();
}

#[test]
fn signals_reach_the_program() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let script = "trap 'echo term; exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done";
    let running = command(&c, &[], &["/bin/sh", "-c", script]).spawn();
    let wait = |text: &str| wait_for(text, || running.stdout_so_far().contains(text));
    wait("ready");
    let pid = Pid::from_raw(running.pid());
    if !t.differs(&[Peer::Crun], "dies of it instead") {
        kill(pid, Signal::SIGUSR1).unwrap();
        wait("usr1");
    }
    kill(pid, Signal::SIGTERM).unwrap();
    let code = running.done().code();
    assert!(code == 9 || t.differs(&[Peer::Crun], "dies of it instead"), "{code}");
}

#[test]
fn signals_are_back_to_default_and_unblocked() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let run =
        Run::new("/bin/sh", t.dir()).args(["-c", "trap '' PIPE HUP TERM USR1; exec \"$@\"", "sh"]);
    let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args([
        "exec",
        &c.bundle.id,
        "/bin/cat",
        "/proc/self/status",
    ]);
    let found = status(run.done());
    for set in ["SigIgn", "SigBlk"] {
        // Those above 31 are real-time signals; runc's own runtime ignores one of them.
        let mask = u64::from_str_radix(&found[set], 16).unwrap();
        assert_eq!(mask & 0x7fff_ffff, 0, "{set}");
    }
}

#[test]
fn process_leads_a_session_of_its_own() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    // pid, parent, group, session: the parent is outside.
    let done = sh(&c, &[], "read pid comm state parent group session rest </proc/self/stat; echo $((pid - group)) $((group - session)); echo $$ | grep -vx 1 >/dev/null && read pid comm state parent rest </proc/$$/stat; echo $parent").ok();
    assert_eq!(done.lines().last(), Some(&"0"), "{done}");
    let done = exec(&c, &[], &["/bin/cat", "/proc/self/stat"]).ok();
    let fields: Vec<&str> = done.stdout.split(' ').collect();
    assert_eq!((fields[0], fields[0]), (fields[4], fields[5]), "pid, group and session: {done}");
}

#[test]
fn detached_exec_returns_while_the_program_runs() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "returns before execve") {
        return;
    }
    let c = hold(t.bundle());
    let pid = c.sleeper(&[]);
    assert_eq!(lossy(Path::new(&format!("/proc/{pid}/comm"))), "sleep\n", "it executes already");
    assert_eq!(proc::cgroup(pid), proc::cgroup(c.pid));
    assert_eq!(proc::namespace(pid, "mnt"), proc::namespace(c.pid, "mnt"));
    // It is a child of the runtime's caller, as shims need it.
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let end = WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGTERM, false);
    assert_eq!(c.reap(pid), end);
}

#[test]
fn pid_file_replaces_an_empty_one() {
    // CRI-O makes the file before.
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "writes into it") {
        return;
    }
    let c = hold(t.bundle());
    let pid_file = t.dir().join("pid");
    let made = File::create(&pid_file).unwrap();
    let flags = ["--pid-file", pid_file.to_str().unwrap()];
    let _ = exec(&c, &flags, &["/bin/true"]).ok();
    let _: i32 = lossy(&pid_file).parse().expect("digits and nothing else");
    assert_ne!(inode(&pid_file), made.metadata().unwrap().ino(), "replaced, not rewritten");
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn detached_exec_reports_the_programs_exit_to_the_caller() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let (pid, _) = c.detach(&[], &["/bin/sh", "-c", "exit 42"]);
    assert_eq!(c.reap(pid), WaitStatus::Exited(Pid::from_raw(pid), 42));
}

#[test]
fn failed_exec_leaves_no_pid_file_and_no_process() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let pid_file = t.dir().join("pid");
    for flags in [&["-d"][..], &[]] {
        let flags = [flags, &["--pid-file", pid_file.to_str().unwrap()]].concat();
        assert_ne!(exec(&c, &flags, &["nosuchprogram"]).code(), 0);
        assert!(!pid_file.exists());
        assert!(!t.dir().join(".pid").exists());
    }
    wait_for("the end of all", || processes(&c.bundle.cgroup()) == [c.pid]);
}

#[test]
fn program_that_cannot_be_told_of_is_not_left_running() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "leaves it") {
        return;
    }
    let c = hold(t.bundle());
    let done = exec(&c, &["-d", "--pid-file", "/no/such/dir/pid"], &["/bin/sleep", "1000"]);
    assert_ne!(done.code(), 0);
    wait_for("the end of all", || processes(&c.bundle.cgroup()) == [c.pid]);
    let done = exec(&c, &["--pid-file", "/no/such/dir/pid"], &["/bin/sleep", "1000"]);
    assert_ne!(done.code(), 0);
    if t.differs(&[Peer::Crun], "leaves it") {
        return;
    }
    wait_for("the end of all", || processes(&c.bundle.cgroup()) == [c.pid]);
}

#[test]
fn file_that_the_kernel_cannot_execute_is_named() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle().file("/bin/garbage", "\u{1}\u{2}\u{3}", 0o755).file(
        "/bin/lost",
        "#!/no/such\n",
        0o755,
    ));
    // runc's init says it by itself; either way it is 255 and the text.
    let done = exec(&c, &[], &["/bin/garbage"]);
    assert!(done.stderr.to_lowercase().contains("exec format error"), "{done}");
    let lost = exec(&c, &[], &["/bin/lost"]);
    assert!(lost.stderr.to_lowercase().contains("no such file or directory"), "{lost}");
    if !t.differs(&[Peer::Crun, Peer::Runc], "exits with 1") {
        assert_eq!((done.code(), lost.code()), (255, 255));
    }
}

#[test]
fn terminal_is_sent_over_the_console_socket() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let socket = ConsoleSocket::listen(&t);
    let mut p = process(
        "stty size; tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; read line; echo \"got $line\"",
    );
    p["terminal"] = json!(true);
    p["consoleSize"] = json!({"height": 33, "width": 77});
    // Nobody accepts meanwhile: the runtime may not wait for its peer.
    let file = t.dir().join("process.json");
    std::fs::write(&file, p.to_string()).unwrap();
    let socket_path = socket.path.to_str().unwrap();
    let flags = ["--console-socket", socket_path, "--process", file.to_str().unwrap()];
    let _ = c.detach(&flags, &[]);
    let mut console = socket.accept();
    let text = read_until(&mut console.master, "all");
    assert!(text.contains("33 77") && text.contains("/dev/pts/"), "{text}");
    console.master.write_all(b"hello\n").unwrap();
    let _ = read_until(&mut console.master, "got hello");
}

#[test]
fn terminal_by_option_is_the_controlling_one() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "leaves it to root") {
        return;
    }
    let c = hold(t.bundle());
    let socket = ConsoleSocket::listen(&t);
    let script =
        "trap 'echo interrupted' INT; ls -ln $(tty); echo ready; while :; do sleep 0.05; done";
    let flags = ["-t", "-u", "1000", "--console-socket", socket.path.to_str().unwrap()];
    let _ = c.detach(&flags, &["/bin/sh", "-c", script]);
    let mut console = socket.accept();
    let text = read_until(&mut console.master, "ready");
    assert!(text.contains(" 1000 "), "the user's own: {text}");
    console.master.write_all(b"\x03").unwrap();
    let _ = read_until(&mut console.master, "interrupted");
}

#[test]
fn attached_terminal_copies_both_ways() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let script = "until stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.05; done; read line; echo \"got $line\"; exit 6";
    let exec = ["exec", "-t", &c.bundle.id, "/bin/sh", "-c", script];
    let (mut master, running) = t.call_on_terminal((21, 63), &exec);
    let _ = read_until(&mut master, "21 63");
    master.write_all(b"hello\r").unwrap();
    let _ = read_until(&mut master, "got hello");
    let _ = running.done().exits(6);
}

#[test]
fn terminal_and_console_socket_must_go_together() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently") {
        return;
    }
    let c = hold(t.bundle());
    let text = "cannot allocate tty if runc will detach without setting console socket";
    refused(exec(&c, &["-t", "-d"], &["/bin/true"]), text);
    let socket = ConsoleSocket::listen(&t);
    let path = socket.path.to_str().unwrap();
    let text = "cannot use console socket if runc will not detach or allocate tty";
    refused(exec(&c, &["-d", "--console-socket", path], &["/bin/true"]), text);
    refused(
        exec(&c, &["-t", "-d", "--console-socket", "/no/such"], &["/bin/true"]),
        "no such file or directory",
    );
}

#[test]
fn pidfd_is_sent_with_the_word_setns() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such option") {
        return;
    }
    let c = hold(t.bundle());
    // The message has the form of a console's: one payload, one descriptor.
    let socket = ConsoleSocket::listen(&t);
    let flag = socket.path.to_str().unwrap();
    let help = t.call(&["exec", "--help"]).stdout;
    if !help.contains("pidfd-socket") && t.differs(&[Peer::Runc], "1.1 has no such option") {
        return;
    }
    let pid = c.sleeper(&["--pidfd-socket", flag]);
    let received = socket.accept();
    assert_eq!(received.payload, b"setns");
    let info = lossy(Path::new(&format!("/proc/self/fdinfo/{}", received.master.as_raw_fd())));
    assert_eq!(proc::status(&info)["Pid"], pid.to_string());
}

#[test]
fn process_is_in_the_containers_cgroup() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    assert_eq!(sh(&c, &[], "grep ^0:: /proc/self/cgroup").ok().stdout, "0::/\n");
    let pid = c.sleeper(&[]);
    assert_eq!(proc::cgroup(pid).unwrap(), c.bundle.cgroup_path());
}

#[test]
fn sub_cgroup_is_one_that_exists_below() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently, and exits with 1") {
        return;
    }
    let c = hold(t.bundle());
    let own = c.bundle.cgroup();
    std::fs::create_dir(own.join("sub")).unwrap();
    std::fs::create_dir(own.join("sub/deep")).unwrap();
    let evil = own.with_file_name(format!("{}-evil", c.bundle.id));
    std::fs::create_dir(&evil).unwrap();
    let prefix = c.bundle.cgroup_path();
    for (path, want) in
        [("sub", "/sub"), ("/sub/deep", "/sub/deep"), ("sub/", "/sub"), ("/", ""), (".", "")]
    {
        let pid = c.sleeper(&["--cgroup", path]);
        assert_eq!(proc::cgroup(pid).unwrap(), format!("{prefix}{want}"), "{path}");
    }
    let sibling = format!("../{}-evil", c.bundle.id);
    for path in ["../x", "..", "../../", "sub/../..", &sibling] {
        if path == sibling && t.differs(&[Peer::Runc], "before 1.5.2, compares prefixes") {
            continue;
        }
        let done = exec(&c, &["--cgroup", path], &["/bin/true"]).exits(255);
        let outside = t.peer() == Peer::Orlop;
        assert!(!outside || done.stderr.contains("bad sub cgroup path"), "{path}: {done}");
    }
    assert!(processes(&evil).is_empty());
    refused(exec(&c, &["--cgroup", "nosuch"], &["/bin/true"]), "no such file or directory");
    if t.peer() == Peer::Orlop {
        refused(exec(&c, &["--cgroup", "cpu:sub"], &["/bin/true"]), "bad sub cgroup path");
    }
    std::fs::remove_dir(evil).unwrap();
}

#[test]
fn container_that_divided_its_cgroup_takes_processes_where_its_init_is() {
    let Some(t) = Test::begin() else { return };
    let controllers = lossy(Path::new("/sys/fs/cgroup/cgroup.controllers"));
    let Some(controller) = controllers.split_whitespace().next() else { return };
    let enable = format!("+{controller}");
    let c = hold(t.bundle());
    let own = c.bundle.cgroup();
    std::fs::write(own.with_file_name("cgroup.subtree_control"), &enable).unwrap();
    std::fs::create_dir(own.join("leaf")).unwrap();
    std::fs::write(own.join("leaf/cgroup.procs"), c.pid.to_string()).unwrap();
    std::fs::write(own.join("cgroup.subtree_control"), &enable).unwrap();
    let pid = c.sleeper(&[]);
    assert_eq!(proc::cgroup(pid), proc::cgroup(c.pid));
    // A container that left its cgroup altogether, as init systems that were moved have.
    let _ = exec(&c, &[], &["/bin/true"]).ok();
}

#[test]
fn container_that_left_its_cgroup_takes_processes_where_its_init_is() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "fails") {
        return;
    }
    let c = hold(t.bundle());
    let elsewhere = c.bundle.cgroup().with_file_name(tmp::unique("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("cgroup.procs"), c.pid.to_string()).unwrap();
    match std::fs::remove_dir(c.bundle.cgroup()) {
        // systemd takes an empty one away by itself.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        result => result.unwrap(),
    }
    let pid = c.sleeper(&[]);
    let found = (proc::cgroup(pid), proc::cgroup(c.pid));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let _ = c.reap(pid);
    kill(Pid::from_raw(c.pid), Signal::SIGKILL).unwrap();
    let _ = c.container.reap();
    std::fs::remove_dir(&elsewhere).unwrap();
    assert_eq!(found.0, found.1);
}

#[test]
fn threaded_cgroups_below_do_not_matter() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let sub = c.bundle.cgroup().join("threads");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(sub.join("cgroup.type"), "threaded").unwrap();
    let pid = c.sleeper(&[]);
    assert_eq!(proc::cgroup(pid), proc::cgroup(c.pid));
    let pid = c.sleeper(&["--cgroup", "threads"]);
    assert_eq!(proc::cgroup(pid).unwrap(), format!("{}/threads", proc::cgroup(c.pid).unwrap()));
}

#[test]
fn shared_namespaces_stay_shared() {
    let Some(t) = Test::begin() else { return };
    let own = i32::try_from(std::process::id()).unwrap();
    let kinds =
        [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];
    let mut bundle = t.bundle().remove("/hostname");
    for (kind, _) in kinds {
        bundle = bundle.without_namespace(kind);
    }
    let bundle =
        bundle.set("/mounts/5", json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
    let c = hold(bundle);
    let pid = c.sleeper(&[]);
    for (_, kind) in kinds {
        assert_eq!(proc::namespace(pid, kind), proc::namespace(own, kind), "{kind}");
    }
    assert_eq!(proc::namespace(pid, "mnt"), proc::namespace(c.pid, "mnt"));
    assert_eq!(sh(&c, &[], "echo yes; exit 3").exits(3).stdout, "yes\n");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn each_namespace_alone_can_be_the_hosts() {
    let Some(t) = Test::begin() else { return };
    let own = i32::try_from(std::process::id()).unwrap();
    let kinds =
        [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];
    for (kind, short) in kinds {
        let bundle = t.bundle().without_namespace(kind);
        let bundle = if kind == "uts" { bundle.remove("/hostname") } else { bundle };
        let bundle = if kind == "network" {
            bundle.set(
                "/mounts/5",
                json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}),
            )
        } else {
            bundle
        };
        let c = hold(bundle);
        let pid = c.sleeper(&[]);
        for (_, other) in kinds {
            let (found, host) = (proc::namespace(pid, other), proc::namespace(own, other));
            assert_eq!(found, proc::namespace(c.pid, other), "without {kind}: {other}");
            assert_eq!(found == host, other == short, "without {kind}: {other}");
        }
    }
}

#[test]
fn namespaces_that_the_container_joined_are_joined() {
    let Some(t) = Test::begin() else { return };
    let first = hold(t.bundle());
    let kinds = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let mut bundle = t.bundle().remove("/hostname");
    for (kind, short) in kinds {
        let path = format!("/proc/{}/ns/{short}", first.pid);
        bundle = bundle
            .without_namespace(kind)
            .push("/linux/namespaces", json!({"type": kind, "path": path}));
    }
    let second = hold(bundle);
    let pid = second.sleeper(&[]);
    for (_, kind) in kinds {
        assert_eq!(proc::namespace(pid, kind), proc::namespace(first.pid, kind), "{kind}");
    }
    assert_eq!(proc::namespace(pid, "mnt"), proc::namespace(second.pid, "mnt"));
    assert_eq!(proc::cgroup(pid), proc::cgroup(second.pid));
    assert_eq!(sh(&second, &[], "hostname; exit 3").exits(3).stdout, "test\n");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn container_without_pivot_keeps_its_root() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/mine", "mine\n", 0o644).args(&["/bin/sleep", "1000"]);
    let pid_file = bundle.dir.join("pid");
    let flags = ["--no-pivot", "-d", "--pid-file", pid_file.to_str().unwrap()];
    let _ = bundle.command("run", &flags).done().ok();
    let call = |flags: &[&str], script: &str| {
        t.command(["exec"]).args(flags).arg(&bundle.id).args(["/bin/sh", "-c", script]).done()
    };
    let done = call(&[], "cat /mine; pwd; ls -d /work /home/user 2>/dev/null; stat -f -c %T /proc")
        .exits(0);
    assert_eq!(done.lines()[..2], ["mine", "/"], "{done}");
    let done = call(&["--cwd", "/tmp", "-u", "1000"], "pwd; cd ..; cd ..; cat mine").ok();
    assert_eq!(done.lines(), ["/tmp", "mine"]);
    let pid: i32 = lossy(&pid_file).parse().unwrap();
    let _ = t.call(&["delete", "--force", &bundle.id]);
    let _ = waitpid(Pid::from_raw(pid), None);
}

#[test]
fn many_at_once_keep_apart_and_leave_nothing() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let running: Vec<_> = (0..20)
        .map(|i| command(&c, &[], &["/bin/sh", "-c", &format!("echo {i}; exit {i}")]).spawn())
        .collect();
    for (i, running) in running.into_iter().enumerate() {
        let done = running.done().exits(i32::try_from(i).unwrap());
        assert_eq!(done.stdout, format!("{i}\n"));
    }
    wait_for("the end of all", || processes(&c.bundle.cgroup()) == [c.pid]);
    let state: Vec<_> = std::fs::read_dir(t.root().join(&c.bundle.id)).unwrap().collect();
    assert!(state.len() < 8, "{state:?}");
}

#[test]
fn nobody_holds_the_callers_streams_after_a_detached_exec_with_a_terminal() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let listener = UnixListener::bind(t.dir().join("tty.sock")).unwrap();
    let (mut read, write) = std::io::pipe().unwrap();
    let path = t.dir().join("tty.sock");
    let pid_file = t.dir().join("pid");
    let flags = ["-t", "-d", "--console-socket", path.to_str().unwrap(), "--pid-file"];
    let flags = [&flags[..], &[pid_file.to_str().unwrap()]].concat();
    let _ = command(&c, &flags, &["/bin/sleep", "1000"]).stdout(write).done().ok();
    c.detached.borrow_mut().push(Pid::from_raw(lossy(&pid_file).parse().unwrap()));
    let mut text = String::new();
    // The end comes only when nobody holds the pipe any more.
    read.read_to_string(&mut text).unwrap();
    drop(listener);
}

#[test]
fn options_after_the_id_are_the_programs() {
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    assert_eq!(exec(&c, &[], &["/bin/echo", "-t", "--cwd", "-u"]).ok().stdout, "-t --cwd -u\n");
    assert_eq!(exec(&c, &["--"], &["/bin/echo", "--", "-e"]).ok().stdout, "-- -e\n");
}

#[test]
fn long_arguments_and_variables_arrive() {
    // CVE-2021-43784: lengths of 16 bits.
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    for length in [65_535, 65_536, 70_000] {
        let mut p = process("printf '%s' \"$V\" | wc -c; printf '%s' \"$1\" | wc -c; env | wc -l");
        let long = "x".repeat(length);
        p["args"].as_array_mut().unwrap().extend([json!("sh"), json!(long)]);
        let env = p["env"].as_array_mut().unwrap();
        env.push(json!(format!("V={long}")));
        env.extend((0..5000).map(|i| json!(format!("N{i}=x"))));
        let done = with_process(&c, &[], &p).ok();
        let lines = done.lines();
        assert_eq!(lines[..2], [length.to_string(), length.to_string()]);
        assert!(lines[2].parse::<u32>().unwrap() > 5000);
    }
}

#[test]
fn runtime_is_not_reachable_through_the_programs_exe() {
    // CVE-2019-5736.
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle().file("/bin/self", "#!/proc/self/exe\n", 0o755));
    let before = std::fs::read(t.runtime()).unwrap();
    for args in [&["/proc/self/exe", "--version"][..], &["/bin/self"]] {
        let done = exec(&c, &[], args);
        assert!(!done.stdout.contains("spec:"), "the runtime ran in the container: {done}");
    }
    assert!(before == std::fs::read(t.runtime()).unwrap());
}

/// Runs `work` while watching all processes of a pid namespace; those that were seen there as an image
/// of the runtime's own file.
fn seen_in(namespace: &str, runtime: &Path, work: impl FnOnce()) -> Vec<String> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let path = entry.path();
                    if !entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with(|c: char| c.is_ascii_digit())
                    {
                        continue;
                    }
                    let link = |name: &str| std::fs::read_link(path.join(name)).unwrap_or_default();
                    if link("exe") == runtime
                        && link("ns/pid") == Path::new(namespace)
                        && link("exe") == runtime
                    {
                        seen.push(path.display().to_string());
                    }
                }
            }
            seen
        });
        work();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

#[test]
fn runtimes_own_file_is_never_the_image_of_a_process_in_the_container() {
    // CVE-2019-5736: a process with CAP_SYS_PTRACE in the container can keep `/proc/PID/exe` of each that it sees,
    // and write to the file when it is no longer executed; CVE-2016-9962: or take its descriptors.
    let Some(t) = Test::begin() else { return };
    let c = hold(t.bundle());
    let namespace = proc::namespace(c.pid, "pid").unwrap();
    let seen = seen_in(&namespace, t.runtime(), || {
        for _ in 0..100 {
            let _ = exec(&c, &[], &["/bin/true"]).ok();
        }
    });
    assert!(seen.is_empty(), "{} of 100 times", seen.len());
    // The same holds for a container that joins the pid namespace of another.
    let path = format!("/proc/{}/ns/pid", c.pid);
    let seen = seen_in(&namespace, t.runtime(), || {
        for _ in 0..30 {
            let bundle = t.bundle().without_namespace("pid");
            let bundle = bundle.push("/linux/namespaces", json!({"type": "pid", "path": path}));
            let _ = bundle.args(&["/bin/true"]).run().ok();
        }
    });
    assert!(seen.is_empty(), "{} of 30 times", seen.len());
}

#[test]
fn exec_in_a_read_only_container_with_closed_streams_works() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "fails") {
        return;
    }
    let c = hold(t.bundle().set("/root/readonly", json!(true)));
    let run = Run::new("/bin/sh", t.dir()).args(["-c", "exec <&- >&- 2>&-; exec \"$@\"", "sh"]);
    let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args(["exec", &c.bundle.id]);
    let _ = run.args(["/bin/sh", "-c", "ls -l /proc/self/fd/0 && exit 3"]).done().exits(3);
}
