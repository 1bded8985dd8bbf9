//! Each row of the mapping, with the exact contents of the files.

use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;

fn parse(resources: Value) -> LinuxResources {
    serde_json::from_value(resources).unwrap()
}

fn plan(resources: Value) -> Limits {
    limits(&parse(resources)).unwrap()
}

/// The writes as `file=value`.
fn writes(resources: Value) -> Vec<String> {
    let plan = plan(resources);
    plan.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
}

fn fields(resources: Value) -> Vec<String> {
    plan(resources).writes.iter().map(|write| write.field.to_string()).collect()
}

#[track_caller]
fn refused(resources: Value, kind: ErrorKind, field: &str) -> String {
    let error = limits(&parse(resources)).unwrap_err();
    assert_eq!((error.kind(), error.field()), (kind, Some(field)), "{error}");
    error.to_string()
}

#[track_caller]
fn invalid(resources: Value, field: &str) -> String {
    refused(resources, ErrorKind::InvalidConfig, field)
}

#[track_caller]
fn unsupported(resources: Value, field: &str) {
    refused(resources, ErrorKind::Unsupported, field);
}

#[test]
fn no_resources_write_nothing() {
    assert_eq!(plan(json!({})), Limits::default());
    let plan = compile(None, None).unwrap();
    assert!(plan.limits.writes.is_empty());
    assert!(!plan.devices.allows_everything());
}

#[test]
fn unset_values_write_nothing() {
    let zeros = json!({
        "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": -1,
            "swappiness": 0, "disableOOMKiller": false, "useHierarchy": true},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0,
            "cpus": "", "mems": ""},
        "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": []},
        "network": {"classID": 0, "priorities": []},
        "hugepageLimits": [], "rdma": {"mlx5_0": {}}, "unified": {}
    });
    assert_eq!(plan(zeros), Limits::default());
}

#[test]
fn pids_limit_zero_is_one_and_negative_is_unlimited() {
    assert_eq!(writes(json!({"pids": {"limit": 20}})), ["pids.max=20"]);
    assert_eq!(writes(json!({"pids": {"limit": 0}})), ["pids.max=1"]);
    assert_eq!(writes(json!({"pids": {"limit": -1}})), ["pids.max=max"]);
    assert_eq!(fields(json!({"pids": {"limit": 20}})), ["linux.resources.pids.limit"]);
}

#[test]
fn memory_limit_and_reservation_are_bytes() {
    let memory = json!({"memory": {"limit": 536_870_912, "reservation": 1024}});
    assert_eq!(writes(memory.clone()), ["memory.max=536870912", "memory.low=1024"]);
    assert_eq!(
        fields(memory),
        ["linux.resources.memory.limit", "linux.resources.memory.reservation"]
    );
    assert_eq!(writes(json!({"memory": {"reservation": -1}})), ["memory.low=max"]);
    invalid(json!({"memory": {"limit": -2}}), "linux.resources.memory.limit");
    invalid(json!({"memory": {"reservation": -5}}), "linux.resources.memory.reservation");
}

#[test]
fn swap_is_what_exceeds_the_memory() {
    let memory = |limit, swap| writes(json!({"memory": {"limit": limit, "swap": swap}}));
    assert_eq!(memory(100, 150), ["memory.swap.max=50", "memory.max=100"]);
    assert_eq!(memory(100, 100), ["memory.swap.max=0", "memory.max=100"]);
    assert_eq!(memory(100, -1), ["memory.swap.max=max", "memory.max=100"]);
    assert_eq!(memory(100, 0), ["memory.max=100"]);
    assert_eq!(memory(-1, 150), ["memory.swap.max=150", "memory.max=max"]);
    assert_eq!(memory(-1, -1), ["memory.swap.max=max", "memory.max=max"]);
}

#[test]
fn unlimited_memory_without_a_word_on_swap_is_unlimited_swap() {
    let writes = writes(json!({"memory": {"limit": -1}}));
    assert_eq!(writes, ["memory.swap.max=max", "memory.max=max"]);
}

#[test]
fn unlimited_swap_needs_no_memory_limit() {
    assert_eq!(writes(json!({"memory": {"swap": -1}})), ["memory.swap.max=max"]);
}

#[test]
fn swap_without_or_below_the_memory_limit_is_invalid() {
    let field = "linux.resources.memory.swap";
    let text = invalid(json!({"memory": {"swap": 100}}), field);
    assert!(text.contains("unable to set swap limit without memory limit"), "{text}");
    let text = invalid(json!({"memory": {"limit": 100, "swap": 99}}), field);
    assert!(text.contains("memory+swap limit should be >= memory limit"), "{text}");
    invalid(json!({"memory": {"limit": 100, "swap": -2}}), field);
    invalid(json!({"memory": {"limit": -2, "swap": 1}}), "linux.resources.memory.limit");
}

#[test]
fn no_swap_or_unlimited_swap_may_lack_the_file() {
    let if_missing = |limit: i64, swap: i64| {
        let plan = plan(json!({"memory": {"limit": limit, "swap": swap}}));
        plan.writes.first().unwrap().if_missing.clone()
    };
    assert_eq!(if_missing(100, 100), IfMissing::Skip);
    assert_eq!(if_missing(100, -1), IfMissing::Skip);
    assert_eq!(if_missing(100, 101), IfMissing::Fail);
}

#[test]
fn memory_check_is_made_only_for_positive_limits() {
    let check = |memory: Value| plan(json!({ "memory": memory })).memory_check;
    let both = json!({"limit": 10, "swap": 20, "checkBeforeUpdate": true});
    assert_eq!(check(both), Some(MemoryCheck { limit: Some(10), swap: Some(20) }));
    assert_eq!(check(json!({"limit": -1, "checkBeforeUpdate": true})), None);
    assert_eq!(check(json!({"limit": 10, "checkBeforeUpdate": false})), None);
    assert_eq!(check(json!({"limit": 10})), None);
}

#[test]
fn memory_settings_of_v1_are_refused() {
    for (name, value) in [
        ("kernel", json!(1024)),
        ("kernelTCP", json!(1024)),
        ("swappiness", json!(60)),
        ("disableOOMKiller", json!(true)),
    ] {
        unsupported(json!({"memory": {name: value}}), &format!("linux.resources.memory.{name}"));
    }
}

#[test]
fn cpu_shares_become_a_weight_by_the_quadratic_formula() {
    for (shares, weight) in [
        (1, 1),
        (2, 1),
        (3, 2),
        (10, 4),
        (256, 35),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (8192, 532),
        (131_072, 5478),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        let writes = writes(json!({"cpu": {"shares": shares}}));
        assert_eq!(writes, [format!("cpu.weight={weight}")], "{shares}");
    }
}

#[test]
fn weights_grow_with_shares() {
    let mut last = 0;
    for shares in 2..=262_144 {
        let weight = cpu_weight(shares);
        assert!(weight >= last && (1..=10_000).contains(&weight), "{shares} -> {weight}");
        last = weight;
    }
}

#[test]
fn quota_and_period_are_one_write() {
    let cpu = |cpu: Value| writes(json!({ "cpu": cpu }));
    assert_eq!(cpu(json!({"quota": 50_000, "period": 200_000})), ["cpu.max=50000 200000"]);
    assert_eq!(cpu(json!({"quota": 50_000})), ["cpu.max=50000 100000"]);
    assert_eq!(cpu(json!({"period": 50_000})), ["cpu.max=max 50000"]);
    assert_eq!(cpu(json!({"quota": -1, "period": 50_000})), ["cpu.max=max 50000"]);
    assert_eq!(cpu(json!({"quota": -1})), ["cpu.max=max 100000"]);
    assert_eq!(fields(json!({"cpu": {"quota": -1}})), ["linux.resources.cpu.quota"]);
    assert_eq!(fields(json!({"cpu": {"period": 5000}})), ["linux.resources.cpu.period"]);
}

#[test]
fn burst_is_written_before_the_quota_and_again_after_it_if_that_was_wrong() {
    let plan = plan(json!({"cpu": {"quota": 50_000, "burst": 10_000}}));
    let list: Vec<_> =
        plan.writes.iter().map(|w| (&*w.file, &*w.value, w.retry_if_invalid)).collect();
    assert_eq!(list, [("cpu.max.burst", "10000", true), ("cpu.max", "50000 100000", false)]);
    assert_eq!(writes(json!({"cpu": {"burst": 0}})), ["cpu.max.burst=0"]);
    invalid(json!({"cpu": {"quota": 5000, "burst": 5001}}), "linux.resources.cpu.burst");
}

#[test]
fn an_idle_cgroup_gets_no_weight() {
    assert_eq!(writes(json!({"cpu": {"idle": 1, "shares": 1024}})), ["cpu.idle=1"]);
    let awake = writes(json!({"cpu": {"idle": 0, "shares": 1024}}));
    assert_eq!(awake, ["cpu.idle=0", "cpu.weight=100"]);
    invalid(json!({"cpu": {"idle": 2}}), "linux.resources.cpu.idle");
}

#[test]
fn cpu_sets_are_written_as_they_are() {
    let writes = writes(json!({"cpu": {"cpus": "0-3,7", "mems": "0"}}));
    assert_eq!(writes, ["cpuset.cpus=0-3,7", "cpuset.mems=0"]);
}

#[test]
fn realtime_settings_are_refused() {
    unsupported(json!({"cpu": {"realtimeRuntime": 1}}), "linux.resources.cpu.realtimeRuntime");
    unsupported(json!({"cpu": {"realtimePeriod": 1}}), "linux.resources.cpu.realtimePeriod");
}

#[test]
fn block_weight_goes_to_bfq_or_is_converted() {
    for (weight, converted) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
        let plan = plan(json!({"blockIO": {"weight": weight}}));
        let [write] = plan.writes.as_slice() else { panic!("{plan:?}") };
        assert_eq!((&*write.file, &*write.value), ("io.bfq.weight", &*weight.to_string()));
        let instead = IfMissing::Instead { file: "io.weight".into(), value: converted.to_string() };
        assert_eq!(write.if_missing, instead);
    }
    for weight in [9, 1001] {
        invalid(json!({"blockIO": {"weight": weight}}), "linux.resources.blockIO.weight");
    }
}

#[test]
fn block_weight_of_a_device_names_the_device() {
    let plan = plan(json!({"blockIO": {"weightDevice": [
        {"major": 8, "minor": 0}, {"major": 8, "minor": 16, "weight": 1000}
    ]}}));
    let [write] = plan.writes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(write.field, "linux.resources.blockIO.weightDevice[1].weight");
    assert_eq!((&*write.file, &*write.value), ("io.bfq.weight", "8:16 1000"));
    let instead = IfMissing::Instead { file: "io.weight".into(), value: "8:16 10000".into() };
    assert_eq!(write.if_missing, instead);
}

#[test]
fn leaf_weights_are_refused() {
    unsupported(json!({"blockIO": {"leafWeight": 10}}), "linux.resources.blockIO.leafWeight");
    unsupported(
        json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}}),
        "linux.resources.blockIO.weightDevice[0].leafWeight",
    );
}

#[test]
fn throttles_of_a_device_are_one_write() {
    let block_io = json!({"blockIO": {
        "throttleReadBpsDevice": [
            {"major": 8, "minor": 0, "rate": 1000}, {"major": 8, "minor": 16, "rate": 5}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2000}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 30}],
        "throttleWriteIOPSDevice": [
            {"major": 8, "minor": 0, "rate": 0}, {"major": 253, "minor": 1, "rate": 40}],
    }});
    assert_eq!(
        writes(block_io.clone()),
        [
            "io.max=8:0 rbps=1000 wbps=2000 wiops=max",
            "io.max=8:16 rbps=5 riops=30",
            "io.max=253:1 wiops=40",
        ]
    );
    assert_eq!(
        fields(block_io),
        [
            "linux.resources.blockIO.throttleReadBpsDevice[0]",
            "linux.resources.blockIO.throttleReadBpsDevice[1]",
            "linux.resources.blockIO.throttleWriteIOPSDevice[1]",
        ]
    );
}

#[test]
fn device_numbers_must_be_numbers() {
    invalid(
        json!({"blockIO": {"throttleReadIOPSDevice": [{"major": -1, "minor": 0, "rate": 1}]}}),
        "linux.resources.blockIO.throttleReadIOPSDevice[0].major",
    );
    invalid(
        json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 4_294_967_296u64, "weight": 10}]}}),
        "linux.resources.blockIO.weightDevice[0].minor",
    );
}

#[test]
fn hugepage_limits_bound_faults_and_reservations() {
    let hugepages = json!({"hugepageLimits": [
        {"pageSize": "2MB", "limit": 9_437_184}, {"pageSize": "1GB", "limit": 0}
    ]});
    assert_eq!(
        writes(hugepages.clone()),
        [
            "hugetlb.2MB.max=9437184",
            "hugetlb.2MB.rsvd.max=9437184",
            "hugetlb.1GB.max=0",
            "hugetlb.1GB.rsvd.max=0",
        ]
    );
    let plan = plan(hugepages);
    let if_missing: Vec<_> = plan.writes.iter().map(|write| &write.if_missing).collect();
    assert_eq!(if_missing[..2], [&IfMissing::Fail, &IfMissing::Skip]);
    assert_eq!(plan.writes[2].field, "linux.resources.hugepageLimits[1].limit");
}

#[test]
fn page_sizes_have_a_form() {
    for size in ["", "2", "MB", "02MB", "2mb", "2MiB", "2TB", "../2MB", "+2MB", "2 MB"] {
        invalid(
            json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]}),
            "linux.resources.hugepageLimits[0].pageSize",
        );
    }
    invalid(
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -2}]}),
        "linux.resources.hugepageLimits[0].limit",
    );
}

#[test]
fn rdma_limits_are_sorted_by_device() {
    let rdma = json!({"rdma": {
        "mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000},
        "mlx4_0": {"hcaObjects": 1000},
    }});
    assert_eq!(
        writes(rdma.clone()),
        ["rdma.max=mlx4_0 hca_object=1000", "rdma.max=mlx5_1 hca_handle=3 hca_object=10000"]
    );
    assert_eq!(fields(rdma)[0], "linux.resources.rdma[\"mlx4_0\"]");
    invalid(json!({"rdma": {"a b": {"hcaHandles": 1}}}), "linux.resources.rdma[\"a b\"]");
}

#[test]
fn network_settings_are_refused() {
    unsupported(json!({"network": {"classID": 1}}), "linux.resources.network.classID");
    unsupported(
        json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}),
        "linux.resources.network.priorities",
    );
}

#[test]
fn unified_is_written_last_sorted_and_line_by_line() {
    let unified = json!({
        "unified": {"memory.high": "1000", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"},
        "pids": {"limit": 3},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
    });
    assert_eq!(
        writes(unified.clone())[3..],
        ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=1000"]
    );
    let last = plan(unified).writes.pop().unwrap();
    assert_eq!(last.field, "linux.resources.unified[\"memory.high\"]");
    assert_eq!(last.if_missing, IfMissing::Unified);
}

#[test]
fn unified_takes_names_of_resource_files_only() {
    for name in ["a/b", "../memory.max", "", "memory", ".", "..", ".max", "memory.", "a.b\0"] {
        invalid(json!({"unified": {name: "1"}}), &format!("linux.resources.unified[{name:?}]"));
    }
    for name in ["cgroup.procs", "cgroup.kill", "cgroup.freeze", "cgroup.subtree_control"] {
        let text =
            invalid(json!({"unified": {name: "1"}}), &format!("linux.resources.unified[{name:?}]"));
        assert!(text.contains("is not a resource"), "{text}");
    }
    for value in ["", "\n", "  "] {
        invalid(
            json!({"unified": {"memory.max": value}}),
            "linux.resources.unified[\"memory.max\"]",
        );
    }
}
