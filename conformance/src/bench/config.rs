//! The bundle that is measured.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rootfs;

/// Above the cgroups of measured containers.
pub(super) const CGROUP_PARENT: &str = "/sys/fs/cgroup/orlop-bench";

/// The config that Docker 28 wrote for `docker run busybox`.
const DOCKER: &str = include_str!("../../bundles/docker.json");

/// Makes a bundle in `dir` of a config: a root filesystem of our own, /bin/true as its process, and without what
/// belongs to the engine that wrote it (hooks, bind mounts, paths).
pub(super) fn bundle(dir: &Path, source: Option<&Path>) -> Result<PathBuf, String> {
    let text = match source {
        None => DOCKER.to_owned(),
        Some(path) => {
            let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
            std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?
        }
    };
    let mut config: Value = serde_json::from_str(&text).map_err(|e| format!("config: {e}"))?;
    adapt(&mut config, &dir.join("bundle/rootfs"));
    let bundle = dir.join("bundle");
    rootfs::make(&bundle.join("rootfs"));
    std::fs::write(bundle.join("config.json"), config.to_string())
        .map_err(|e| format!("config.json: {e}"))?;
    Ok(bundle)
}

/// Makes a bundle beside it, with the same root filesystem, for a container that stays.
pub(super) fn holder(bundle: &Path, dir: &Path, name: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(bundle.join("config.json")).map_err(|e| e.to_string())?;
    let mut config: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    config["process"]["args"] = json!(["/bin/sleep", "100000"]);
    config["linux"]["cgroupsPath"] = json!(format!("/orlop-bench/hold-{name}"));
    let place = dir.join(format!("hold-{name}"));
    std::fs::create_dir(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    std::fs::write(place.join("config.json"), config.to_string())
        .map_err(|e| format!("config.json: {e}"))
}

fn adapt(config: &mut Value, rootfs: &Path) {
    config["root"]["path"] = json!(rootfs);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    // Labels and profiles of the machine that the config comes from.
    for (object, names) in [
        ("/process", &["apparmorProfile", "selinuxLabel", "consoleSize"][..]),
        ("/linux", &["mountLabel"]),
        ("", &["hooks"]),
    ] {
        if let Some(object) = config.pointer_mut(object).and_then(Value::as_object_mut) {
            names.iter().for_each(|name| drop(object.remove(*name)));
        }
    }
    if let Some(list) = config["mounts"].as_array_mut() {
        list.retain(|m| m["type"] != "bind");
    }
    config["linux"]["cgroupsPath"] = json!("/orlop-bench/container");
    if let Some(list) = config["linux"]["namespaces"].as_array_mut() {
        list.iter_mut().for_each(|ns| drop(ns.as_object_mut().map(|o| o.remove("path"))));
    }
    drop_limits(config);
}

/// Limits whose controller this machine's v2 tree lacks: runtimes refuse them (crun even an empty blockIO).
fn drop_limits(config: &mut Value) {
    let have = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let have: Vec<_> = have.split_whitespace().collect();
    let Some(resources) = config["linux"]["resources"].as_object_mut() else { return };
    for (controller, field) in
        [("io", "blockIO"), ("memory", "memory"), ("pids", "pids"), ("cpu", "cpu")]
    {
        if !have.contains(&controller) {
            resources.remove(field);
        }
    }
    resources.remove("unified");
}
