//! A user's systemd as the one who makes the cgroups of that user's containers, for a caller whose own cgroup is
//! elsewhere, as a login's is: `conformance/systemd.sh` has such a systemd.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use orlop_conformance::harness::skip;
use orlop_conformance::rootless::{Rootless, USER};
use orlop_conformance::run::wait_for;
use orlop_conformance::{Test, proc};
use serde_json::json;

fn begin() -> Option<Test> {
    if std::env::var_os("ORLOP_MACHINE").is_some() {
        let mut start = std::process::Command::new("systemctl");
        assert!(start.args(["start", "user@1000"]).status().unwrap().success());
    }
    if !Path::new("/run/user/1000/bus").exists() {
        skip("no systemd of a user (run with conformance/systemd.sh)");
        return None;
    }
    Test::begin()
}

fn caller(t: &Test) -> Rootless<'_> {
    let mut caller = Rootless::new(t).sh("sleep 1000; true");
    caller.bus = Some("unix:path=/run/user/1000/bus".to_owned());
    with_procfs(caller)
}

/// systemd.sh mounts over parts of its procfs; where there is no whole one, no user namespace gets one of its own.
fn with_procfs(mut caller: Rootless<'_>) -> Rootless<'_> {
    let place = caller.dir.join("procfs");
    std::fs::create_dir(&place).unwrap();
    let script = format!("mount -t proc proc {} && exec \"$@\"", place.display());
    let command = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    caller.before.splice(0..0, command.map(str::to_owned));
    caller
}

fn directory(cgroup: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(&cgroup[1..])
}

/// The pid of a process that `exec` has left in the container.
fn exec_detached(c: &Rootless<'_>, flags: &[&str]) -> i32 {
    let args = [&["exec", "-d", "--pid-file", "exec-pid"], flags, &[&c.id, "/bin/sleep", "1000"]];
    let _ = c.call(&args.concat()).ok();
    std::fs::read_to_string(c.dir.join("exec-pid")).unwrap().parse().unwrap()
}

#[test]
fn container_of_a_user_is_in_a_scope_of_that_users_systemd() {
    let Some(t) = begin() else { return };
    let c = caller(&t);
    let pid = c.start();
    let cgroup = proc::cgroup(pid).unwrap();
    let wanted = format!("/user.slice/orlop-{}.scope", c.id);
    assert!(cgroup.starts_with("/user.slice/user-1000.slice/"), "{cgroup}");
    assert!(cgroup.ends_with(&wanted), "{cgroup}");
    c.assert_managed(pid);
    let _ = c.call(&["kill", &c.id, "KILL"]).ok();
    wait_for("the end", || c.call(&["state", &c.id]).stdout.contains("stopped"));
    let _ = c.call(&["delete", &c.id]).ok();
    assert!(!directory(&cgroup).exists());
}

#[test]
fn process_of_exec_from_a_login_session_is_in_the_containers_scope() {
    let Some(t) = begin() else { return };
    let c = caller(&t);
    let pid = c.start();
    let cgroup = proc::cgroup(pid).unwrap();
    assert_eq!(proc::cgroup(exec_detached(&c, &[])).unwrap(), cgroup);
    let done = c.exec("grep ^0: /proc/self/cgroup; id -u; exit 7").exits(7);
    assert_eq!(done.stdout, "0::/\n0\n");
    // So is one in a cgroup below, and one of another user than the caller.
    let below = directory(&cgroup).join("below");
    std::fs::create_dir(&below).unwrap();
    lchown(&below, Some(USER), Some(USER)).unwrap();
    lchown(below.join("cgroup.procs"), Some(USER), Some(USER)).unwrap();
    let exec = exec_detached(&c, &["--cgroup", "below"]);
    assert_eq!(proc::cgroup(exec).unwrap(), format!("{cgroup}/below"));
}

#[test]
fn user_whose_containers_have_ranges_of_ids_may_exec_from_a_login_session_too() {
    let Some(t) = begin() else { return };
    if t.lacks("newuidmap", !Path::new("/usr/bin/newuidmap").exists()) {
        return;
    }
    let c = caller(&t).with_ranges().set("/process/user", json!({"uid": 7, "gid": 8}));
    let pid = c.start();
    assert_eq!(proc::cgroup(exec_detached(&c, &[])), proc::cgroup(pid));
    assert_eq!(c.exec("id -u").ok().stdout, "7\n");
}

#[test]
fn further_process_is_refused_where_the_users_systemd_is_gone() {
    let Some(t) = begin() else { return };
    let mut c = caller(&t);
    let pid = c.start();
    let cgroup = directory(&proc::cgroup(pid).unwrap());
    // The bus is the one that was recorded.
    let hidden = [
        "unshare",
        "-m",
        "sh",
        "-c",
        "mount --bind /dev/null /run/user/1000/bus && exec \"$@\"",
        "sh",
    ];
    c.before = hidden.map(str::to_owned).to_vec();
    let done = c.exec("echo not reached").exits(255);
    c.before.clear();
    assert!(done.stderr.contains("cannot connect to systemd"), "{done}");
    let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert_eq!(pids.lines().count(), 2, "the shell and its child: {pids}");
}
