//! The command line: versions, features, spec, list, logs, and what is said about misuse.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::{Peer, Test};
use serde_json::{Value, json};

#[test]
fn version_has_the_lines_that_engines_parse() {
    let Some(t) = Test::begin() else { return };
    let done = t.bare().arg("--version").done().ok();
    assert_eq!(done.stderr, "");
    let lines = done.lines();
    assert!(lines[0].contains(" version "), "{done}");
    assert_eq!(lines.iter().filter(|l| l.contains("version")).count(), 1, "Docker: one such line");
    let spec = lines.iter().find_map(|l| l.strip_prefix("spec: ")).expect("a line `spec: X.Y.Z`");
    assert_eq!(spec.split('.').count(), 3, "{spec}");
    let short = t.bare().arg("-v").done();
    assert!(t.peer() == Peer::Crun || short.stdout == done.stdout, "-v is --version");
}

#[test]
fn features_is_the_document_of_the_specification() {
    let Some(t) = Test::begin() else { return };
    let done = t.bare().arg("features").done().ok();
    assert_eq!(done.stderr, "");
    let doc = done.json();
    assert!(doc["ociVersionMin"].as_str().unwrap().starts_with("1.0.0"));
    assert!(doc["ociVersionMax"].as_str().unwrap().starts_with("1."));
    let has = |list: &Value, want: &[&str]| {
        let list = list.as_array().unwrap();
        want.iter().for_each(|w| assert!(list.contains(&json!(w)), "{w} in {list:?}"));
    };
    let hooks =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    has(&doc["hooks"], &hooks);
    has(&doc["mountOptions"], &["ro", "rbind", "nosuid", "rro", "tmpcopyup", "rprivate"]);
    has(&doc["linux"]["namespaces"], &["cgroup", "ipc", "mount", "network", "pid", "uts"]);
    has(&doc["linux"]["capabilities"], &["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]);
    assert_eq!(doc["linux"]["cgroup"]["v2"], true);
    assert_eq!(doc["linux"]["seccomp"]["enabled"], true);
    has(
        &doc["linux"]["seccomp"]["actions"],
        &["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY"],
    );
    assert_eq!(doc["linux"]["apparmor"]["enabled"], true);
    assert_eq!(doc["linux"]["selinux"]["enabled"], true);
    has(&doc["linux"]["seccomp"]["archs"], &["SCMP_ARCH_X86_64"]);
}

#[test]
fn spec_writes_a_config_that_runs() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let done = t.bare().args(["spec", "--bundle"]).arg(&bundle.dir).done().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let text = std::fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["noNewPrivileges"], true);
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    assert_eq!(config["mounts"].as_array().unwrap().len(), 7);
    assert!(config["process"]["capabilities"].get("inheritable").is_none(), "CVE-2022-24769");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "echo hello"]);
    std::fs::write(bundle.dir.join("config.json"), config.to_string()).unwrap();
    let done = t.command(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id).done().ok();
    assert_eq!(done.stdout, "hello\n");
}

#[test]
fn spec_does_not_overwrite() {
    let Some(t) = Test::begin() else { return };
    std::fs::write(t.dir().join("config.json"), "mine").unwrap();
    let done = t.bare().arg("spec").cwd(t.dir()).done().exits(1);
    let text = "File config.json exists. Remove it first";
    assert!(t.peer() == Peer::Crun || done.stderr.contains(text), "{done}");
    assert_eq!(std::fs::read_to_string(t.dir().join("config.json")).unwrap(), "mine");
}

#[test]
fn spec_rootless_maps_one_id_and_has_no_network_namespace() {
    let Some(t) = Test::begin() else { return };
    let _ = t.bare().args(["spec", "--rootless"]).cwd(t.dir()).done().ok();
    let text = std::fs::read_to_string(t.dir().join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let kinds: Vec<_> = config["linux"]["namespaces"].as_array().unwrap().iter().collect();
    assert!(kinds.contains(&&json!({"type": "user"})));
    assert!(!kinds.contains(&&json!({"type": "network"})));
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
    assert_eq!(config["linux"]["uidMappings"][0]["size"], 1);
}

#[test]
fn list_shows_containers_as_table_json_and_ids() {
    let Some(t) = Test::begin() else { return };
    let a = t.bundle().args(&["/bin/sleep", "100"]).create();
    let b = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let table = t.call(&["list"]).ok();
    let lines = table.lines();
    assert_eq!(lines.len(), 3, "{table}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(&words(lines[0])[..4], ["ID", "PID", "STATUS", "BUNDLE"]);
    assert!(lines[0].contains("   ") && lines[0].contains("OWNER"));
    for c in [&a, &b] {
        let row = lines.iter().map(|l| words(l)).find(|w| w[0] == c.bundle.id).expect("a row");
        assert_eq!(row[1], c.pid.to_string());
        assert_eq!(row[2], c.status());
        assert_eq!(row[3], c.bundle.dir.to_str().unwrap());
    }
    let done = t.call(&["list", "--format", "json"]).ok();
    let all = done.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let entry = all.as_array().unwrap().iter().find(|e| e["id"] == b.bundle.id.as_str()).unwrap();
    assert_eq!((&entry["status"], &entry["pid"]), (&json!("running"), &json!(b.pid)));
    assert_eq!(entry["owner"], "root");
    assert!(t.peer() == Peer::Crun || done.lines().len() == 1, "one line: {done}");
    let done = t.call(&["list", "-q"]).ok();
    let mut ids = done.lines();
    ids.sort_unstable();
    let mut want = [a.bundle.id.as_str(), b.bundle.id.as_str()];
    want.sort_unstable();
    assert_eq!(ids, want);
}

#[test]
fn list_of_nothing_is_empty() {
    let Some(t) = Test::begin() else { return };
    std::fs::create_dir(t.root()).unwrap();
    assert_eq!(t.call(&["list"]).ok().lines().len(), 1, "the header alone");
    assert_eq!(t.call(&["list", "--quiet"]).ok().stdout, "");
    if t.differs(&[Peer::Crun], "prints [] for an empty list") {
        return;
    }
    assert_eq!(t.call(&["list", "-f", "json"]).ok().stdout.trim(), "null");
}

#[test]
fn list_refuses_another_format() {
    let Some(t) = Test::begin() else { return };
    std::fs::create_dir(t.root()).unwrap();
    let done = t.call(&["list", "--format", "xml"]).exits(1);
    assert!(t.peer() == Peer::Crun || done.stderr.contains("invalid format option"), "{done}");
}

#[test]
fn failure_goes_to_the_json_log_and_plain_to_stderr() {
    let Some(t) = Test::begin() else { return };
    let log = t.dir().join("log.json");
    let bundle = t.bundle().args(&["nosuchprogram"]);
    bundle.write();
    let run =
        t.bare().args(["--log-format", "json", "--log"]).arg(&log).arg("--root").arg(t.root());
    let done = run.args(["create", "--bundle"]).arg(&bundle.dir).arg("x").done().exits(1);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let errors: Vec<_> = lines.iter().filter(|l| l["level"] == "error").collect();
    assert!(!errors.is_empty(), "{text}");
    let last = errors[errors.len() - 1];
    let message = last["msg"].as_str().unwrap();
    assert!(message.contains("executable file not found in $PATH"), "{message}");
    let time = last["time"].as_str().unwrap();
    assert!(time.contains('T') && (time.ends_with('Z') || time.contains('+')), "{time}");
    if t.peer() != Peer::Crun {
        assert_eq!(done.stderr.trim_end(), message, "the same message, bare");
        // runc 1.1 warns about a file that this cgroup tree does not have.
        assert_eq!(errors.len(), 1, "{text}");
        assert!(
            t.peer() == Peer::Runc || lines.len() == 1,
            "Podman reads the file as one object: {text}"
        );
        assert!(
            message.starts_with("runc create failed: ")
                || message.starts_with("orlop create failed: ")
        );
    }
}

#[test]
fn log_file_is_made_and_stays_empty_when_all_goes_well() {
    let Some(t) = Test::begin() else { return };
    let log = t.dir().join("log.json");
    let bundle = t.bundle();
    bundle.write();
    let run = t.bare().arg("--log").arg(&log).arg("--log-format=json").arg("--root").arg(t.root());
    let done = run.args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id).done().ok();
    assert_eq!(done.stderr, "");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn log_file_is_appended_to() {
    let Some(t) = Test::begin() else { return };
    let log = t.dir().join("log.json");
    for _ in 0..2 {
        let run = t.bare().arg("--log").arg(&log).args(["--log-format", "json", "--root"]);
        let _ = run.arg(t.root()).args(["state", "nobody"]).done().exits(1);
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
}

#[test]
fn failure_on_stderr_is_a_text_line_with_time_and_level() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has a text form of its own") {
        return;
    }
    let done = t.call(&["state", "nobody"]).exits(1);
    let said = &done.stderr;
    assert!(said.starts_with("time=\"20") && said.contains("\" level=error msg=\""), "{said}");
    assert!(said.ends_with('\n') && said.lines().count() == 1, "{said}");
    let log = t.dir().join("log");
    let run = t.bare().arg("--log").arg(&log).arg("--root").arg(t.root());
    let done = run.args(["state", "nobody"]).done().exits(1);
    assert!(std::fs::read_to_string(&log).unwrap().contains("level=error msg=\""));
    assert!(!done.stderr.contains("level="), "bare on standard error: {done}");
}

#[test]
fn log_format_is_text_or_json() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently") {
        return;
    }
    let done = t.bare().args(["--log-format", "xml", "state", "x"]).done();
    let _ = done.fails("invalid log-format: xml");
}

#[test]
fn help_is_printed_when_nothing_is_asked_for() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "uses argp") {
        return;
    }
    for args in [&[][..], &["--help"], &["-h"], &["help"], &["help", "help"], &["help", "-h"]] {
        let done = t.bare().args(args).done().ok();
        assert_eq!(done.lines()[0], "NAME:", "{done}");
    }
    let done = t.bare().args(["create", "--help"]).done().ok();
    assert_eq!(done.lines()[0], "NAME:", "{done}");
}

#[test]
fn misuse_of_the_command_line_is_explained() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "uses argp") {
        return;
    }
    let done = t.bare().args(["create", "--nosuchflag", "x"]).done().exits(1);
    assert!(done.stderr.contains("flag provided but not defined: -nosuchflag"), "{done}");
    let done = t.bare().args(["create", "--bundle"]).done().exits(1);
    assert!(done.stderr.contains("flag needs an argument: -"), "{done}");
    let done = t.bare().args(["nosuchcommand"]).done().exits(3);
    assert!(done.stderr.contains("No help topic for 'nosuchcommand'"), "{done}");
    let done = t.bare().args(["state"]).done().exits(1);
    // The name is in quotes, which the text form of the log escapes.
    assert!(done.stderr.contains("requires exactly 1 argument(s)"), "{done}");
    let done = t.bare().args(["start", "a", "b"]).done().exits(1);
    assert!(done.stderr.contains("requires"), "{done}");
}

#[test]
fn long_flags_take_one_dash_or_two_and_values_with_equals() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "uses getopt") {
        return;
    }
    let bundle = t.bundle().sh("exit 8");
    bundle.write();
    let dir = format!("-bundle={}", bundle.dir.display());
    let root = format!("-root={}", t.root().display());
    let _ = t.bare().args([&root, "run", &dir, "-keep=false", &bundle.id]).done().exits(8);
    bundle.assert_nothing_left();
    let done = t.command(["run", &bundle.id, "--bundle"]).arg(&bundle.dir).done();
    let _ = done.exits(8);
}

#[test]
fn repeated_flags_are_taken_the_last_one_wins() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("exit 8");
    bundle.write();
    let run = t.command(["--root"]).arg(t.root()).args(["run", "--bundle", "/nowhere", "--bundle"]);
    let _ = run.arg(&bundle.dir).arg(&bundle.id).done().exits(8);
}

#[test]
fn signal_may_be_empty_and_options_follow_it() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "uses argp") {
        return;
    }
    let stops = |arguments: &[&str]| {
        let c = t.bundle().sh("trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done");
        let c = c.run_detached();
        c.wait_for_output("up");
        let _ = c.call("kill", &[], arguments).ok();
        format!("{:?}", c.reap())
    };
    assert!(stops(&[""]).contains("Exited"), "the default");
    for arguments in [&["--", "9"][..], &["9", "--all"], &["9", "-all=false"]] {
        assert!(stops(arguments).contains("SIGKILL"), "{arguments:?}");
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    assert_eq!(c.call("kill", &[], &["--help"]).ok().lines()[0], "NAME:");
    let _ = c.call("kill", &[], &["-9"]).exits(1);
    assert_eq!(c.status(), "running");
}

#[test]
fn unknown_config_fields_are_ignored() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/nosuchfield", json!({"a": [1]}));
    let _ = bundle.set("/linux/nosuchfield", json!(1)).run().ok();
}

#[test]
fn broken_config_json_is_refused() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    for text in ["", "{", "[]", "{\"ociVersion\": \"1.0.0\"}", "{\"process\": 1}"] {
        std::fs::write(bundle.dir.join("config.json"), text).unwrap();
        let done = t.command(["create", "--bundle"]).arg(&bundle.dir).arg("x").done();
        let _ = done.exits(1);
    }
    assert_eq!(std::fs::read_dir(t.root()).map_or(0, Iterator::count), 0);
}
