//! `state`: a container's state as JSON.

use std::collections::BTreeMap;

use orlop::{State, Status};
use serde::Serialize;

use super::{SPEC_VERSION, container};
use crate::args::{Grammar, Options, Parsed};
use crate::failure::Outcome;
use crate::global::Context;
use crate::output;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "state",
    about: "output the state of a container",
    operands: "<container-id>",
    count: (1, 1),
    flags: &[],
    options: Options::Everywhere,
};

/// A container as `state` and `list` show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    oci_version: &'static str,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: String,
    rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

impl Shown {
    pub(super) fn new(state: State, owner: String) -> Self {
        let stopped = state.status == Status::Stopped;
        Self {
            oci_version: SPEC_VERSION,
            id: state.id,
            pid: if stopped { 0 } else { state.pid },
            status: state.status.as_str(),
            bundle: state.bundle.to_string_lossy().into_owned(),
            rootfs: state.rootfs.to_string_lossy().into_owned(),
            created: state.created,
            annotations: state.annotations,
            owner,
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            oci_version: SPEC_VERSION,
            id: "c1".to_owned(),
            pid: 42,
            status: "running",
            bundle: "/b".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            created: "2026-11-21T23:25:03.5Z".to_owned(),
            annotations: BTreeMap::new(),
            owner: String::new(),
        }
    }
}

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let state = container(context, parsed)?.state()?;
    output::text(&output::pretty_json(&Shown::new(state, String::new()), "  ")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_come_in_the_order_of_runc_and_empty_annotations_are_left_out() {
        let text = output::pretty_json(&Shown::example(), "  ").unwrap();
        assert_eq!(
            text,
            r#"{
  "ociVersion": "1.3.0",
  "id": "c1",
  "pid": 42,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-11-21T23:25:03.5Z",
  "owner": ""
}"#
        );
    }
}
