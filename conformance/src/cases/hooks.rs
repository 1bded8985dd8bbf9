//! Hooks: config.md, and annotations, which they are told.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::section;
use crate::run::{lossy, wait_for};
use crate::suite::{Case, Section, payload};
use crate::{Bundle, Container, Test, proc};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Kinds that run where the runtime is, and those that run where the container is.
const OUTSIDE: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// The hook program: of the host, or of the container for startContainer.
fn program(t: &Test, kind: &str) -> PathBuf {
    if kind == "startContainer" {
        return PathBuf::from(payload::PATH);
    }
    let path = t.dir().join("hook");
    if !path.exists() {
        payload::install(&path);
    }
    path
}

/// Where a hook of this kind can write and the case can read: as the hook names it, and as the case does.
fn file(b: &Bundle<'_>, kind: &str, name: &str) -> (String, PathBuf) {
    if kind == "startContainer" {
        return (format!("/{name}"), b.rootfs().join(name));
    }
    let path = b.test.dir().join(name);
    (path.to_str().unwrap().to_owned(), path)
}

fn hooked<'t>(b: Bundle<'t>, kind: &str, actions: &[&str]) -> Bundle<'t> {
    let program = program(b.test, kind);
    b.hook(kind, &program, actions)
}

/// Creates, starts, ends and deletes.
fn whole_life(b: Bundle<'_>) {
    let c = b.create();
    let _ = c.start().ok();
    let _ = c.reap();
    let _ = c.delete().ok();
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "hooks", "config.md#posix-platform-hooks");
    for kind in KINDS {
        each(&mut s, kind);
    }
    failures(&mut s);
    order(&mut s);
    times(&mut s);
    annotations(list);
}

fn each(s: &mut Section<'_>, kind: &'static str) {
    s.case(format!("{kind} hook runs once"), move |t| {
        let b = t.bundle();
        let (inside, outside) = file(&b, kind, "ran");
        let b = hooked(b, kind, &[&format!("append {inside} x")]);
        whole_life(b);
        assert_eq!(lossy(&outside), "x");
    });
    s.case(format!("{kind} hook gets its own arguments and environment"), move |t| {
        let b = t.bundle();
        let (inside, outside) = file(&b, kind, "facts");
        let action = format!("save-facts {inside}");
        let hook =
            json!({"path": program(t, kind), "args": ["zeroth", action], "env": ["ONLY=this"]});
        whole_life(b.push(&format!("/hooks/{kind}"), hook));
        let facts: Value = serde_json::from_str(&lossy(&outside)).expect("facts");
        assert_eq!(facts["args"], json!(["zeroth", action]));
        let env = facts["env"].as_array().unwrap();
        assert!(env.contains(&json!("ONLY=this")), "{env:?}");
        assert!(env.len() <= 2, "others, too: {env:?}");
    });
    s.case(format!("{kind} hook reads the container's state"), move |t| {
        let b = t.bundle().set("/annotations", json!({"com.example.key": "value"}));
        let (inside, outside) = file(&b, kind, "state");
        let actions = [format!("copy-fd 0 {inside}")];
        let b = hooked(b, kind, &[&actions[0]]);
        let (id, dir) = (b.id.clone(), b.dir.clone());
        whole_life(b);
        let state: Value = serde_json::from_str(&lossy(&outside)).expect("a state");
        assert_eq!(state["id"], id.as_str());
        assert_eq!(state["bundle"], dir.to_str().unwrap());
        assert!(state["ociVersion"].is_string(), "{state}");
        assert_eq!(state["annotations"]["com.example.key"], "value");
        let want: &[&str] = match kind {
            // The environment is there (step 2), the operation is not over: both words fit.
            "prestart" | "createRuntime" | "createContainer" => &["creating", "created"],
            "startContainer" => &["created"],
            "poststart" => &["running", "stopped"],
            _ => &["stopped"],
        };
        assert!(want.contains(&state["status"].as_str().unwrap()), "{state}");
    })
    .at("runtime.md#state");
    if kind != "poststop" {
        s.case(format!("{kind} hook is told the process's id"), move |t| {
            let b = t.bundle().sleeping();
            let (inside, outside) = file(&b, kind, "state");
            let b = hooked(b, kind, &[&format!("copy-fd 0 {inside}")]);
            let c = b.create();
            let _ = c.start().ok();
            wait_for("the hook", || !lossy(&outside).is_empty());
            let state: Value = serde_json::from_str(&lossy(&outside)).expect("a state");
            // Where the container is, its own pid is 1.
            let pids = [json!(c.pid), json!(1)];
            assert!(pids.contains(&state["pid"]), "{state}");
        })
        .at("runtime.md#state");
    }
    s.case(
        format!(
            "{kind} hook runs in the {} namespaces",
            if OUTSIDE.contains(&kind) { "runtime's" } else { "container's" }
        ),
        move |t| {
            let b = t.bundle().sleeping();
            let (inside, outside) = file(&b, kind, "ns");
            let b = hooked(b, kind, &[&format!("save-ns {inside}")]);
            let c = b.create();
            let _ = c.start().ok();
            let own = i32::try_from(std::process::id()).unwrap();
            let (of_container, of_runtime) =
                (proc::namespace(c.pid, "uts").unwrap(), proc::namespace(own, "uts").unwrap());
            if kind == "poststop" {
                let _ = c.call("delete", &["--force"], &[]).ok();
            }
            wait_for("the hook", || !lossy(&outside).is_empty());
            let want = if OUTSIDE.contains(&kind) { of_runtime } else { of_container };
            assert_eq!(lossy(&outside), want);
        },
    );
}

fn failures(s: &mut Section<'_>) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        s.case(format!("create fails where a {kind} hook fails, and leaves nothing"), move |t| {
            let b = hooked(t.bundle(), kind, &["exit 3"]);
            let done = b.try_create();
            assert!(!done.status.success(), "{done}");
            b.assert_nothing_left();
        });
    }
    s.case("program does not run where a startContainer hook fails", |t| {
        let b = hooked(t.bundle().payload(&["create /started yes"]), "startContainer", &["exit 3"]);
        let c = b.create();
        let _ = c.start();
        c.wait_gone();
        assert!(!c.bundle.rootfs().join("started").exists(), "it ran");
    });
    s.case("container can be deleted though a poststop hook fails", |t| {
        let c = hooked(t.bundle(), "poststop", &["exit 3"]).create();
        let _ = c.start().ok();
        let _ = c.reap();
        let _ = c.delete();
        c.bundle.assert_nothing_left();
    });
    s.case("poststart hook that fails ends the container, and start says so", |t| {
        let c = hooked(t.bundle().sleeping(), "poststart", &["exit 3"]).create();
        let done = c.start();
        assert!(!done.status.success(), "{done}");
        c.wait_gone();
    })
    .at("runtime.md#lifecycle");
    for kind in ["createRuntime", "createContainer"] {
        s.case(
            format!("create fails where the program of a {kind} hook does not exist"),
            move |t| {
                let hook = json!({"path": "/no/such/hook"});
                let done = t.bundle().push(&format!("/hooks/{kind}"), hook).try_create();
                assert!(!done.status.success(), "{done}");
            },
        );
    }
    s.case("hook by a relative path is refused", |t| {
        let done = t.bundle().push("/hooks/createRuntime", json!({"path": "hook"})).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("message of a failed hook names its kind", |t| {
        let done = hooked(t.bundle(), "createRuntime", &["exit 3"]).try_create();
        assert!(done.stderr.contains("createRuntime"), "{done}");
    })
    .at("runc create");
    s.case("hook that takes longer than its timeout ends the create", |t| {
        let program = program(t, "createRuntime");
        let hook = json!({"path": program, "args": ["hook", "sleep 20000"], "timeout": 1});
        let start = std::time::Instant::now();
        let done = t.bundle().push("/hooks/createRuntime", hook).try_create();
        assert!(!done.status.success(), "{done}");
        assert!(start.elapsed().as_secs() < 10, "it waited {:?}", start.elapsed());
    });
}

fn order(s: &mut Section<'_>) {
    s.case("hooks of one kind run in the order of the list", |t| {
        let log = t.dir().join("log");
        let mut b = t.bundle();
        for word in ["one", "two", "three"] {
            b = hooked(b, "createRuntime", &[&format!("append {} {word} ", log.display())]);
        }
        whole_life(b);
        assert_eq!(lossy(&log), "one two three ");
    });
    s.case("kinds of hooks run in the order of the lifecycle", |t| {
        let b = t.bundle();
        // The log is seen from outside and inside: /log is bound into the container.
        let log = t.dir().join("log");
        std::fs::write(&log, "").unwrap();
        let mut b = b.mount("/log", "none", log.to_str().unwrap(), &["bind"]);
        for kind in KINDS {
            let path =
                if kind == "startContainer" { "/log".into() } else { log.display().to_string() };
            b = hooked(b, kind, &[&format!("append {path} {kind} ")]);
        }
        let c = b.sleeping().create();
        let _ = c.start().ok();
        wait_for("poststart", || lossy(&log).contains("poststart"));
        let _ = c.call("delete", &["--force"], &[]).ok();
        let want = "prestart createRuntime createContainer startContainer poststart poststop ";
        assert_eq!(lossy(&log), want);
    })
    .at("runtime.md#lifecycle");
    s.case("hooks after one that failed do not run", |t| {
        let log = t.dir().join("log");
        let b = hooked(t.bundle(), "createRuntime", &["exit 1"]);
        let b = hooked(b, "createRuntime", &[&format!("append {} x", log.display())]);
        assert!(!b.try_create().status.success());
        assert_eq!(lossy(&log), "");
    });
}

fn ran_before(t: &Test, kind: &str, when: impl Fn(&Container<'_>)) -> String {
    let b = t.bundle().sleeping();
    let (inside, outside) = file(&b, kind, "ran");
    let c = hooked(b, kind, &[&format!("append {inside} x")]).create();
    when(&c);
    lossy(&outside)
}

fn times(s: &mut Section<'_>) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        s.case(format!("{kind} hook has run when create returns"), move |t| {
            assert_eq!(ran_before(t, kind, |_| ()), "x");
        });
    }
    s.case("startContainer hook has not run before start", |t| {
        assert_eq!(ran_before(t, "startContainer", |_| ()), "");
    });
    s.case("poststart hook has run when start returns", |t| {
        assert_eq!(
            ran_before(t, "poststart", |c| {
                let _ = c.start().ok();
            }),
            "x"
        );
    });
    s.case("poststart hook has not run before start", |t| {
        assert_eq!(ran_before(t, "poststart", |_| ()), "");
    });
    s.case("poststop hook has not run before delete", |t| {
        let ran = ran_before(t, "poststop", |c| {
            let _ = c.start().ok();
            let _ = c.kill("KILL").ok();
            c.wait_gone();
        });
        assert_eq!(ran, "");
    });
    s.case("mounts of the container are there when createContainer hooks run", |t| {
        let b = t.bundle();
        let log = t.dir().join("log");
        let path = b.rootfs().join("dev/shm");
        let b = hooked(
            b,
            "createContainer",
            &[&format!("save-statfs {} {}", log.display(), path.display())],
        );
        whole_life(b);
        assert_eq!(lossy(&log), "0x1021994", "the type of /dev/shm is not tmpfs");
    });
}

fn annotations(list: &mut Vec<Case>) {
    let mut s = section(list, "annotations", "config.md#annotations");
    for (key, value) in [
        ("a", "b"),
        ("com.example.empty", ""),
        ("with space", "ä\n\"quoted\""),
        ("org.opencontainers.image.ref.name", "x"),
    ] {
        s.case(format!("annotation {key:?} with {value:?} is in the state as it is"), move |t| {
            let b = t.bundle().set("/annotations", json!({key: value})).sleeping();
            assert_eq!(b.create().state()["annotations"], json!({key: value}));
        });
    }
    s.case("annotation that nobody knows is no error", |t| {
        let _ = t.bundle().set("/annotations", json!({"x.y.z": "1"})).facts();
    });
    s.case("annotation whose value is no text is refused", |t| {
        let done = t.bundle().set("/annotations", json!({"x": 1})).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("unknown fields of the config are ignored", |t| {
        let b =
            t.bundle().set("/x-unknown", json!({"a": 1})).set("/linux/alsoUnknown", json!(true));
        let _ = b.facts();
    })
    .at("config.md#extensibility");
}
