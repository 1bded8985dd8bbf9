//! Network devices that move into the container.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use orlop_conformance::run::Done;
use orlop_conformance::{Bundle, Peer, Run, Test};
use serde_json::{Value, json};

/// Whether virtual devices can be made, which these tests move.
fn begin() -> Option<Test> {
    let t = Test::begin()?;
    let script = "ip link add v0 type veth";
    let made = Command::new("unshare").args(["-n", "sh", "-c", script]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no veth devices here");
        return None;
    }
    (!t.differs(&[Peer::Runc, Peer::Crun], "old ones do not know netDevices")).then_some(t)
}

/// Runs the container in a network namespace with a pair of devices, v0 and veth0 (or veth1), after
/// `prepare`, and `then`.
fn run(bundle: &Bundle<'_>, prepare: &str, then: &str) -> Done {
    bundle.write();
    let script = format!(
        "ip link add v0 type veth; {prepare}; \"$1\" --root \"$2\" run --bundle \"$3\" \"$4\"; \
         status=$?; {then}; exit $status"
    );
    let run = Run::new("unshare", bundle.test.dir()).args(["-n", "sh", "-c", &script, "sh"]);
    let run = run.arg(bundle.test.runtime()).arg(bundle.test.root());
    run.arg(&bundle.dir).arg(&bundle.id).done()
}

fn bundle<'t>(t: &'t Test, devices: &Value, script: &str) -> Bundle<'t> {
    let caps = json!(["CAP_NET_ADMIN"]);
    t.bundle()
        .set(
            "/process/capabilities",
            json!({"bounding": caps, "effective": caps, "permitted": caps}),
        )
        .set("/linux/netDevices", devices.clone())
        .sh(script)
}

#[test]
fn device_is_the_containers_under_its_new_name_and_up() {
    let Some(t) = begin() else { return };
    let bundle =
        bundle(&t, &json!({"v0": {"name": "eth0"}}), "ip link show eth0; ls /sys/class/net");
    let done = run(&bundle, "true", "ls /sys/class/net").ok();
    assert!(done.stdout.contains("eth0@"), "{done}");
    assert!(done.stdout.contains("UP"), "{done}");
    let here = done.stdout.split("lo\n").last().unwrap();
    assert!(!here.contains("v0\n") || here.contains("veth0"), "{done}");
    let gone = run(&bundle, "true", "ip link show v0").exits(0);
    assert!(gone.stderr.contains("v0"), "it is not the host's any more: {gone}");
}

#[test]
fn permanent_global_addresses_come_along() {
    let Some(t) = begin() else { return };
    let bundle = bundle(&t, &json!({"v0": {}}), "ip addr show v0");
    let prepare = "ip addr add 10.1.2.3/24 dev v0; ip addr add 169.254.7.7/16 scope link dev v0; \
        ip addr add fd00:1::5/64 dev v0; ip link set v0 up; ip link set veth0 up";
    let done = run(&bundle, prepare, "true").ok();
    assert!(done.stdout.contains("inet 10.1.2.3/24"), "{done}");
    assert!(!done.stdout.contains("169.254.7.7"), "of the host's links: {done}");
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        assert!(done.stdout.contains("inet6 fd00:1::5/64"), "{done}");
    }
}

#[test]
fn kernel_numbers_a_template() {
    let Some(t) = begin() else { return };
    let devices = json!({"v0": {"name": "net%d"}, "veth0": {"name": "net%d"}});
    let done = run(&bundle(&t, &devices, "ls /sys/class/net"), "true", "true").ok();
    assert_eq!(done.stdout, "lo\nnet0\nnet1\n");
}

#[test]
fn devices_are_there_when_hooks_run() {
    let Some(t) = begin() else { return };
    let look = "read state; pid=${state#*pid\\\":}; pid=${pid%%,*}; \
        nsenter -t $pid -n ip link show eth0 >/dev/null";
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]}]);
    let bundle = bundle(&t, &json!({"v0": {"name": "eth0"}}), "true");
    let _ = run(&bundle.set("/hooks", json!({"prestart": hook})), "true", "true").ok();
}

#[test]
fn devices_that_cannot_move_are_named() {
    let Some(t) = begin() else { return };
    let refused = |devices: &Value, prepare: &str, field: &str, text: &str| {
        let bundle = bundle(&t, devices, "true");
        let done = run(&bundle, prepare, "ip link show v0 >/dev/null || exit 77").fails(field);
        assert!(done.stderr.contains(text), "{done}");
        bundle.assert_nothing_left();
    };
    let missing = json!({"none0": {}});
    refused(&missing, "true", "none0\\\"]: ", "no such device");
    let lo = json!({"v0": {"name": "lo"}});
    refused(&lo, "true", "v0\\\"]: ", "file exists");
    let done = t.bundle().set("/linux/netDevices", json!({"lo": {"name": "x"}})).run().exits(1);
    assert!(done.stderr.contains("linux.netDevices[\\\"lo\\\"]: "), "the host's lo stays: {done}");
    let bundle = t.bundle().without_namespace("network").remove("/linux/maskedPaths");
    let bundle = bundle.set("/linux/netDevices", json!({"v0": {}}));
    let _ = bundle.run().fails("unable to move network devices without a private NET namespace");
    let own = format!("/proc/{}/ns/net", std::process::id());
    let bundle = t.bundle().without_namespace("network").remove("/linux/maskedPaths");
    let bundle = bundle.push("/linux/namespaces", json!({"type": "network", "path": own}));
    let bundle = bundle.set("/linux/netDevices", json!({"lo": {}}));
    let _ = bundle.run().fails("network namespace is the runtime's own");
}
