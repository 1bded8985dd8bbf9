//! Seccomp, as the payload feels it.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::{Bundle, Peer, Test};
use serde_json::{Value, json};

fn filtered<'t>(t: &'t Test, default: &str, syscalls: Value) -> Bundle<'t> {
    t.bundle().set(
        "/linux/seccomp",
        json!({
            "defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": syscalls
        }),
    )
}

/// The image decides what these hooks are.
#[test]
fn hooks_at_the_start_run_under_the_filter() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "loads it after them with noNewPrivileges") {
        return;
    }
    for nnp in [true, false] {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]});
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/made"]});
        let bundle = t
            .bundle()
            .set("/process/noNewPrivileges", json!(nnp))
            .set("/linux/seccomp", filter)
            .push("/hooks/startContainer", hook);
        let done = bundle.run().exits(1);
        assert!(done.stderr.contains("error running startContainer hook"), "{nnp}: {done}");
        assert!(!bundle.rootfs().join("tmp/made").exists(), "{nnp}");
    }
}

#[test]
fn refused_call_gets_eperm_or_the_given_errno() {
    let Some(t) = Test::begin() else { return };
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    let done = filtered(&t, "SCMP_ACT_ALLOW", rule).args(&["/bin/mkdir", "/tmp/x"]).run().exits(1);
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
    let done = filtered(&t, "SCMP_ACT_ALLOW", rule).args(&["/bin/mkdir", "/tmp/x"]).run().exits(1);
    assert!(done.stderr.contains("No space left on device"), "{done}");
}

#[test]
fn profile_that_says_nothing_is_none() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "wants a default action") {
        return;
    }
    for profile in [
        json!({}),
        json!({"defaultAction": ""}),
        json!({"defaultAction": "", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}),
    ] {
        let bundle = t.bundle().set("/linux/seccomp", profile);
        let done = bundle.args(&["/bin/grep", "Seccomp:", "/proc/self/status"]).run().ok();
        assert_eq!(done.stdout, "Seccomp:\t0\n");
    }
    // One that says something says all that it must.
    for profile in [
        json!({"syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]}),
        json!({"DefaultAction": "SCMP_ACT_ERRNO"}),
    ] {
        if t.differs(&[Peer::Runc], "ignores the second") {
            return;
        }
        let _ = t
            .bundle()
            .set("/linux/seccomp", profile)
            .try_create()
            .fails("linux.seccomp: missing field");
    }
}

#[test]
fn calls_that_are_not_named_are_allowed() {
    let Some(t) = Test::begin() else { return };
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    let _ = filtered(&t, "SCMP_ACT_ALLOW", rule).args(&["/bin/touch", "/tmp/x"]).run().ok();
}

#[test]
fn killed_payload_dies_of_sigsys() {
    let Some(t) = Test::begin() else { return };
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
        let bundle = filtered(&t, "SCMP_ACT_ALLOW", rule).sh("mkdir /tmp/x; echo $?");
        let out = bundle.run().ok().stdout;
        assert_eq!(out.trim(), "159", "128 + SIGSYS for {action}");
    }
}

#[test]
fn arguments_are_compared() {
    let Some(t) = Test::begin() else { return };
    // dd conv=... no: `sleep 0` calls clock_nanosleep; chmod's second argument is the mode.
    let rule = |op: &str, value: u64| {
        json!([{
            "names": ["chmod"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": value, "op": op}]
        }])
    };
    let script = "touch /tmp/f; chmod 600 /tmp/f && echo six; chmod 700 /tmp/f && echo seven; true";
    for (op, want) in [
        ("SCMP_CMP_EQ", "seven\n"),
        ("SCMP_CMP_NE", "six\n"),
        ("SCMP_CMP_LT", "six\nseven\n"),
        ("SCMP_CMP_LE", "seven\n"),
        ("SCMP_CMP_GT", "six\n"),
        ("SCMP_CMP_GE", ""),
    ] {
        let bundle = filtered(&t, "SCMP_ACT_ALLOW", rule(op, 0o600)).sh(script);
        assert_eq!(bundle.run().ok().stdout, want, "{op}");
    }
    let rule = json!([{
        "names": ["chmod"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": 0o100, "valueTwo": 0o100, "op": "SCMP_CMP_MASKED_EQ"}]
    }]);
    let bundle = filtered(&t, "SCMP_ACT_ALLOW", rule).sh(script);
    assert_eq!(bundle.run().ok().stdout, "six\n");
}

#[test]
fn allow_list_with_a_default_errno_lets_a_shell_run() {
    let Some(t) = Test::begin() else { return };
    let text = include_str!("../bundles/docker.json");
    let docker: Value = serde_json::from_str(text).unwrap();
    let bundle = t.bundle().set("/linux/seccomp", docker["linux"]["seccomp"].clone());
    let script = "echo hello | cat; unshare -U true || echo refused; \
                  grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status";
    let out = bundle.sh(script).run().ok().stdout;
    assert_eq!(out, "hello\nrefused\nNoNewPrivs:\t1\nSeccomp:\t2\n");
}

#[test]
fn filter_works_without_no_new_privileges() {
    let Some(t) = Test::begin() else { return };
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    let bundle = filtered(&t, "SCMP_ACT_ALLOW", rule)
        .set("/process/noNewPrivileges", json!(false))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let out = bundle.sh("mkdir /tmp/x || grep NoNewPrivs /proc/self/status").run().ok().stdout;
    assert_eq!(out, "NoNewPrivs:\t0\n");
}

/// The runtime knows which calls it makes under the filter: with a filter that kills for any other,
/// the program is reached (and dies of its first own call).
#[test]
fn runtime_makes_no_call_under_the_filter_but_those_it_checks() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "they make calls that they do not check") {
        return;
    }
    let last = ["execve", "write", "read", "exit_group"];
    let before = [
        "getcwd",
        "prctl",
        "setgroups",
        "setresgid",
        "setresuid",
        "capset",
        "newfstatat",
        "faccessat2",
        "chdir",
    ];
    for (nnp, names) in [(true, last.to_vec()), (false, [&last[..], &before[..]].concat())] {
        let rule = json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]);
        let bundle = filtered(&t, "SCMP_ACT_KILL_PROCESS", rule)
            .set("/process/noNewPrivileges", json!(nnp))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let _ = bundle.args(&["/bin/true"]).run().exits(128 + 31);
    }
}

#[test]
fn unknown_calls_are_ignored_unknown_actions_refused() {
    let Some(t) = Test::begin() else { return };
    let rule = json!([{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}]);
    let _ = filtered(&t, "SCMP_ACT_ALLOW", rule).args(&["/bin/mkdir", "/tmp/x"]).run().exits(1);
    let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOSUCH"}]);
    let _ = filtered(&t, "SCMP_ACT_ALLOW", rule).run().exits(1);
    let _ = filtered(&t, "SCMP_ACT_NOSUCH", json!([])).run().exits(1);
}

#[test]
fn calls_of_another_architecture_do_not_pass() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "not looked into") {
        return;
    }
    let bundle = t.bundle().set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOSUCH"]
        }),
    );
    let _ = bundle.run().exits(1);
}
