//! The process: ids, capabilities, limits, directory, environment, and finding the program.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs::File;

use orlop_conformance::{Bundle, Peer, Test, proc};
use serde_json::json;

fn status(bundle: Bundle<'_>) -> BTreeMap<String, String> {
    proc::status(&bundle.args(&["/bin/cat", "/proc/self/status"]).run().ok().stdout)
}

#[test]
fn user_group_and_additional_groups_are_the_configs() {
    let Some(t) = Test::begin() else { return };
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7]});
    let s = status(t.bundle().set("/process/user", user));
    assert_eq!(s["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(s["Gid"], "1001\t1001\t1001\t1001");
    assert_eq!(s["Groups"], "5 7");
}

#[test]
fn groups_of_the_caller_are_cleared() {
    let Some(t) = Test::begin() else { return };
    assert_eq!(status(t.bundle())["Groups"], "");
}

#[test]
fn numeric_user_is_not_looked_up_by_name() {
    // CVE-2016-3697: a user *named* 1000 with uid 0.
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/etc/passwd", "1000:x:0:0::/:/bin/sh\n", 0o644);
    let s = status(bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})));
    assert_eq!(s["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(s["Groups"], "");
}

#[test]
fn umask_is_the_configs_or_022() {
    let Some(t) = Test::begin() else { return };
    assert_eq!(status(t.bundle())["Umask"], "0022");
    assert_eq!(status(t.bundle().set("/process/user/umask", json!(0o77)))["Umask"], "0077");
    assert_eq!(status(t.bundle().set("/process/user/umask", json!(0)))["Umask"], "0000");
}

#[test]
fn capability_sets_are_the_configs() {
    let Some(t) = Test::begin() else { return };
    let caps = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]
    });
    // A user without root, or execve would give all that the bounding set allows.
    let user = json!({"uid": 1000, "gid": 1000});
    let s = status(t.bundle().set("/process/capabilities", caps).set("/process/user", user));
    assert_eq!(s["CapBnd"], "0000000000002021");
    assert_eq!(s["CapInh"], "0000000000000020");
    assert_eq!(s["CapAmb"], "0000000000000020");
    assert_eq!(s["CapPrm"], "0000000000000020", "execve as a user keeps the ambient set alone");
    assert_eq!(s["CapEff"], "0000000000000020");
}

#[test]
fn root_has_the_bounding_set_and_nothing_is_inheritable() {
    let Some(t) = Test::begin() else { return };
    let s = status(t.bundle());
    // AUDIT_WRITE 29, KILL 5, NET_BIND_SERVICE 10
    assert_eq!(s["CapEff"], "0000000020000420");
    assert_eq!(s["CapPrm"], "0000000020000420");
    assert_eq!(s["CapBnd"], "0000000020000420");
    assert_eq!(s["CapInh"], "0000000000000000");
    assert_eq!(s["CapAmb"], "0000000000000000");
}

#[test]
fn no_capabilities_in_the_config_are_no_capabilities() {
    let Some(t) = Test::begin() else { return };
    let s = status(t.bundle().set("/process/capabilities", json!({})));
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(s[set], "0000000000000000", "{set}");
    }
}

#[test]
fn users_get_no_capability_from_a_full_bounding_set() {
    // CVE-2016-8867
    let Some(t) = Test::begin() else { return };
    let all = json!(["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_DAC_OVERRIDE"]);
    let caps = json!({"bounding": all, "permitted": all, "effective": all});
    let user = json!({"uid": 1000, "gid": 1000});
    let s = status(t.bundle().set("/process/capabilities", caps).set("/process/user", user));
    assert_eq!(s["CapEff"], "0000000000000000");
    assert_eq!(s["CapAmb"], "0000000000000000");
}

#[test]
fn unknown_capabilities_are_only_warned_about() {
    let Some(t) = Test::begin() else { return };
    let caps = json!({"bounding": ["CAP_NOSUCH", "CAP_KILL"]});
    let s = status(t.bundle().set("/process/capabilities", caps));
    assert_eq!(s["CapBnd"], "0000000000000020");
}

#[test]
fn no_new_privileges_is_the_configs() {
    let Some(t) = Test::begin() else { return };
    assert_eq!(status(t.bundle())["NoNewPrivs"], "1");
    assert_eq!(status(t.bundle().set("/process/noNewPrivileges", json!(false)))["NoNewPrivs"], "0");
    assert_eq!(status(t.bundle().remove("/process/noNewPrivileges"))["NoNewPrivs"], "0");
}

#[test]
fn rlimits_are_set_and_others_inherited() {
    let Some(t) = Test::begin() else { return };
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 1000, "hard": 1001}
    ]);
    let args = ["/bin/cat", "/proc/self/limits"];
    let out = t.bundle().set("/process/rlimits", limits).args(&args).run().ok().stdout;
    let row = |out: &str, name: &str| {
        let line = out.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        let words: Vec<_> = line[name.len()..].split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    assert_eq!(row(&out, "Max open files"), ("100".into(), "200".into()));
    assert_eq!(row(&out, "Max core file size"), ("0".into(), "0".into()));
    assert_eq!(row(&out, "Max processes"), ("1000".into(), "1001".into()));
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    assert_eq!(row(&out, "Max stack size"), row(&own, "Max stack size"), "inherited");
}

#[test]
fn duplicate_and_unknown_rlimits_are_refused() {
    let Some(t) = Test::begin() else { return };
    let twice = json!([
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}
    ]);
    if !t.differs(&[Peer::Runc, Peer::Crun], "accept duplicates") {
        let _ = t.bundle().set("/process/rlimits", twice).run().exits(1);
    }
    let unknown = json!([{"type": "RLIMIT_NOSUCH", "soft": 10, "hard": 20}]);
    let _ = t.bundle().set("/process/rlimits", unknown).run().exits(1);
}

#[test]
fn oom_score_adj_is_the_configs() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/process/oomScoreAdj", json!(321));
    assert_eq!(bundle.args(&["/bin/cat", "/proc/self/oom_score_adj"]).run().ok().stdout, "321\n");
}

#[test]
fn cwd_is_made_when_it_is_missing() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/process/cwd", json!("/a/b/c")).sh("pwd; stat -c '%a %u' .");
    assert_eq!(bundle.run().ok().stdout, "/a/b/c\n755 0\n");
}

#[test]
fn cwd_that_the_user_may_enter_but_root_may_not_is_entered() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let home = bundle.rootfs().join("home/user");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).unwrap();
    orlop_conformance::rootfs::mode(&home, 0o700);
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let done = bundle.set("/process/cwd", json!("/home/user")).args(&["/bin/pwd"]).run();
    assert_eq!(done.ok().stdout, "/home/user\n");
}

#[test]
fn relative_and_impossible_cwd_are_refused() {
    let Some(t) = Test::begin() else { return };
    if !t.differs(&[Peer::Crun], "accepts a relative one") {
        let _ = t.bundle().set("/process/cwd", json!("relative")).run().exits(1);
    }
    let done = t.bundle().set("/process/cwd", json!("/etc/passwd")).run().exits(1);
    assert!(done.stderr.contains("not a directory"), "{done}");
}

#[test]
fn cwd_through_a_leaked_descriptor_stays_inside() {
    // CVE-2024-21626: descriptors of the caller that point at host directories.
    let Some(t) = Test::begin() else { return };
    for n in [3, 7, 8, 9, 10] {
        for path in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../..")] {
            let bundle = t.bundle().set("/process/cwd", json!(path)).sh("pwd; ls /host-sentinel");
            let done = bundle.command("run", &[]).stdin(File::open("/").unwrap()).done();
            assert_ne!(done.code(), 0, "{done}");
        }
    }
}

#[test]
fn environment_is_the_configs_and_nothing_else() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/process/env", json!(["PATH=/bin", "A=1", "B=x=y", "EMPTY="]));
    let run = bundle.args(&["/bin/env"]).command("run", &[]).env("SECRET", "caller").done().ok();
    let mut lines = run.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=x=y", "EMPTY=", "HOME=/root", "PATH=/bin"]);
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let Some(t) = Test::begin() else { return };
    let bundle = || t.bundle().sh("echo $HOME");
    let user = |uid: u32| json!({"uid": uid, "gid": 1000});
    let home = |b: Bundle<'_>| b.run().ok().stdout;
    assert_eq!(home(bundle().set("/process/user", user(1000))), "/home/user\n");
    assert_eq!(home(bundle().set("/process/user", user(4321))), "/\n");
    assert_eq!(home(bundle().push("/process/env", json!("HOME=/mine"))), "/mine\n");
}

#[test]
fn last_of_duplicate_variables_wins() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "keeps both") {
        return;
    }
    let bundle = t.bundle().push("/process/env", json!("A=1")).push("/process/env", json!("A=2"));
    let done = bundle.args(&["/bin/env"]).run().ok();
    assert_eq!(done.lines().iter().filter(|l| l.starts_with("A=")).count(), 1);
    assert!(done.lines().contains(&"A=2"));
}

#[test]
fn variables_without_equals_sign_are_refused() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "accepts them") {
        return;
    }
    let done = t.bundle().push("/process/env", json!("NOEQUALS")).run().exits(1);
    assert!(done.stderr.contains("invalid environment variable"), "{done}");
}

#[test]
fn program_is_found_on_the_containers_path() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/opt/tool", "#!/bin/sh\necho found $0\n", 0o755);
    let bundle = bundle.file("/opt/first/tool", "not executable", 0o644);
    let bundle = bundle.set("/process/env", json!(["PATH=/nowhere:/opt/first:/opt:/bin"]));
    assert_eq!(bundle.args(&["tool"]).run().ok().stdout, "found /opt/tool\n");
}

#[test]
fn program_with_a_slash_is_relative_to_cwd() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/opt/tool", "#!/bin/sh\necho found\n", 0o755);
    let bundle = bundle.set("/process/cwd", json!("/opt"));
    assert_eq!(bundle.args(&["./tool"]).run().ok().stdout, "found\n");
}

#[test]
fn arguments_arrive_as_they_are() {
    let Some(t) = Test::begin() else { return };
    let script = "for a; do printf '[%s]' \"$a\"; done";
    let args = ["/bin/sh", "-c", script, "sh", "", "a b", "\"q\"", "$HOME", "ä\n", "-x"];
    assert_eq!(t.bundle().args(&args).run().ok().stdout, "[][a b][\"q\"][$HOME][ä\n][-x]");
}

#[test]
fn empty_args_are_refused() {
    let Some(t) = Test::begin() else { return };
    let _ = t.bundle().args(&[]).run().exits(1);
    let _ = t.bundle().remove("/process/args").run().exits(1);
}

#[test]
fn many_and_long_arguments_and_variables_arrive() {
    let Some(t) = Test::begin() else { return };
    let long = "x".repeat(70_000);
    let mut bundle =
        t.bundle().args(&["/bin/sh", "-c", "echo ${#0} $# ${#LONG}; env | wc -l", &long]);
    bundle = bundle.push("/process/env", json!(format!("LONG={long}")));
    for i in 0..2000 {
        bundle = bundle.push("/process/env", json!(format!("V{i}=1")));
        bundle = bundle.push("/process/args", json!("a"));
    }
    let done = bundle.run().ok();
    let lines = done.lines();
    assert_eq!(lines[0], "70000 2000 70000");
    assert!(lines[1].trim().parse::<u32>().unwrap() >= 2002);
}

#[test]
fn signals_are_back_to_default_and_unblocked() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/bin/cat", "/proc/self/status"]);
    bundle.write();
    // The caller ignores some signals, as conmon ignores SIGPIPE.
    let script = "trap '' PIPE HUP TERM USR1; exec \"$@\"";
    let run = orlop_conformance::Run::new("/bin/sh", t.dir()).args(["-c", script, "sh"]);
    let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args(["run", "--bundle"]);
    let s = proc::status(&run.arg(&bundle.dir).arg(&bundle.id).done().ok().stdout);
    if t.differs(&[Peer::Crun], "hands ignored signals on") {
        return;
    }
    // 32 and up belong to the C library of whoever asks.
    let ignored = u64::from_str_radix(&s["SigIgn"], 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0);
    assert_eq!(s["SigBlk"], "0000000000000000");
}

#[test]
fn payload_leads_its_session_and_group_and_is_pid_1() {
    let Some(t) = Test::begin() else { return };
    let out = t.bundle().sh("cut -d' ' -f1,5,6 /proc/$$/stat").run().ok().stdout;
    assert_eq!(out, "1 1 1\n");
}

#[test]
fn payload_does_not_get_the_callers_parent_death_signal_or_affinity() {
    let Some(t) = Test::begin() else { return };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let s = status(t.bundle());
    assert_eq!(s["Cpus_allowed_list"], proc::status(&own)["Cpus_allowed_list"]);
}

#[test]
fn scheduler_and_io_priority_are_set() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know them") {
        return;
    }
    let bundle = t.bundle().set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    let bundle =
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    let out = bundle.sh("cut -d' ' -f19,41 /proc/self/stat; ionice -p $$").run().ok().stdout;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "5 3");
    assert!(lines[1].starts_with("idle"), "{out}");
}

#[test]
fn absurd_ids_are_refused() {
    // CVE-2024-40635: an overflow must not become root.
    let Some(t) = Test::begin() else { return };
    for uid in ["-1", "4294967296", "18446744073709551616", "\"0x0\"", "\"0\"", "1e3", "1.5"] {
        let value: serde_json::Value = serde_json::from_str(uid).unwrap();
        let bundle = t.bundle().set("/process/user/uid", value).args(&["/bin/id", "-u"]);
        if t.differs(&[Peer::Crun], "wraps around") {
            return;
        }
        let done = bundle.run();
        assert_ne!(done.code(), 0, "uid {uid}: {done}");
    }
}

#[test]
fn personality_is_the_programs_and_that_of_further_processes() {
    let Some(t) = Test::begin() else { return };
    for (domain, machine) in [("LINUX", "x86_64\n"), ("LINUX32", "i686\n")] {
        let bundle = t.bundle().set("/linux/personality", json!({"domain": domain}));
        let c = bundle.sh("uname -m; sleep 100").run_detached();
        c.wait_for_output(machine);
        if !t.differs(&[Peer::Runc, Peer::Crun], "old ones do not set it for exec") {
            assert_eq!(c.call("exec", &[], &["/bin/uname", "-m"]).ok().stdout, machine);
        }
    }
}
