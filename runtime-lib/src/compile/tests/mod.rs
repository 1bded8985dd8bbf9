//! Plans as texts, broken configurations, and the proof that no field is passed over.

mod broken;
mod broken_later;
mod fields;
mod golden;

use serde_json::{Value, json};

use super::sample::facts;
pub(super) use super::sample::request;
use super::{Request, compile};
use crate::error::Result;
use crate::plan::Plan;

/// The least that is a container.
fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"]},
        "linux": {"namespaces": [{"type": "mount"}]}
    })
}

/// `base` with what is in `patch`: objects are merged, all else is replaced, null removes.
pub(super) fn patched(patch: &Value) -> Value {
    let mut config = base();
    merge(&mut config, patch);
    config
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(map), Some(patch)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Reads and compiles a configuration as a file would be; the reader's warnings come first.
pub(super) fn plan_for(config: &Value, request: &Request) -> Result<Plan> {
    let bytes = serde_json::to_vec(config).unwrap();
    let (spec, mut warnings) = crate::bundle::parse(&bytes)?;
    let mut plan = compile(&spec, request, &facts())?;
    warnings.append(&mut plan.warnings);
    plan.warnings = warnings;
    Ok(plan)
}

fn plan(config: &Value) -> Result<Plan> {
    plan_for(config, &request())
}

#[test]
fn the_oom_score_is_that_of_the_process_that_stays() {
    use crate::plan::HostOp;
    let config = patched(&json!({
        "process": {"oomScoreAdj": 500},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}]}
    }));
    let plan = plan(&config).unwrap();
    let place = |is: fn(&HostOp) -> bool| plan.host.iter().position(|step| is(&step.op)).unwrap();
    // The one before may have made its successor already when its own score changes.
    let adopted = place(|op| matches!(op, HostOp::Adopt));
    assert!(place(|op| matches!(op, HostOp::OomScoreAdj(_))) > adopted);
}
