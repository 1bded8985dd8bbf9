//! Errors: runtime.md. What is wrong in a config is refused, in words, and nothing stays; and runc's manners of saying so.

use serde_json::{Value, json};

use super::section;
use crate::suite::{Case, Section};

/// Configs that are wrong: the field, its value, a word that the message has to have.
fn broken() -> Vec<(&'static str, Value)> {
    vec![
        ("/ociVersion", json!(null)),
        ("/ociVersion", json!("")),
        ("/ociVersion", json!("nonsense")),
        ("/ociVersion", json!("2.0.0")),
        ("/ociVersion", json!(1)),
        ("/process", json!("text")),
        ("/process/args", json!("text")),
        ("/process/args", json!([1])),
        ("/process/env", json!({"A": "B"})),
        ("/process/terminal", json!("yes")),
        ("/process/noNewPrivileges", json!(1)),
        ("/process/oomScoreAdj", json!(1001)),
        ("/process/oomScoreAdj", json!(-1001)),
        ("/process/oomScoreAdj", json!("high")),
        ("/process/rlimits", json!({})),
        ("/process/capabilities", json!(["CAP_KILL"])),
        ("/process/user", json!("root")),
        ("/root", json!("rootfs")),
        ("/root/readonly", json!("yes")),
        ("/mounts", json!({})),
        ("/mounts/0/options", json!("ro")),
        ("/mounts/0/destination", json!(1)),
        ("/hostname", json!(1)),
        ("/annotations", json!([])),
        ("/hooks", json!([])),
        ("/hooks", json!({"createRuntime": {}})),
        ("/linux", json!([])),
        ("/linux/namespaces", json!({})),
        ("/linux/namespaces/0/type", json!("")),
        ("/linux/maskedPaths", json!("x")),
        ("/linux/sysctl", json!([])),
        ("/linux/resources", json!([])),
        ("/linux/resources/memory", json!({"limit": "1G"})),
        ("/linux/resources/pids", json!({"limit": "many"})),
        ("/linux/resources/devices", json!({})),
        ("/linux/seccomp", json!([])),
        ("/linux/rootfsPropagation", json!(1)),
        ("/linux/cgroupsPath", json!(1)),
    ]
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "errors", "config.md#valid-values");
    for (pointer, value) in broken() {
        let field = pointer[1..].replace('/', ".");
        s.case(
            format!("config whose {field} is {value} is refused and leaves nothing"),
            move |t| {
                let b = t.bundle().set(pointer, value.clone());
                let done = b.try_create();
                assert!(!done.status.success(), "{done}");
                assert!(!done.stderr.trim().is_empty(), "it says nothing");
                b.assert_nothing_left();
            },
        );
    }
    for (what, text) in
        [("empty", ""), ("no JSON", "{"), ("another kind of JSON", "[]"), ("binary", "\0\u{1}")]
    {
        s.case(format!("config that is {what} is refused"), move |t| {
            let b = t.bundle();
            std::fs::write(b.dir.join("config.json"), text).unwrap();
            let done = t.command(["create", "--bundle"]).arg(&b.dir).arg(&b.id).done();
            assert!(!done.status.success() && !done.stderr.is_empty(), "{done}");
            b.assert_nothing_left();
        });
    }
    s.case("bundle that does not exist is refused", |t| {
        let done = t.call(&["create", "--bundle", "/no/such/bundle", "x"]);
        assert!(!done.status.success() && !done.stderr.is_empty(), "{done}");
    });
    let mut s = section(list, "command line", "runc");
    commands(&mut s);
    logs(&mut s);
}

fn commands(s: &mut Section<'_>) {
    s.case("--version names the program, its version and the specification's", |t| {
        let done = t.bare().arg("--version").done().ok();
        assert!(done.lines()[0].contains(" version "), "{done}");
        assert!(done.stdout.lines().any(|l| l.starts_with("spec: 1.")), "{done}");
    });
    s.case("--help names the commands", |t| {
        let done = t.bare().arg("--help").done().ok();
        for word in ["create", "start", "state", "kill", "delete"] {
            assert!(done.stdout.contains(word), "no {word}");
        }
    });
    s.case("unknown command fails", |t| {
        assert!(!t.call(&["nosuchcommand"]).status.success());
    });
    s.case("unknown option fails", |t| {
        assert!(!t.call(&["state", "--nosuch", "x"]).status.success());
    });
    s.case("option with one dash is the one with two", |t| {
        let c = t.bundle().sleeping().run_detached();
        let done = t.command(["list", "-format", "json"]).done().ok();
        assert!(done.stdout.contains(&c.bundle.id), "{done}");
    });
    s.case("value may follow an equals sign", |t| {
        std::fs::create_dir_all(t.root()).unwrap();
        let _ = t.command(["list", "--format=json"]).done().ok();
    });
    s.case("spec writes a config that runs", |t| {
        let b = t.bundle();
        std::fs::create_dir_all(&b.dir).unwrap();
        let _ = t.command(["spec", "--bundle"]).arg(&b.dir).done().ok();
        let text = std::fs::read_to_string(b.dir.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!([crate::suite::payload::PATH, "echo fine"]);
        config["linux"]["cgroupsPath"] = json!(format!("/orlop-conformance/{}", b.id));
        std::fs::write(b.dir.join("config.json"), config.to_string()).unwrap();
        let done = t.command(["run", "--bundle"]).arg(&b.dir).arg(&b.id).done().ok();
        assert!(done.stdout.contains("fine"), "{done}");
    });
    s.case("spec does not overwrite a config", |t| {
        let b = t.bundle();
        b.write();
        assert!(!t.command(["spec", "--bundle"]).arg(&b.dir).done().status.success());
    });
    s.case("list of nothing is no error", |t| {
        std::fs::create_dir_all(t.root()).unwrap();
        let _ = t.call(&["list"]).ok();
    });
    s.case("state roots do not see each other's containers", |t| {
        let c = t.bundle().sleeping().run_detached();
        let other = t.dir().join("other");
        std::fs::create_dir(&other).unwrap();
        let done = t.bare().arg("--root").arg(other).args(["state", &c.bundle.id]).done();
        assert!(!done.status.success(), "{done}");
    });
    s.case("command that succeeds says nothing", |t| {
        let c = t.bundle().sleeping().create();
        for command in ["start", "pause", "resume"] {
            let done = c.call(command, &[], &[]).ok();
            assert!(done.stdout.is_empty() && done.stderr.is_empty(), "{done}");
        }
    });
}

fn logs(s: &mut Section<'_>) {
    s.case("--log has the failure as JSON", |t| {
        let log = t.dir().join("log.json");
        let run = t.bare().arg("--log").arg(&log).args(["--log-format", "json", "--root"]);
        assert!(!run.arg(t.root()).args(["state", "nobody"]).done().status.success());
        let text = std::fs::read_to_string(log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["level"], "error");
        assert!(last["msg"].is_string() && last["time"].is_string(), "{last}");
    });
    s.case("--log has the failure as text", |t| {
        let log = t.dir().join("log");
        let run = t.bare().arg("--log").arg(&log).arg("--root").arg(t.root());
        assert!(!run.args(["state", "nobody"]).done().status.success());
        assert!(std::fs::read_to_string(log).unwrap().contains("does not exist"));
    });
    s.case("standard error has the failure, too", |t| {
        let log = t.dir().join("log");
        let run = t.bare().arg("--log").arg(&log).arg("--root").arg(t.root());
        let done = run.args(["state", "nobody"]).done();
        assert!(done.stderr.contains("does not exist"), "{done}");
    });
    s.case("log is appended to", |t| {
        let log = t.dir().join("log");
        std::fs::write(&log, "before\n").unwrap();
        let run = t.bare().arg("--log").arg(&log).arg("--root").arg(t.root());
        let _ = run.args(["state", "nobody"]).done();
        assert!(std::fs::read_to_string(log).unwrap().starts_with("before\n"));
    });
    s.case("unknown log format is refused", |t| {
        assert!(!t.bare().args(["--log-format", "xml", "state", "x"]).done().status.success());
    });
}
