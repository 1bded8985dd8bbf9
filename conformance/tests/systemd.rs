//! The systemd cgroup driver, beside a real systemd: `conformance/systemd.sh` runs these with one of their own.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use orlop_conformance::harness::skip;
use orlop_conformance::run::wait_for;
use orlop_conformance::{Bundle, Done, Peer, Run, Test, proc, rootfs};
use serde_json::json;

/// A test beside the systemd of all tests.
struct Stage {
    test: Test,
    undisturbed: RwLockReadGuard<'static, ()>,
}

impl std::ops::Deref for Stage {
    type Target = Test;

    fn deref(&self) -> &Test {
        &self.test
    }
}

/// Held by tests, and alone by who has systemd execute itself again: that interrupts its talks.
static SYSTEMD: RwLock<()> = RwLock::new(());

/// Begins a test where there is a systemd.
fn begin() -> Option<Stage> {
    if !Path::new("/run/systemd/private").exists() {
        skip("no systemd (run with conformance/systemd.sh)");
        return None;
    }
    let undisturbed = SYSTEMD.read().unwrap_or_else(PoisonError::into_inner);
    Test::begin().map(|test| Stage { test, undisturbed })
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    assert!(output.status.success(), "systemctl {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The properties of a unit.
fn show(unit: &str) -> BTreeMap<String, String> {
    let text = systemctl(&["show", unit]);
    let pair =
        |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[track_caller]
fn assert_properties(unit: &str, expected: &[(&str, &str)]) {
    let shown = show(unit);
    for (name, value) in expected {
        assert_eq!(
            shown.get(*name).map(String::as_str),
            Some(*value),
            "{name} of {unit}: {shown:?}"
        );
    }
}

fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// A bundle that sleeps.
fn sleeper(t: &Test) -> Bundle<'_> {
    t.bundle().systemd().args(&["/bin/sleep", "1000"])
}

/// A scope of somebody else's.
fn scope(unit: &str, properties: &[&str], command: &[&str]) -> std::process::Child {
    let mut run = Command::new("systemd-run");
    run.args(["--quiet", "--scope", "--unit", unit]);
    for property in properties {
        run.args(["-p", property]);
    }
    run.arg("--").args(command).spawn().unwrap()
}

#[test]
fn the_container_is_in_a_scope_of_its_own_when_create_returns() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t).create();
    let path = c.bundle.cgroup();
    assert_eq!(Path::new("/sys/fs/cgroup").join(&cgroup_of(c.pid)[1..]), path);
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap(), format!("{}\n", c.pid));
    assert_properties(
        &c.bundle.unit(),
        &[
            ("ActiveState", "active"),
            ("Slice", "orlop-conformance.slice"),
            ("Transient", "yes"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("MemoryAccounting", "yes"),
            ("CPUAccounting", "yes"),
            ("IOAccounting", "yes"),
            ("TasksAccounting", "yes"),
        ],
    );
    if t.peer() != Peer::Crun {
        let description = format!("libcontainer container {}", c.bundle.id);
        assert_properties(&c.bundle.unit(), &[("Description", &description)]);
    }
    let _ = c.call("start", &[], &[]).ok();
    assert_eq!(c.status(), "running");
}

#[test]
fn the_cgroup_namespace_is_rooted_at_the_scope() {
    let Some(t) = begin() else { return };
    let done = t
        .bundle()
        .systemd()
        .sh("grep ^0:: /proc/self/cgroup; grep cgroup2 /proc/self/mountinfo")
        .run()
        .ok();
    let lines = done.lines();
    assert_eq!(lines[0], "0::/");
    assert!(lines[1].contains(" / /sys/fs/cgroup "), "{done}");
}

/// Every controller that the host has is there for the container, as with the other driver.
#[test]
fn the_scope_has_every_controller() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t).create();
    let read = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    if t.peer() == Peer::Orlop {
        assert_eq!(read(&c.bundle.cgroup()), read(Path::new("/sys/fs/cgroup")));
    }
}

#[test]
fn later_calls_need_no_option() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t).run_detached();
    let id = c.bundle.id.clone();
    let _ = t.call(&["pause", &id]).ok();
    assert_eq!(c.status(), "paused");
    assert_properties(&c.bundle.unit(), &[("ActiveState", "active")]);
    let _ = t.call(&["resume", &id]).ok();
    let done = t.call(&["exec", &id, "/bin/cat", "/proc/self/cgroup"]).ok();
    assert!(done.lines().contains(&"0::/"), "{done}");
    let done = t.call(&["ps", "--format", "json", &id]).ok();
    assert_eq!(done.json(), json!([c.pid]));
    let _ = t.call(&["kill", &id, "KILL"]).ok();
    let _ = c.reap();
    let _ = t.call(&["delete", &id]).ok();
    c.bundle.assert_nothing_left();
}

#[test]
fn a_deleted_containers_unit_is_gone_whatever_state_it_was_in() {
    let Some(t) = begin() else { return };
    let created = sleeper(&t).create();
    let _ = created.call("delete", &[], &[]).ok();
    created.bundle.assert_nothing_left();
    let running = sleeper(&t).without_namespace("pid").sh("sleep 1000 & sleep 1000").run_detached();
    wait_for("two processes", || {
        fs::read_to_string(running.bundle.cgroup().join("cgroup.procs")).unwrap().lines().count()
            > 1
    });
    let _ = running.call("delete", &["--force"], &[]).ok();
    running.bundle.assert_nothing_left();
    let paused = sleeper(&t).run_detached();
    let _ = paused.call("pause", &[], &[]).ok();
    let _ = paused.call("delete", &["--force"], &[]).ok();
    paused.bundle.assert_nothing_left();
}

#[test]
fn a_unit_that_failed_is_reset_by_delete() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t)
        .set("/annotations/org.systemd.property.RuntimeMaxSec", json!("1"))
        .set("/annotations/org.systemd.property.TimeoutStopSec", json!("1"))
        .run_detached();
    wait_for("the unit's failure", || show(&c.bundle.unit())["ActiveState"] == "failed");
    let _ = c.reap();
    let _ = c.call("delete", &[], &[]).ok();
    c.bundle.assert_nothing_left();
}

#[test]
fn a_failed_unit_of_that_name_is_no_obstacle() {
    let Some(t) = begin() else { return };
    let bundle = sleeper(&t);
    let unit = bundle.unit();
    let mut stale = scope(&unit, &["RuntimeMaxSec=1", "TimeoutStopSec=1"], &["sleep", "1000"]);
    let _ = stale.wait().unwrap();
    wait_for("the unit's failure", || show(&unit)["ActiveState"] == "failed");
    let c = bundle.create();
    assert_properties(&unit, &[("ActiveState", "active")]);
    assert_eq!(c.status(), "created");
}

#[test]
fn a_unit_that_runs_is_not_taken_nor_touched() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun], "stops the other unit") {
        return;
    }
    for slice in ["system.slice", "orlop-conformance.slice"] {
        let bundle = sleeper(&t);
        let mut other = scope(&bundle.unit(), &[&format!("Slice={slice}")], &["sleep", "1000"]);
        wait_for("the other scope", || show(&bundle.unit())["ActiveState"] == "active");
        let done = bundle.try_create().exits(1);
        let texts = ["already exists", "container's cgroup is not empty", "already loaded"];
        assert!(texts.iter().any(|text| done.stderr.contains(text)), "{done}");
        assert!(!t.root().join(&bundle.id).exists());
        assert_eq!(other.try_wait().unwrap(), None, "the other's process lives");
        assert_properties(&bundle.unit(), &[("ActiveState", "active"), ("Slice", slice)]);
        other.kill().unwrap();
        let _ = other.wait().unwrap();
        wait_for("its end", || show(&bundle.unit())["ActiveState"] != "active");
    }
}

#[test]
fn annotations_are_properties_of_the_unit() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t)
        .set("/annotations/org.systemd.property.TimeoutStopSec", json!("uint32 7"))
        .set("/annotations/org.systemd.property.RuntimeMaxUSec", json!("uint64 3600000000"))
        .set("/annotations/org.systemd.property.CollectMode", json!("'inactive-or-failed'"))
        .set("/annotations/org.systemd.property.Wants", json!("['-.mount']"))
        .create();
    let expected = [
        ("TimeoutStopUSec", "7s"),
        ("RuntimeMaxUSec", "1h"),
        ("CollectMode", "inactive-or-failed"),
        ("Wants", "-.mount"),
    ];
    assert_properties(&c.bundle.unit(), &expected);
}

#[test]
fn a_property_that_systemd_refuses_is_named() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun, Peer::Runc], "names no field") {
        return;
    }
    let name = "org.systemd.property.NoSuchThing";
    let bundle = sleeper(&t).set(&format!("/annotations/{name}"), json!("true"));
    let done = bundle.try_create().fails("Cannot set property NoSuchThing, or unknown property");
    assert!(done.stderr.contains(&format!("annotations[\\\"{name}\\\"]")), "{done}");
    bundle.assert_nothing_left();
}

#[test]
fn a_path_is_no_name_of_a_unit() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun], "takes it for the name of a slice") {
        return;
    }
    let bundle = sleeper(&t).set("/linux/cgroupsPath", json!("/docker/x"));
    let text = "expected cgroupsPath to be of format \\\"slice:prefix:name\\\" for systemd cgroups, got \
                \\\"/docker/x\\\" instead";
    let _ = bundle.try_create().fails(text);
}

#[test]
fn without_a_path_the_scope_is_named_after_the_container() {
    let Some(t) = begin() else { return };
    let bundle = sleeper(&t).remove("/linux/cgroupsPath");
    let c = bundle.create();
    let name = match t.peer() {
        Peer::Orlop => "orlop",
        Peer::Runc => "runc",
        Peer::Crun => "crun",
    };
    let unit = format!("{name}-{}.scope", c.bundle.id);
    assert_eq!(cgroup_of(c.pid), format!("/system.slice/{unit}"));
    let _ = c.call("delete", &["--force"], &[]).ok();
    assert_properties(&unit, &[("LoadState", "not-found")]);
}

/// systemd has no device policy of its own to put in the place of ours, neither when it reads its configuration
/// again nor when limits change.
#[test]
fn the_device_program_stays() {
    let Some(Stage { test: t, undisturbed }) = begin() else { return };
    drop(undisturbed);
    let _alone = SYSTEMD.write().unwrap_or_else(PoisonError::into_inner);
    // 1:1 is /dev/mem, which nobody may have.
    let script = "mknod /tmp/mem c 1 1 || exit 3; while sleep 0.1; do cat /dev/null && echo null; \
                  cat /tmp/mem >/dev/null && echo open || echo closed; done";
    let c = t
        .bundle()
        .systemd()
        .sh(script)
        .mount("/tmp", "tmpfs", "tmpfs", &[])
        .push("/process/capabilities/bounding", json!("CAP_MKNOD"))
        .push("/process/capabilities/permitted", json!("CAP_MKNOD"))
        .push("/process/capabilities/effective", json!("CAP_MKNOD"))
        .push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 1, "minor": 1, "access": "m"}),
        )
        .run_detached();
    c.wait_for_output("closed");
    let unit = c.bundle.unit();
    let again = || {
        let seen = c.written().len();
        wait_for("more output", || c.written().len() > seen + 40);
    };
    systemctl(&["daemon-reload"]);
    again();
    systemctl(&["set-property", "--runtime", &unit, "TasksMax=50", "CPUWeight=50", "MemoryMax=1G"]);
    again();
    systemctl(&["daemon-reexec"]);
    again();
    assert!(!c.written().contains("open"), "{}", c.written());
    assert!(c.written().contains("null"));
    assert_properties(&unit, &[("ActiveState", "active"), ("DevicePolicy", "auto")]);
}

#[test]
fn a_container_that_may_manage_its_cgroup_owns_it() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun], "owns nothing without a user namespace") {
        return;
    }
    let mount = |options: &[&str]| json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
    let script = "cd /sys/fs/cgroup; mkdir sub && echo $$ >sub/cgroup.procs && cat /proc/self/cgroup; \
                  echo 5 >cgroup.max.depth; echo 1 >cgroup.freeze; stat -c %u . cgroup.procs cgroup.max.depth";
    let bundle =
        t.bundle().systemd().sh(script).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let mut mounts = bundle.config["mounts"].as_array().unwrap().clone();
    let last = mounts.len() - 1;
    mounts[last] = mount(&["nosuid", "noexec", "nodev", "rw"]);
    let bundle = bundle.set("/mounts", json!(mounts));
    let done = bundle.run().ok();
    assert!(done.lines().contains(&"0::/sub"), "{done}");
    assert!(
        done.stdout.ends_with("1000\n1000\n0\n"),
        "what the kernel does not list stays root's: {done}"
    );
    assert_eq!(done.stderr.matches("ermission denied").count(), 2, "{done}");
    // Read-only, it stays root's.
    mounts[last] = mount(&["ro"]);
    let user = json!({"uid": 1000, "gid": 1000});
    let c = sleeper(&t).set("/process/user", user).set("/mounts", json!(mounts)).create();
    assert_eq!(fs::metadata(c.bundle.cgroup()).unwrap().uid(), 0);
}

/// Where systemd's own socket is out of reach, its bus is used.
#[test]
fn the_system_bus_is_as_good_as_systemds_own_socket() {
    let Some(t) = begin() else { return };
    let bundle = sleeper(&t);
    bundle.write();
    let hidden = |args: &[&str]| -> Done {
        let script = "mount --bind /dev/null /run/systemd/private && exec \"$@\"";
        Run::new("unshare", t.dir())
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(t.runtime())
            .arg("--root")
            .arg(t.root())
            .args(args)
            .done()
            .ok()
    };
    let directory = bundle.dir.to_str().unwrap();
    let _ = hidden(&["--systemd-cgroup", "create", "--bundle", directory, &bundle.id]);
    assert_properties(&bundle.unit(), &[("ActiveState", "active")]);
    let _ = hidden(&["delete", "--force", &bundle.id]);
    bundle.assert_nothing_left();
}

#[test]
fn a_host_without_systemd_is_told() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun, Peer::Runc], "other words") {
        return;
    }
    let bundle = sleeper(&t);
    bundle.write();
    let script = "mount --bind /dev/null /run/systemd/private && mount --bind /dev/null /run/dbus/system_bus_socket && \
                  exec \"$@\"";
    let done = Run::new("unshare", t.dir())
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(t.runtime())
        .arg("--root")
        .arg(t.root())
        .args(["--systemd-cgroup", "create", "--bundle"])
        .arg(&bundle.dir)
        .arg(&bundle.id)
        .done();
    let _ = done.fails("cannot connect to systemd: connection refused (ECONNREFUSED)");
    bundle.assert_nothing_left();
}

#[test]
fn a_name_that_ends_in_slice_is_that_slice() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun, Peer::Runc], "puts no process into a slice") {
        return;
    }
    let bundle = sleeper(&t);
    let slice = format!("orlopx-{}.slice", bundle.id.replace('-', "_"));
    let c = bundle.set("/linux/cgroupsPath", json!(format!("orlopx.slice:x:{slice}"))).create();
    assert_eq!(cgroup_of(c.pid), format!("/orlopx.slice/{slice}"));
    assert_properties(&slice, &[("ActiveState", "active"), ("Wants", "orlopx.slice")]);
    let _ = c.call("delete", &["--force"], &[]).ok();
    assert_properties(&slice, &[("ActiveState", "inactive")]);
    assert!(!Path::new("/sys/fs/cgroup/orlopx.slice").join(&slice).exists());
}

#[test]
fn systemd_ends_the_container_as_any_unit() {
    let Some(t) = begin() else { return };
    let c = sleeper(&t).run_detached();
    systemctl(&["kill", "--signal=KILL", &c.bundle.unit()]);
    let _ = c.reap();
    assert!(proc::is_gone(c.pid));
    assert_eq!(c.status(), "stopped");
    let _ = c.call("delete", &[], &[]).ok();
    c.bundle.assert_nothing_left();
}

/// A service whose program is in a container: systemd takes it for started when that program says that it is ready.
#[test]
fn a_service_is_started_when_the_program_says_so() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Crun], "passes the socket on") {
        return;
    }
    for detach in [false, true] {
        let script = "until test -e /go; do sleep 0.01; done; probe notify READY=1; sleep 1000";
        let bundle = t.bundle().systemd().sh(script);
        if !rootfs::add_probe(&bundle.rootfs()) {
            return;
        }
        bundle.write();
        let unit = format!("{}-service.service", bundle.id);
        let runtime = t.runtime().to_string_lossy().into_owned();
        let mut run = Command::new("systemd-run");
        let _ = run.args(["--no-block", "--service-type=notify", "--unit", &unit, &runtime]);
        let _ = run.arg("--root").arg(t.root()).args(["--systemd-cgroup", "run", "--bundle"]);
        let _ = run.arg(&bundle.dir).args(detach.then_some("--detach")).arg(&bundle.id);
        assert!(run.status().unwrap().success());
        wait_for("the container", || t.call(&["state", &bundle.id]).code() == 0);
        let status = || t.call(&["state", &bundle.id]).ok().json();
        wait_for("the program", || status()["status"] == "running");
        assert_properties(&unit, &[("ActiveState", "activating")]);
        fs::write(bundle.rootfs().join("go"), "").unwrap();
        wait_for("the service", || show(&unit)["ActiveState"] == "active");
        // The command stays for the program where it is attached to it.
        let main: i64 = show(&unit)["MainPID"].parse().unwrap();
        let exe = fs::read_link(format!("/proc/{main}/exe")).unwrap();
        assert_eq!(exe != t.runtime(), detach, "{}", exe.display());
        assert_eq!(status()["pid"] == main, detach);
        let _ = systemctl(&["kill", "--kill-whom=main", "--signal=KILL", &unit]);
        let _ = t.call(&["delete", "--force", &bundle.id]).ok();
        wait_for("the end", || ["failed", "inactive"].contains(&&*show(&unit)["ActiveState"]));
        let _ = systemctl(&["reset-failed", &unit]);
    }
}

fn has_controller(name: &str) -> bool {
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    list.split_whitespace().any(|controller| controller == name)
}

#[test]
fn limits_are_in_the_unit_and_in_the_files() {
    let Some(t) = begin() else { return };
    if !["memory", "cpu", "pids", "cpuset", "io"].into_iter().all(has_controller) {
        return;
    }
    let c = sleeper(&t)
        .set(
            "/linux/resources",
            json!({
                "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728},
                "cpu": {"shares": 512, "quota": 50_500, "period": 100_000, "cpus": "0", "mems": "0"},
                "pids": {"limit": 50},
                "blockIO": {"weight": 200},
                "unified": {"memory.high": "60000000"}
            }),
        )
        .create();
    let unit = c.bundle.unit();
    let file =
        |name: &str| fs::read_to_string(c.bundle.cgroup().join(name)).unwrap().trim().to_owned();
    let files = || {
        for (name, value) in [
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("memory.swap.max", "67108864"),
            ("memory.high", "59998208"),
            ("pids.max", "50"),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
        ] {
            assert_eq!(file(name), value, "{name}");
        }
    };
    files();
    assert_eq!(file("cpu.max"), "50500 100000", "exactly, where systemd knows percents");
    let weight = file("cpu.weight");
    assert!(t.peer() != Peer::Orlop || weight == "59", "{weight}");
    assert_properties(
        &unit,
        &[
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("MemorySwapMax", "67108864"),
            ("MemoryHigh", "60000000"),
            ("TasksMax", "50"),
            ("CPUWeight", &weight),
            ("CPUQuotaPerSecUSec", "510ms"),
            ("AllowedCPUs", "0"),
            ("AllowedMemoryNodes", "0"),
        ],
    );
    let _ = c
        .call("update", &["--pids-limit", "60", "--memory", "128M", "--memory-swap", "256M"], &[])
        .ok();
    assert_properties(
        &unit,
        &[("TasksMax", "60"), ("MemoryMax", "134217728"), ("MemoryHigh", "60000000")],
    );
    assert_eq!((file("pids.max").as_str(), file("memory.max").as_str()), ("60", "134217728"));
    assert_eq!((file("memory.high"), file("cpu.max")), ("59998208".into(), "50500 100000".into()));
    // What systemd brings back when it looks at all units anew is the same, but for what it rounds.
    systemctl(&["daemon-reload"]);
    assert_eq!((file("pids.max").as_str(), file("memory.max").as_str()), ("60", "134217728"));
    assert_eq!((file("memory.high"), file("cpuset.cpus")), ("59998208".into(), "0".into()));
    assert!(["50500 100000", "51000 100000"].contains(&file("cpu.max").as_str()));
}

#[test]
fn a_limit_that_is_too_small_to_set_up_in_comes_when_that_is_done() {
    let Some(t) = begin() else { return };
    if !has_controller("memory") || t.peer() != Peer::Orlop {
        return;
    }
    let c = sleeper(&t).set("/linux/resources", json!({"memory": {"limit": 262_144}})).create();
    assert_properties(&c.bundle.unit(), &[("MemoryMax", "262144")]);
    let file = || fs::read_to_string(c.bundle.cgroup().join("memory.max")).unwrap();
    assert_eq!(file(), "262144\n");
    let _ = c.call("start", &[], &[]).ok();
    assert_eq!(c.status(), "running");
    assert_eq!(file(), "262144\n");
}

#[test]
fn an_update_that_fails_changes_nothing_in_systemd_either() {
    let Some(t) = begin() else { return };
    if !["memory", "pids"].into_iter().all(has_controller) || t.peer() != Peer::Orlop {
        return;
    }
    let c = sleeper(&t).set("/linux/resources", json!({"pids": {"limit": 50}})).create();
    let path = c.bundle.dir.join("resources.json");
    let wrong = json!({"pids": {"limit": 60}, "unified": {"memory.oom.group": "7"}});
    fs::write(&path, wrong.to_string()).unwrap();
    let _ = c.call("update", &["-r", path.to_str().unwrap()], &[]).exits(1);
    assert_properties(&c.bundle.unit(), &[("TasksMax", "50")]);
    assert_eq!(fs::read_to_string(c.bundle.cgroup().join("pids.max")).unwrap(), "50\n");
}
