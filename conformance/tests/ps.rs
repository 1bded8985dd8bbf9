//! ps: the processes of a container as the host sees them.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use orlop_conformance::{Peer, Test};
use serde_json::json;

/// The host's ps, which a machine for tests may lack.
fn has_ps() -> bool {
    let there = ["/usr/bin/ps", "/bin/ps"].iter().any(|path| Path::new(path).exists());
    if !there {
        println!("SKIPPED: no ps on this host");
    }
    there
}

#[test]
fn json_lists_the_pids_on_the_host() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("sleep 100 & sleep 100 & echo ready; wait").run_detached();
    c.wait_for_output("ready");
    for flags in [&["--format", "json"][..], &["-f", "json"], &["--format=json"]] {
        let done = c.call("ps", flags, &[]).ok();
        let pids = done.json();
        let pids: Vec<i64> = pids.as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect();
        assert_eq!(pids.len(), 3, "{done}");
        assert!(pids.contains(&i64::from(c.pid)), "{done}");
        assert!(pids.is_sorted(), "{done}");
        assert!(done.stderr.is_empty(), "{done}");
        if t.peer() != Peer::Crun {
            assert_eq!(done.stdout.matches('\n').count(), 1, "{done}");
            assert!(!done.stdout.contains(' '), "{done}");
        }
    }
}

#[test]
fn processes_in_sub_cgroups_count() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("sleep 100 & echo ready; wait").run_detached();
    c.wait_for_output("ready");
    let below = c.bundle.cgroup().join("below");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.procs"), c.pid.to_string()).unwrap();
    let pids = c.call("ps", &["--format", "json"], &[]).ok().json();
    assert_eq!(pids.as_array().unwrap().len(), 2);
    assert!(pids.as_array().unwrap().contains(&json!(c.pid)));
}

#[test]
fn stopped_container_has_none() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "prints an empty list") {
        return;
    }
    let c = t.bundle().args(&["/bin/true"]).run_detached();
    let _ = c.reap();
    assert_eq!(c.call("ps", &["--format", "json"], &[]).ok().stdout, "null\n");
}

#[test]
fn table_is_the_hosts_with_the_containers_processes_alone() {
    let Some(t) = Test::begin() else { return };
    if !has_ps() || t.differs(&[Peer::Crun], "prints pids") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "12345"]).run_detached();
    let done = c.call("ps", &[], &[]).ok();
    let lines = done.lines();
    assert_eq!(lines.len(), 2, "{done}");
    assert!(lines[0].starts_with("UID") && lines[0].contains(" PID "), "{done}");
    assert!(lines[1].contains("sleep 12345"), "{done}");
}

#[test]
fn options_after_the_id_are_for_the_hosts_ps() {
    let Some(t) = Test::begin() else { return };
    if !has_ps() || t.differs(&[Peer::Crun], "prints pids") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "12345"]).run_detached();
    let done = c.call("ps", &[], &["-e", "-o", "pid,args", "--format", "ppid"]).ok();
    let lines = done.lines();
    let header: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(header, ["PID", "COMMAND", "PPID"], "{done}");
    assert_eq!(lines.len(), 2, "{done}");
    assert!(lines[1].trim_start().starts_with(&c.pid.to_string()), "{done}");
    let _ = c.call("ps", &[], &["-e", "-o", "args"]).fails("couldn't find PID field in ps output");
    let _ = c.call("ps", &[], &["--nosuchoption"]).exits(1);
}

#[test]
fn unknown_formats_and_containers_are_refused() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has words of its own") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.call("ps", &["--format", "xml"], &[]).fails("invalid format option");
    let _ = t.call(&["ps", "nosuch"]).fails("does not exist");
}
