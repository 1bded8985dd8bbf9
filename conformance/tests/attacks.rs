//! What a container could do to its runtime, tried.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;
use std::time::{Duration, Instant};

use orlop_conformance::run::wait_for;
use orlop_conformance::{Bundle, Peer, Test};
use serde_json::json;

/// Puts the racer into a bundle's root; false where it cannot be built.
fn with_racer(bundle: &Bundle<'_>) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/racer.c");
    let program = bundle.rootfs().join("bin/racer");
    let built =
        Command::new("gcc").args(["-O2", "-static", "-o"]).arg(program).arg(source).status();
    std::fs::write(bundle.rootfs().join("container-root"), "").unwrap();
    built.is_ok_and(|status| status.success())
}

/// CVE-2016-9962 and what came after it: a container that may trace looks into every process that
/// joins it, from the moment that it appears.
#[test]
fn tracer_in_the_container_finds_nothing_of_the_runtime_in_exec() {
    let Some(t) = Test::begin() else { return };
    trace_execs(&t, t.bundle());
}

/// The root of a user namespace may trace whoever is in it, whatever the host's tracers may not.
#[test]
fn tracer_that_is_root_of_the_user_namespace_finds_nothing_either() {
    let Some(t) = Test::begin() else { return };
    let maps = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
    let bundle = bundle.set("/linux/uidMappings", maps(100_000));
    let bundle = bundle.set("/linux/gidMappings", maps(300_000));
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(300_000)).unwrap();
    trace_execs(&t, bundle);
}

fn trace_execs(t: &Test, mut bundle: Bundle<'_>) {
    if t.differs(&[Peer::Runc, Peer::Crun], "their processes enter with the runtime's memory") {
        return;
    }
    if !with_racer(&bundle) {
        assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "cannot run: no gcc");
        eprintln!("SKIPPED: no gcc");
        return;
    }
    for set in ["bounding", "effective", "permitted"] {
        bundle = bundle.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
    }
    let name = t.runtime().file_name().unwrap().to_string_lossy().into_owned();
    let c = bundle.args(&["/bin/racer", "6", &name]).run_detached();
    let end = Instant::now() + Duration::from_secs(6);
    let mut execs = 0;
    while Instant::now() < end {
        let done = t.call(&["exec", &c.bundle.id, "/bin/true"]);
        // The last one may come after the racer's end.
        execs += u32::from(done.status.success());
    }
    wait_for("the racer's result", || c.written().contains("seen "));
    let text = c.written();
    let seen = text.lines().find_map(|line| line.strip_prefix("seen ")).unwrap();
    assert!(execs > 20 && seen.parse::<u32>().unwrap() > 10, "{execs} execs: {text}");
    assert!(text.contains("finds 0\n"), "{execs} execs: {text}");
}
