//! The bundles that are measured.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rootfs;

/// The cgroup above those of measured containers: this process's own.
pub(super) fn cgroup_parent() -> String {
    format!("/orlop-bench-{}", std::process::id())
}

/// The config that Docker 28 wrote for `docker run busybox`.
const DOCKER: &str = include_str!("../../bundles/docker.json");

/// Makes bundles in `dir` of a config: each with a root filesystem and a cgroup of its own, /bin/true as its process,
/// and without what belongs to the engine that wrote it (hooks, bind mounts, paths).
pub(super) fn bundles(
    dir: &Path,
    source: Option<&Path>,
    count: usize,
) -> Result<Vec<PathBuf>, String> {
    let text = match source {
        None => DOCKER.to_owned(),
        Some(path) => {
            let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
            std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?
        }
    };
    let config: Value = serde_json::from_str(&text).map_err(|e| format!("config: {e}"))?;
    (0..count)
        .map(|slot| {
            let bundle = dir.join(format!("bundle-{slot}"));
            let mut config = config.clone();
            adapt(&mut config, &bundle.join("rootfs"));
            config["linux"]["cgroupsPath"] = json!(format!("{}/container-{slot}", cgroup_parent()));
            rootfs::make(&bundle.join("rootfs"));
            write(&bundle, &config)?;
            Ok(bundle)
        })
        .collect()
}

fn read(bundle: &Path) -> Result<Value, String> {
    let path = bundle.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(bundle: &Path, config: &Value) -> Result<(), String> {
    let path = bundle.join("config.json");
    std::fs::write(&path, config.to_string()).map_err(|e| format!("{}: {e}", path.display()))
}

/// Makes a bundle beside them, with the first one's root filesystem, for a container that stays.
pub(super) fn holder(bundles: &[PathBuf], dir: &Path, name: &str) -> Result<(), String> {
    let mut config = read(bundles.first().ok_or("no bundle")?)?;
    config["process"]["args"] = json!(["/bin/sleep", "100000"]);
    config["linux"]["cgroupsPath"] = json!(format!("{}/hold-{}", cgroup_parent(), plain(name)));
    derived(&dir.join(format!("hold-{}", plain(name))), &config).map(drop)
}

/// Makes a bundle beside another, with its root filesystem, whose container may take `bytes` of memory.
pub(super) fn limited(bundle: &Path, dir: &Path, bytes: u64) -> Result<PathBuf, String> {
    let mut config = read(bundle)?;
    config["linux"]["resources"]["memory"] = json!({"limit": bytes, "swap": bytes});
    derived(&dir.join("limited"), &config)
}

fn derived(place: &Path, config: &Value) -> Result<PathBuf, String> {
    std::fs::create_dir_all(place).map_err(|e| format!("{}: {e}", place.display()))?;
    write(place, config)?;
    Ok(place.to_owned())
}

/// A name for files, cgroups and containers.
pub(super) fn plain(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' })
        .collect()
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
