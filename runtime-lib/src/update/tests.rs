//! What an update writes, given what was asked for before.

use super::*;
use crate::ErrorKind;
use serde_json::json;

fn parse(value: &Value) -> LinuxResources {
    parse_resources(value.to_string().as_bytes()).unwrap()
}

/// The writes as `file=value`.
fn writes(saved: Value, given: Value) -> Vec<String> {
    let plan = limits(&completed(&parse(&given), &parse(&saved))).unwrap();
    plan.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
}

fn after(saved: Value, given: Value) -> Value {
    serde_json::to_value(merged(&parse(&given), parse(&saved))).unwrap()
}

#[test]
fn what_is_not_given_is_not_written() {
    let saved = json!({
        "memory": {"limit": 4096, "swap": 8192, "reservation": 100},
        "cpu": {"shares": 512, "quota": 5000, "period": 10000, "cpus": "0"},
        "pids": {"limit": 7}, "blockIO": {"weight": 100}, "unified": {"cgroup.max.depth": "3"}
    });
    assert!(writes(saved.clone(), json!({})).is_empty());
    assert_eq!(writes(saved.clone(), json!({"pids": {"limit": 8}})), ["pids.max=8"]);
    assert_eq!(writes(saved.clone(), json!({"cpu": {"shares": 1024}})), ["cpu.weight=100"]);
    assert_eq!(writes(saved, json!({"memory": {"reservation": 1}})), ["memory.low=1"]);
}

#[test]
fn quota_and_period_are_written_together() {
    let saved = json!({"cpu": {"quota": 5000, "period": 10_000}});
    assert_eq!(writes(saved.clone(), json!({"cpu": {"quota": 6000}})), ["cpu.max=6000 10000"]);
    assert_eq!(writes(saved.clone(), json!({"cpu": {"period": 20_000}})), ["cpu.max=5000 20000"]);
    assert_eq!(writes(saved.clone(), json!({"cpu": {"quota": -1}})), ["cpu.max=max 10000"]);
    assert_eq!(writes(saved, json!({"cpu": {"period": 0}})), ["cpu.max=5000 100000"]);
    assert_eq!(writes(json!({}), json!({"cpu": {"quota": 6000}})), ["cpu.max=6000 100000"]);
}

#[test]
fn swap_is_computed_from_the_limit_that_stays_or_the_new_one() {
    let saved = json!({"memory": {"limit": 1000, "swap": 3000}});
    assert_eq!(
        writes(saved.clone(), json!({"memory": {"limit": 1500}})),
        ["memory.swap.max=1500", "memory.max=1500"]
    );
    assert_eq!(
        writes(saved.clone(), json!({"memory": {"swap": 1000}})),
        ["memory.swap.max=0", "memory.max=1000"]
    );
    let given = parse(&json!({"memory": {"limit": 4000}}));
    let error = limits(&completed(&given, &parse(&saved))).unwrap_err();
    assert!(error.to_string().contains("memory+swap limit should be >= memory limit"), "{error}");
    let given = parse(&json!({"memory": {"swap": 4000}}));
    let error = limits(&completed(&given, &LinuxResources::default())).unwrap_err();
    assert!(error.to_string().contains("unable to set swap limit without memory limit"), "{error}");
}

#[test]
fn unlimited_memory_lifts_the_limit_of_swap_too() {
    let saved = json!({"memory": {"limit": 1000, "swap": 3000}});
    assert_eq!(
        writes(saved.clone(), json!({"memory": {"limit": -1}})),
        ["memory.swap.max=max", "memory.max=max"]
    );
    assert_eq!(
        after(saved, json!({"memory": {"limit": -1}})),
        json!({"memory": {"limit": -1, "swap": -1}})
    );
}

#[test]
fn idle_forgets_the_shares() {
    let saved = json!({"cpu": {"shares": 512, "quota": 1}});
    assert_eq!(writes(saved.clone(), json!({"cpu": {"idle": 1}})), ["cpu.idle=1"]);
    assert_eq!(
        after(saved.clone(), json!({"cpu": {"idle": 1}})),
        json!({"cpu": {"idle": 1, "quota": 1}})
    );
    assert_eq!(
        after(saved, json!({"cpu": {"idle": 0, "shares": 2}})),
        json!({"cpu": {"idle": 0, "quota": 1, "shares": 2}})
    );
}

#[test]
fn pids_limit_zero_is_one_and_none_is_no_change() {
    assert_eq!(writes(json!({}), json!({"pids": {"limit": 0}})), ["pids.max=1"]);
    assert_eq!(writes(json!({}), json!({"pids": {"limit": -1}})), ["pids.max=max"]);
    for nothing in [json!({"pids": {}}), json!({"pids": {"limit": null}}), json!({"pids": null})] {
        assert!(writes(json!({"pids": {"limit": 9}}), nothing).is_empty());
    }
}

#[test]
fn the_check_of_memory_in_use_takes_what_is_completed() {
    let given = parse(&json!({"memory": {"limit": 1500, "checkBeforeUpdate": true}}));
    let saved = parse(&json!({"memory": {"limit": 1000, "swap": 3000}}));
    let check = limits(&completed(&given, &saved)).unwrap().memory_check.unwrap();
    assert_eq!((check.limit, check.swap), (Some(1500), Some(3000)));
    let merged = merged(&given, saved);
    assert_eq!(merged.memory().unwrap().check_before_update(), None, "it is for one update");
}

#[test]
fn what_cannot_be_changed_has_no_effect() {
    let given = json!({
        "devices": [{"allow": "nonsense"}], "nosuchkey": 1, "network": {"classID": 7},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 5}], "rdma": {"mlx5_0": {"hcaHandles": 1}},
        "memory": {"kernel": 4096, "kernelTCP": 4096, "swappiness": 5, "disableOOMKiller": true}
    });
    assert!(writes(json!({}), given.clone()).is_empty());
    assert_eq!(after(json!({}), given), json!({"memory": {}}));
}

#[test]
fn devices_of_block_io_are_kept_by_their_number() {
    let saved = json!({"blockIO": {"weight": 10, "throttleReadBpsDevice": [
        {"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 16, "rate": 2}]}});
    let given = json!({"blockIO": {"throttleReadBpsDevice": [
        {"major": 8, "minor": 0, "rate": 9}]}});
    assert_eq!(writes(saved.clone(), given.clone()), ["io.max=8:0 rbps=9"]);
    assert_eq!(
        after(saved, given),
        json!({"blockIO": {"weight": 10, "throttleReadBpsDevice": [
            {"major": 8, "minor": 16, "rate": 2}, {"major": 8, "minor": 0, "rate": 9}]}})
    );
}

#[test]
fn unified_values_are_kept_by_their_file() {
    let saved = json!({"unified": {"memory.high": "1", "memory.low": "2"}});
    let given = json!({"unified": {"memory.high": "3"}});
    assert_eq!(writes(saved.clone(), given.clone()), ["memory.high=3"]);
    let want = json!({"unified": {"memory.high": "3", "memory.low": "2"}});
    assert_eq!(after(saved, given), want);
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let error = parse_resources(br#"{"memory": {"limit": "much"}}"#).unwrap_err();
    assert_eq!(error.field(), Some("linux.resources.memory.limit"), "{error}");
    assert_eq!(parse_resources(b" null ").unwrap(), LinuxResources::default());
    for text in ["", "{", "[]", "7"] {
        let error = parse_resources(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
    }
}

#[test]
fn a_configuration_without_limits_saves_nothing() {
    let spec = |text: &str| crate::bundle::parse(text.as_bytes()).unwrap().0;
    assert_eq!(saved(&spec(r#"{"linux":{}}"#)), None);
    let text = r#"{"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}"#;
    assert_eq!(saved(&spec(text)), None);
    let text =
        r#"{"linux":{"resources":{"pids":{"limit":5},"memory":{"swappiness":1,"limit":9}}}}"#;
    let found = serde_json::to_value(saved(&spec(text))).unwrap();
    assert_eq!(found, json!({"pids": {"limit": 5}, "memory": {"limit": 9}}));
}
