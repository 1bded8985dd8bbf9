use serde_json::json;

use super::super::tests::{patched, plan_for, request};
use super::*;
use crate::compile::Request;

fn systemd() -> Request {
    Request { systemd: Some(Bus::System), ..request() }
}

fn unit_of(cgroups_path: &str) -> Result<UnitPlan> {
    let config = patched(&json!({"linux": {"cgroupsPath": cgroups_path}}));
    plan_for(&config, &systemd()).map(|plan| plan.unit.unwrap().op)
}

#[test]
fn three_parts_name_a_scope_in_a_slice() {
    for (path, name, slice, cgroup) in [
        (
            "system.slice:docker:12",
            "docker-12.scope",
            "system.slice",
            "/system.slice/docker-12.scope",
        ),
        (
            "kubepods-besteffort-pod1_2.slice:cri-containerd:a",
            "cri-containerd-a.scope",
            "kubepods-besteffort-pod1_2.slice",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-a.scope",
        ),
        (":a:b", "a-b.scope", "system.slice", "/system.slice/a-b.scope"),
        ("-.slice:a:b", "a-b.scope", "-.slice", "/a-b.scope"),
        ("a.slice::b", "-b.scope", "a.slice", "/a.slice/-b.scope"),
        ("", "orlop-c1.scope", "system.slice", "/system.slice/orlop-c1.scope"),
        // Names that the kernel has files of.
        ("memory.slice:cpu.x:1", "cpu.x-1.scope", "memory.slice", "/_memory.slice/_cpu.x-1.scope"),
        ("a-b.slice:p:a-b-c.slice", "a-b-c.slice", "a-b.slice", "/a.slice/a-b.slice/a-b-c.slice"),
    ] {
        let unit = unit_of(path).unwrap();
        assert_eq!(
            (unit.name.as_str(), unit.slice.as_str(), unit.cgroup.as_str()),
            (name, slice, cgroup),
            "{path}"
        );
    }
}

#[test]
fn every_id_is_a_name_of_a_unit() {
    let request = Request { id: "a+b_c.d-e".to_owned(), ..systemd() };
    let plan = plan_for(&patched(&json!({})), &request).unwrap();
    assert_eq!(plan.cgroup.op, r"/system.slice/orlop-a\x2bb_c.d-e.scope");
}

#[test]
fn other_than_three_parts_are_refused_in_the_words_that_callers_know() {
    for path in ["/docker/12", "a.slice:b", "a.slice:b:c:d", "x"] {
        let error = unit_of(path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for \
                 systemd cgroups, got {path:?} instead"
            )
        );
    }
}

#[test]
fn names_that_systemd_does_not_take_are_refused() {
    for path in [
        "a:b:c",
        ".slice:b:c",
        "-a.slice:b:c",
        "a--b.slice:b:c",
        "a-.slice:b:c",
        "a/b.slice:b:c",
        "a.slice:b/../..:c",
        "a.slice:b:c d",
        "a.slice:b:c\n",
        "a.slice:b:é",
        "a.slice:b:-x.slice",
        &format!("a.slice:b:{}", "c".repeat(250)),
    ] {
        let error = unit_of(path).unwrap_err();
        assert_eq!(error.field(), Some("linux.cgroupsPath"), "{path}");
    }
}

#[test]
fn a_users_systemd_makes_the_cgroup_below_its_own() {
    let bus = Bus::User("unix:path=/run/user/1000/bus".to_owned());
    let request = Request { systemd: Some(bus), ..request() };
    let plan = plan_for(&patched(&json!({})), &request).unwrap();
    // The facts of the tests have no manager's cgroup.
    assert_eq!(plan.cgroup.op, "/user.slice/orlop-c1.scope");
}

fn annotated_with(name: &str, value: &str) -> Result<(String, String)> {
    let key = format!("org.systemd.property.{name}");
    let plan = plan_for(&patched(&json!({"annotations": {key: value}})), &systemd())?;
    let property = plan.unit.unwrap().op.properties.pop().unwrap().op;
    Ok((property.name, property.value.to_string()))
}

#[test]
fn annotations_are_properties() {
    for (name, value, as_name, as_value) in [
        ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", "uint64 123456789"),
        ("CollectMode", "'inactive-or-failed'", "CollectMode", "\"inactive-or-failed\""),
        ("TimeoutStopSec", "1", "TimeoutStopUSec", "uint64 1000000"),
        ("RuntimeMaxSec", "1.5", "RuntimeMaxUSec", "uint64 1500000"),
        ("ABCSec", "1", "ABCSec", "1"),
        ("Sec", "1", "Sec", "1"),
        ("SendSIGHUP", "true", "SendSIGHUP", "true"),
    ] {
        let found = annotated_with(name, value).unwrap();
        assert_eq!(found, (as_name.to_owned(), as_value.to_owned()), "{name}");
    }
}

#[test]
fn annotations_that_are_no_properties_are_refused_by_their_name() {
    for (name, value, why) in [
        ("ab", "1", "name incorrect: too short"),
        ("a.b", "1", "name incorrect: contains non-alphabetic character"),
        ("", "1", "name incorrect: too short"),
        ("CollectMode", "inactive", "value parse error: \"inactive\": unknown word \"inactive\""),
        ("TimeoutStopSec", "'1'", "value parse error: \"'1'\": not a number"),
        ("TimeoutStopSec", "-1", "value parse error: \"-1\": is negative"),
        (
            "TimeoutStopSec",
            "uint64 99999999999999",
            "value parse error: \"uint64 99999999999999\": is out of range",
        ),
        ("PIDs", "[uint32 1]", "PIDs is the runtime's to set"),
        ("Slice", "'x.slice'", "Slice is the runtime's to set"),
        ("Delegate", "false", "Delegate is the runtime's to set"),
    ] {
        let error = annotated_with(name, value).unwrap_err();
        let field = format!("annotations[\"org.systemd.property.{name}\"]");
        assert_eq!(error.to_string(), format!("{field}: {why}"));
    }
}

#[test]
fn annotations_mean_nothing_without_systemd() {
    let config = patched(&json!({"annotations": {"org.systemd.property.X": "["}}));
    assert_eq!(plan_for(&config, &request()).unwrap().unit, None);
}

fn limited(file: &'static str, value: &str) -> Vec<String> {
    let write = CgroupWrite {
        field: "linux.resources.x".into(),
        file: file.into(),
        value: value.to_owned(),
        if_missing: IfMissing::Fail,
        retry_if_invalid: false,
    };
    let shown = |step: Step<Property>| format!("{}={}", step.op.name, step.op.value);
    limit_properties(&[write]).into_iter().map(shown).collect()
}

#[test]
fn limits_are_properties_of_the_unit_too() {
    const MAX: u64 = u64::MAX;
    for (file, value, properties) in [
        ("memory.max", "4096", "MemoryMax=uint64 4096".to_owned()),
        ("memory.max", "max", format!("MemoryMax=uint64 {MAX}")),
        ("memory.high", "1M", "MemoryHigh=uint64 1048576".to_owned()),
        ("memory.swap.max", "0", "MemorySwapMax=uint64 0".to_owned()),
        ("pids.max", "max", format!("TasksMax=uint64 {MAX}")),
        ("cpu.weight", "59", "CPUWeight=uint64 59".to_owned()),
        ("cpu.idle", "1", "CPUWeight=uint64 0".to_owned()),
        ("cpu.idle", "0", String::new()),
        (
            "cpu.max",
            "5000 10000",
            "CPUQuotaPeriodUSec=uint64 10000 CPUQuotaPerSecUSec=uint64 500000".to_owned(),
        ),
        (
            "cpu.max",
            "1001 100000",
            "CPUQuotaPeriodUSec=uint64 100000 CPUQuotaPerSecUSec=uint64 20000".to_owned(),
        ),
        (
            "cpu.max",
            "max 1000",
            format!("CPUQuotaPeriodUSec=uint64 1000 CPUQuotaPerSecUSec=uint64 {MAX}"),
        ),
        ("cpu.max", "5 0", String::new()),
        ("cpuset.cpus", "0-2,9", "AllowedCPUs=[byte 7, byte 2]".to_owned()),
        ("cpuset.mems", "1", "AllowedMemoryNodes=[byte 2]".to_owned()),
        ("cpuset.cpus", "0-99999999", String::new()),
        ("cpuset.cpus", "\n", String::new()),
        ("io.weight", "default 100", "IOWeight=uint64 100".to_owned()),
        ("io.weight", "8:0 100", String::new()),
        ("memory.oom.group", "1", "OOMPolicy=\"kill\"".to_owned()),
        ("hugetlb.2MB.max", "0", String::new()),
    ] {
        assert_eq!(limited(file, value).join(" "), properties, "{file} = {value}");
    }
}

#[test]
fn an_idle_cgroup_has_one_weight_only() {
    let config = patched(&json!({"linux": {"resources":
        {"cpu": {"idle": 1}, "unified": {"cpu.weight": "50"}}}}));
    let unit = plan_for(&config, &systemd()).unwrap().unit.unwrap().op;
    let weights = unit.properties.iter().filter(|step| step.op.name == "CPUWeight");
    let weights: Vec<_> = weights.map(|step| (step.op.value.to_string(), step.op.since)).collect();
    assert_eq!(weights, [("uint64 0".to_owned(), 252)]);
}

#[test]
fn the_cgroup_belongs_to_the_user_who_can_manage_it() {
    let owner = |kind: &str, options: &[&str], uid: u32, namespace: &str| {
        let config = patched(&json!({
            "process": {"user": {"uid": uid, "gid": 0}},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup", "options": options}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": namespace}]}}));
        plan_for(&config, &systemd()).unwrap().to_text().contains("cgroup-owner")
    };
    assert!(owner("cgroup", &["rw"], 1000, "cgroup"));
    assert!(owner("cgroup2", &["ro", "rw"], 1000, "cgroup"));
    assert!(!owner("cgroup", &["ro"], 1000, "cgroup"));
    assert!(!owner("tmpfs", &[], 1000, "cgroup"));
    assert!(!owner("cgroup", &[], 0, "cgroup"), "root owns it anyway");
    assert!(!owner("cgroup", &[], 1000, "ipc"), "without a cgroup namespace it sees the host's");
}
