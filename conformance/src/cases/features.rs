//! `features`, and whether it is true: features.md.

use serde_json::{Value, json};

use super::section;
use crate::Test;
use crate::suite::{Case, Section, skip};

fn features(t: &Test) -> Value {
    t.call(&["features"]).ok().json()
}

fn names(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(|v| v.as_str().expect("text").to_owned()).collect()
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "features", "features.md");
    s.case("features is one JSON object and nothing on standard error", |t| {
        let done = t.call(&["features"]).ok();
        assert!(done.json().is_object() && done.stderr.is_empty(), "{done}");
    });
    for name in ["ociVersionMin", "ociVersionMax"] {
        s.case(format!("{name} is a version"), move |t| {
            let version = features(t)[name].as_str().expect("text").to_owned();
            assert!(version.split('.').count() >= 3, "{version}");
        });
    }
    s.case("ociVersionMin is not above ociVersionMax", |t| {
        let all = features(t);
        assert!(all["ociVersionMin"].as_str() <= all["ociVersionMax"].as_str());
    });
    s.case("all six kinds of hooks are named", |t| {
        let found = names(&features(t)["hooks"]);
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            assert!(found.contains(&kind.to_owned()), "no {kind} in {found:?}");
        }
    });
    s.case("cgroup says that version 2 is supported", |t| {
        assert_eq!(features(t)["linux"]["cgroup"]["v2"], true);
    });
    truth(&mut s);
}

fn truth(s: &mut Section<'_>) {
    s.case("each namespace that is named is made", |t| {
        for kind in names(&features(t)["linux"]["namespaces"]) {
            let present = std::path::Path::new("/proc/self/ns").join(match kind.as_str() {
                "network" => "net",
                "mount" => "mnt",
                other => other,
            });
            if !present.exists() || kind == "user" {
                continue;
            }
            let b = t.bundle().without_namespace(&kind);
            let done = b.push("/linux/namespaces", json!({"type": kind})).run();
            assert!(done.status.success(), "{kind}: {done}");
        }
    });
    s.case("each mount option that is named is taken", |t| {
        let dir = t.dir().join("source");
        std::fs::create_dir(&dir).unwrap();
        for option in names(&features(t)["mountOptions"]) {
            // They need something else than a bind mount to be tried on.
            if [
                "remount",
                "tmpcopyup",
                "idmap",
                "ridmap",
                "mand",
                "nomand",
                "iversion",
                "noiversion",
            ]
            .contains(&option.as_str())
            {
                continue;
            }
            let b = t.bundle().mount("/mnt", "none", dir.to_str().unwrap(), &["rbind", &option]);
            let done = b.run();
            assert!(done.status.success(), "{option}: {done}");
        }
    });
    s.case("each seccomp action that is named is taken", |t| {
        let seccomp = &features(t)["linux"]["seccomp"];
        if seccomp["enabled"] != true {
            skip("the runtime has no seccomp");
        }
        for action in names(&seccomp["actions"]) {
            if action == "SCMP_ACT_NOTIFY" {
                continue;
            }
            let rule = json!([{"names": ["lookup_dcookie"], "action": action}]);
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule});
            let done = t.bundle().set("/linux/seccomp", profile).run();
            assert!(done.status.success(), "{action}: {done}");
        }
    });
    s.case("each seccomp operator that is named is taken", |t| {
        for op in names(&features(t)["linux"]["seccomp"]["operators"]) {
            let args = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": op}]);
            let rule =
                json!([{"names": ["lookup_dcookie"], "action": "SCMP_ACT_ERRNO", "args": args}]);
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule});
            let done = t.bundle().set("/linux/seccomp", profile).run();
            assert!(done.status.success(), "{op}: {done}");
        }
    });
    s.case("each architecture of seccomp that is named is taken", |t| {
        let archs = features(t)["linux"]["seccomp"]["archs"].clone();
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "syscalls": [
            {"names": ["lookup_dcookie"], "action": "SCMP_ACT_ERRNO"}]});
        let done = t.bundle().set("/linux/seccomp", profile).run();
        assert!(done.status.success(), "{done}");
    });
    s.case("each supported flag of seccomp that is named is taken", |t| {
        let all = features(t);
        for flag in names(&all["linux"]["seccomp"]["supportedFlags"]) {
            // It counts for notifications alone.
            if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
                continue;
            }
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [
                {"names": ["lookup_dcookie"], "action": "SCMP_ACT_ERRNO"}]});
            let done = t.bundle().set("/linux/seccomp", profile).run();
            assert!(done.status.success(), "{flag}: {done}");
        }
    });
    s.case("capabilities that are named are those of the kernel at least", |t| {
        let found = names(&features(t)["linux"]["capabilities"]);
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let last: usize = last.trim().parse().unwrap();
        for name in super::capabilities::NAMES.iter().take(last + 1) {
            assert!(found.contains(&(*name).to_owned()), "no {name}");
        }
    });
    s.case("user namespaces work where they are named, and are refused where not", |t| {
        let named = names(&features(t)["linux"]["namespaces"]).contains(&"user".to_owned());
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        let b = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
        let done = b.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map).run();
        assert_eq!(done.status.success(), named, "{done}");
    });
}
