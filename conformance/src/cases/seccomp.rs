//! Seccomp: config-linux.md.
//!
//! The call that is filtered is lseek(2) on a descriptor that is none: EBADF says that it was allowed.

use serde_json::{Value, json};

use super::section;
use crate::suite::payload::Reply;
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

/// lseek(-1, offset, whence).
const CALL: &str = "syscall 8 -1 ";

fn filtered<'t>(t: &'t Test, default: &str, syscalls: Value) -> Bundle<'t> {
    let profile = json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": syscalls
    });
    t.bundle().set("/linux/seccomp", profile)
}

fn rule(action: &str) -> Value {
    json!([{"names": ["lseek"], "action": action}])
}

/// The errno of the call with this offset.
fn tried(b: Bundle<'_>, offset: u64) -> Reply {
    b.act(&format!("{CALL}{offset}"))
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "seccomp", "config-linux.md#seccomp");
    actions(&mut s);
    operators(&mut s);
    defaults(&mut s);
    whole(&mut s);
    refused(&mut s);
}

fn actions(s: &mut Section<'_>) {
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
        s.case(format!("{action} lets the call through"), move |t| {
            tried(filtered(t, "SCMP_ACT_ALLOW", rule(action)), 0).fails(&[libc::EBADF]);
        });
    }
    s.case("SCMP_ACT_ERRNO gives EPERM where no errno is named", |t| {
        tried(filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO")), 0).fails(&[libc::EPERM]);
    });
    for errno in [libc::ENOENT, libc::ENOSYS, libc::ETIMEDOUT] {
        s.case(format!("SCMP_ACT_ERRNO gives errno {errno}"), move |t| {
            let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]);
            tried(filtered(t, "SCMP_ACT_ALLOW", rule), 0).fails(&[errno]);
        });
    }
    s.case("SCMP_ACT_TRACE without a tracer gives ENOSYS", |t| {
        tried(filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_TRACE")), 0).fails(&[libc::ENOSYS]);
    });
    for action in
        ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
    {
        s.case(format!("{action} ends the process by SIGSYS"), move |t| {
            let b =
                filtered(t, "SCMP_ACT_ALLOW", rule(action)).payload(&["child", "syscall 8 -1 0"]);
            let done = b.run().ok();
            let replies = crate::suite::payload::replies(&done.stdout);
            let end = &replies.last().expect("an answer").ok()["signal"];
            assert_eq!(*end, libc::SIGSYS, "{done}");
        });
    }
    s.case("SCMP_ACT_ALLOW lets the named calls through where the default is an errno", |t| {
        let names = json!([{"names": everything_but(&["lseek"]), "action": "SCMP_ACT_ALLOW"}]);
        tried(filtered(t, "SCMP_ACT_ERRNO", names), 0).fails(&[libc::EPERM]);
    });
}

/// Calls that the payload and runtimes make, but for some.
fn everything_but(without: &[&str]) -> Vec<&'static str> {
    let all = include_str!("syscalls.txt").split_whitespace();
    all.filter(|name| !without.contains(name)).collect()
}

fn operators(s: &mut Section<'_>) {
    // The operator with 5 (masked: value 4 under mask 12), an offset that it hits, and one that it does not.
    for (op, value, two, hit, miss) in [
        ("SCMP_CMP_EQ", 5_u64, 0_u64, 5_u64, 6_u64),
        ("SCMP_CMP_NE", 5, 0, 6, 5),
        ("SCMP_CMP_LT", 5, 0, 4, 5),
        ("SCMP_CMP_LE", 5, 0, 5, 6),
        ("SCMP_CMP_GT", 5, 0, 6, 5),
        ("SCMP_CMP_GE", 5, 0, 5, 4),
        ("SCMP_CMP_MASKED_EQ", 12, 4, 5, 8),
        ("SCMP_CMP_EQ", 0x1_0000_0005, 0, 0x1_0000_0005, 5),
        ("SCMP_CMP_GT", 0x1_0000_0005, 0, 0x2_0000_0000, 0xffff_ffff),
        ("SCMP_CMP_LT", 0x1_0000_0005, 0, 0xffff_ffff, 0x2_0000_0000),
    ] {
        let compared = move |t: &Test, offset: u64| {
            let args = json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]);
            let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
            tried(filtered(t, "SCMP_ACT_ALLOW", rule), offset)
        };
        s.case(format!("{op} {value:#x} holds for {hit:#x}"), move |t| {
            compared(t, hit).fails(&[libc::ENOSPC]);
        });
        s.case(format!("{op} {value:#x} does not hold for {miss:#x}"), move |t| {
            compared(t, miss).fails(&[libc::EBADF]);
        });
    }
    for (index, call) in [(0, "syscall 8 -1 7 9"), (1, "syscall 8 -1 7 9"), (2, "syscall 8 -1 7 9")]
    {
        s.case(format!("argument {index} is compared"), move |t| {
            let value = [u64::MAX, 7, 9][index];
            let args = json!([{"index": index, "value": value, "op": "SCMP_CMP_EQ"}]);
            let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
            filtered(t, "SCMP_ACT_ALLOW", rule).act(call).fails(&[libc::ENOSPC]);
        });
    }
    s.case("all conditions of a rule must hold", |t| {
        let args = json!([
            {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}
        ]);
        let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
        let b = filtered(t, "SCMP_ACT_ALLOW", rule);
        let replies = b.acts(&["syscall 8 -1 7 9", "syscall 8 -1 7 8", "syscall 8 -1 6 9"]);
        replies[0].fails(&[libc::ENOSPC]);
        replies[1].fails(&[libc::EBADF]);
        replies[2].fails(&[libc::EBADF]);
    });
    s.case("two rules for one call hold each on its own", |t| {
        let rule = |offset: u64| {
            json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                   "args": [{"index": 1, "value": offset, "op": "SCMP_CMP_EQ"}]})
        };
        let b = filtered(t, "SCMP_ACT_ALLOW", json!([rule(1), rule(2)]));
        let replies = b.acts(&["syscall 8 -1 1", "syscall 8 -1 2", "syscall 8 -1 3"]);
        replies[0].fails(&[libc::ENOSPC]);
        replies[1].fails(&[libc::ENOSPC]);
        replies[2].fails(&[libc::EBADF]);
    });
}

fn defaults(s: &mut Section<'_>) {
    s.case("defaultErrnoRet is what calls get that are not named", |t| {
        let names = json!([{"names": everything_but(&["lseek"]), "action": "SCMP_ACT_ALLOW"}]);
        let b =
            filtered(t, "SCMP_ACT_ERRNO", names).set("/linux/seccomp/defaultErrnoRet", json!(38));
        tried(b, 0).fails(&[libc::ENOSYS]);
    });
    for flag in
        ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    {
        s.case(format!("flag {flag} is taken"), move |t| {
            let b = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO"));
            tried(b.set("/linux/seccomp/flags", json!([flag])), 0).fails(&[libc::EPERM]);
        });
    }
    s.case("names of calls that nobody knows are ignored", |t| {
        let rule = json!([{"names": ["no_such_call", "lseek"], "action": "SCMP_ACT_ERRNO"}]);
        tried(filtered(t, "SCMP_ACT_ALLOW", rule), 0).fails(&[libc::EPERM]);
    });
}

fn whole(s: &mut Section<'_>) {
    s.case("filter is in force", |t| {
        let facts = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO")).facts();
        assert_eq!(facts.status("Seccomp"), "2");
    });
    s.case("process without a profile has no filter", |t| {
        assert_eq!(t.bundle().facts().status("Seccomp"), "0");
    });
    s.case("filter counts for children", |t| {
        let b = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO"));
        let done = b.payload(&["child", "syscall 8 -1 0"]).run().ok();
        crate::suite::payload::replies(&done.stdout)[0].fails(&[libc::EPERM]);
    });
    s.case("filter counts for a user other than root without noNewPrivileges", |t| {
        let b = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO"))
            .set("/process/noNewPrivileges", json!(false))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let replies = b.acts(&["facts", "syscall 8 -1 0"]);
        assert_eq!(replies[0].ok()["no_new_privs"], 0);
        replies[1].fails(&[libc::EPERM]);
    });
    s.case("filter counts for processes that exec adds", |t| {
        let c = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO")).sleeping().run_detached();
        c.exec(&[], &["syscall 8 -1 0"])[0].fails(&[libc::EPERM]);
    });
    s.case("profile for more architectures is taken", |t| {
        let all = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        let b = filtered(t, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO"));
        tried(b.set("/linux/seccomp/architectures", all), 0).fails(&[libc::EPERM]);
    });
    s.case("Docker's default profile lets the payload run", |t| {
        let docker: Value =
            serde_json::from_str(include_str!("../../bundles/docker.json")).unwrap();
        let b = t.bundle().set("/linux/seccomp", docker["linux"]["seccomp"].clone());
        // unshare(CLONE_NEWUSER)
        b.act("unshare 0x10000000").fails(&[libc::EPERM]);
    });
}

fn refused(s: &mut Section<'_>) {
    let call = |extra: Value| {
        let mut rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO"});
        for (key, value) in extra.as_object().expect("an object") {
            rule[key] = value.clone();
        }
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    };
    for (what, profile) in [
        ("unknown action", call(json!({"action": "SCMP_ACT_NOSUCH"}))),
        ("unknown default action", json!({"defaultAction": "SCMP_ACT_NOSUCH"})),
        (
            "unknown operator",
            call(json!({"args": [{"index": 0, "value": 0, "op": "SCMP_CMP_NOSUCH"}]})),
        ),
        (
            "argument that calls do not have",
            call(json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
        ),
        (
            "unknown architecture",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOSUCH"], "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO"}]}),
        ),
        (
            "unknown flag",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOSUCH"], "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO"}]}),
        ),
        ("notification without a listener", call(json!({"action": "SCMP_ACT_NOTIFY"}))),
    ] {
        s.case(format!("{what} is refused"), move |t| {
            let done = t.bundle().set("/linux/seccomp", profile.clone()).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
}
