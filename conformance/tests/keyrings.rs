//! The session keyring of a container.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::{Bundle, Peer, Run, Test, rootfs};
use serde_json::json;

/// keyctl(2), `KEYCTL_GET_KEYRING_ID` of `KEY_SPEC_SESSION_KEYRING`.
const SESSION: [&str; 7] = ["/bin/probe", "call", "x86_64", "250", "0", "-3", "0"];

/// A bundle with the probe; none, said loudly, where the machine lacks what the tests need.
fn bundle(t: &Test) -> Option<Bundle<'_>> {
    let keyrings = std::path::Path::new("/proc/keys").exists();
    if t.lacks("keyrings", !keyrings) {
        return None;
    }
    let bundle = t.bundle();
    let probe = rootfs::add_probe(&bundle.rootfs());
    if t.lacks("probe", !probe) {
        return None;
    }
    Some(bundle)
}

fn number(text: &str) -> i64 {
    let number = text.trim().parse().unwrap();
    assert!(number > 0, "{text}");
    number
}

#[test]
fn container_has_a_session_keyring_of_its_own_and_exec_joins_it() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "each process of exec has a keyring of its own") {
        return;
    }
    for uid in [0, 1000] {
        let Some(bundle) = bundle(&t) else { return };
        let user = json!({"uid": uid, "gid": uid});
        let script = format!("{}; sleep 100", SESSION.join(" "));
        let c = bundle.set("/process/user", user).sh(&script).create();
        // Joined whatever comes first.
        let before = number(&c.call("exec", &[], &SESSION).ok().stdout);
        let _ = c.start().ok();
        c.wait_for_output("\n");
        let own = number(&c.written());
        assert_eq!(before, own, "uid {uid}");
        for user in ["0", "1000"] {
            let joined = c.call("exec", &["--user", user], &SESSION).ok();
            assert_eq!(number(&joined.stdout), own, "uid {uid}, exec as {user}");
        }
        let keys = std::fs::read_to_string("/proc/keys").unwrap();
        let named = keys.lines().filter(|line| line.contains(&format!("_ses.{}:", c.bundle.id)));
        assert_eq!(named.count(), 1, "{keys}");
    }
}

#[test]
fn keyrings_differ_between_containers_and_from_the_callers() {
    let Some(t) = Test::begin() else { return };
    let Some(one) = bundle(&t) else { return };
    let caller = Run::new(one.rootfs().join("bin/probe"), t.dir()).args(&SESSION[1..]);
    let caller = number(&caller.done().ok().stdout);
    let one = one.args(&SESSION);
    let first = number(&one.run().ok().stdout);
    let second = number(&bundle(&t).unwrap().args(&SESSION).run().ok().stdout);
    assert!(first != second && first != caller && second != caller);
    let kept = bundle(&t).unwrap().args(&SESSION);
    let kept = kept.command("run", &["--no-new-keyring"]).done().ok();
    assert_eq!(number(&kept.stdout), caller);
}
