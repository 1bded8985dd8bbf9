//! The texts that engines match: each test is a row of what they look for.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::{Bundle, Container, Done, Peer, Test, tmp};
use serde_json::json;

/// A test of what crun words otherwise.
fn begin() -> Option<Test> {
    let t = Test::begin()?;
    (!t.differs(&[Peer::Crun], "has words of its own")).then_some(t)
}

fn is_runc(done: &Done) -> bool {
    done.command.split(' ').next().is_some_and(|program| program.ends_with("/runc"))
}

/// What a command said, without the log's quotes.
#[track_caller]
fn said(done: &Done, code: i32) -> String {
    // runc 1.1 has warnings before it, and 1 for a failed exec.
    let code = if is_runc(done) { done.code().max(1) } else { code };
    assert_eq!(done.code(), code, "{done}");
    let mut lines = done.stderr.lines().rev();
    let last = lines.next().unwrap_or_default();
    assert!(is_runc(done) || lines.next().is_none(), "one line, the decisive one: {done}");
    assert!(!last.contains("os error"), "Go's words, not Rust's: {done}");
    last.replace("\\\"", "\"")
}

#[track_caller]
fn says(done: &Done, code: i32, texts: &[&str]) {
    let said = said(done, code);
    let mut rest = said.as_str();
    for text in texts {
        let missing = if is_runc(done) { "error during container init: " } else { "" };
        let text = text.strip_suffix(missing).unwrap_or(text);
        let at = rest.find(text).unwrap_or_else(|| panic!("no {text:?} in what follows: {said}"));
        rest = &rest[at + text.len()..];
    }
}

/// What `create` and `run` say of a container that cannot be made.
#[track_caller]
fn fails_to_create(bundle: &Bundle<'_>, texts: &[&str]) {
    for command in ["create", "run"] {
        let done = bundle.command(command, &[]).done();
        let prefix = format!(" {command} failed: ");
        says(&done, 1, &[&[prefix.as_str()], texts].concat());
        bundle.assert_nothing_left();
    }
}

const INIT: &str = "unable to start container process: error during container init: ";

fn running(t: &Test) -> Container<'_> {
    t.bundle().args(&["/bin/sleep", "100"]).run_detached()
}

#[track_caller]
fn fails_to_exec(c: &Container<'_>, arguments: &[&str], texts: &[&str]) {
    let done = c.call("exec", &[], arguments);
    says(&done, 255, &[&["exec failed: unable to start container process: "], texts].concat());
    assert!(!done.stderr.contains("error during container init"), "{done}");
}

#[test]
fn program_that_is_not_on_the_path() {
    let Some(t) = begin() else { return };
    let text = "exec: \"x\": executable file not found in $PATH";
    fails_to_create(&t.bundle().args(&["x"]), &[INIT, text]);
    fails_to_exec(&running(&t), &["x"], &[text]);
    let bundle = t.bundle().set("/process/env", json!(["A=b"])).args(&["sh"]);
    fails_to_create(&bundle, &[INIT, "exec: \"sh\": executable file not found in $PATH"]);
}

#[test]
fn program_without_a_name() {
    let Some(t) = begin() else { return };
    let text = "exec: \"\": executable file not found in $PATH";
    fails_to_create(&t.bundle().args(&["", "x"]), &[INIT, text]);
    fails_to_exec(&running(&t), &["", "x"], &[text]);
}

#[test]
fn program_of_an_absolute_path_that_is_missing() {
    let Some(t) = begin() else { return };
    let text = "exec: \"/x\": stat /x: no such file or directory";
    fails_to_create(&t.bundle().args(&["/x"]), &[INIT, text]);
    fails_to_exec(&running(&t), &["/x"], &[text]);
    fails_to_create(&t.bundle().args(&["/etc/passwd/x"]), &[INIT, "not a directory"]);
}

#[test]
fn program_that_is_a_directory() {
    let Some(t) = begin() else { return };
    let text = "exec: \"/etc\": is a directory";
    fails_to_create(&t.bundle().args(&["/etc"]), &[INIT, text]);
    fails_to_exec(&running(&t), &["/etc"], &[text]);
}

#[test]
fn program_that_is_not_executable() {
    let Some(t) = begin() else { return };
    let text = "exec: \"/etc/passwd\": permission denied";
    fails_to_create(&t.bundle().args(&["/etc/passwd"]), &[INIT, text]);
    fails_to_exec(&running(&t), &["/etc/passwd"], &[text]);
}

#[test]
fn working_directory_that_cannot_be_entered() {
    let Some(t) = begin() else { return };
    let c = running(&t);
    let done = c.call("exec", &["--cwd", "/x"], &["true"]);
    let text = "chdir to cwd (\"/x\") set in config.json failed: no such file or directory";
    says(&done, 255, &["exec failed: unable to start container process: ", text]);
    let bundle = t.bundle().set("/process/cwd", json!("/etc/passwd"));
    fails_to_create(&bundle, &[INIT, "not a directory"]);
}

#[test]
fn mount_that_fails() {
    let Some(t) = begin() else { return };
    let source = t.dir().join("file");
    std::fs::write(&source, "").unwrap();
    let source = source.to_str().unwrap();
    let bundle = t.bundle().mount("/etc", "bind", source, &["rbind"]);
    let text = format!("error mounting \"{source}\" to rootfs at \"/etc\": ");
    fails_to_create(&bundle, &[INIT, &text, "not a directory"]);
    let bundle = t.bundle().mount("/mnt", "bind", "/no/such/source", &["rbind"]);
    fails_to_create(&bundle, &[INIT, "/no/such/source", "no such file or directory"]);
    let bundle = t.bundle().mount("/mnt", "nosuchfs", "x", &[]);
    fails_to_create(
        &bundle,
        &[INIT, "error mounting \"x\" to rootfs at \"/mnt\": ", "no such device"],
    );
}

#[test]
fn hook_that_fails() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not say which") {
        return;
    }
    let script = "echo to the output; echo to the errors >&2; exit 3";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    for name in ["prestart", "createRuntime", "createContainer"] {
        let first = json!({"path": "/bin/true"});
        let list = format!("/hooks/{name}");
        let bundle = t.bundle().push(&list, first).push(&list, hook.clone());
        let end = ": exit status 3, stdout: to the output, stderr: to the errors";
        let name = format!("error running {name} hook #1");
        fails_to_create(&bundle, &["unable to start container process: ", &name, end]);
    }
}

#[test]
fn hook_that_takes_too_long() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not say which") {
        return;
    }
    for name in ["prestart", "createRuntime", "createContainer"] {
        let hook = json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1});
        let bundle = t.bundle().push(&format!("/hooks/{name}"), hook);
        let done = bundle.try_create();
        says(&done, 1, &[" hook #0", ": hook ran past specified timeout of 1.0s"]);
    }
}

#[test]
fn environment_that_is_malformed() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not look at it") {
        return;
    }
    for (entry, text) in [
        ("A", "invalid environment variable: missing '='"),
        ("=b", "invalid environment variable: name cannot be empty"),
        ("A=b\0c", "invalid environment variable: \"A\" contains nul byte (\\x00)"),
    ] {
        let bundle = t.bundle().push("/process/env", json!(entry));
        let done = bundle.try_create();
        says(&done, 1, &[" create failed: ", text.replace('\\', "\\\\").as_str()]);
    }
}

#[test]
fn sysctl_of_the_host() {
    let Some(t) = begin() else { return };
    let bundle = t.bundle().set("/linux/sysctl", json!({"vm.swappiness": "1"}));
    fails_to_create(&bundle, &["sysctl \"vm.swappiness\" is not in a separate kernel namespace"]);
}

#[test]
fn capability_that_is_unknown_is_no_error() {
    let Some(t) = begin() else { return };
    let bundle = t.bundle().push("/process/capabilities/bounding", json!("CAP_NOSUCH"));
    let done = bundle.run().ok();
    assert!(t.peer() == Peer::Runc || done.stderr.is_empty(), "{done}");
}

#[test]
fn container_that_does_not_exist() {
    let Some(t) = begin() else { return };
    std::fs::create_dir(t.root()).unwrap();
    for arguments in [
        &["start", "nobody"][..],
        &["state", "nobody"],
        &["kill", "nobody", "9"],
        &["kill", "--all", "nobody", "9"],
        &["delete", "nobody"],
        &["pause", "nobody"],
        &["resume", "nobody"],
        &["ps", "--format", "json", "nobody"],
        &["ps", "nobody"],
        &["update", "--pids-limit", "5", "nobody"],
        &["events", "--stats", "nobody"],
    ] {
        says(&t.call(arguments), 1, &["container does not exist"]);
    }
    let done = t.call(&["exec", "nobody", "true"]);
    says(&done, 255, &["container does not exist"]);
    let _ = t.call(&["delete", "--force", "nobody"]).ok();
}

#[test]
fn container_that_is_not_running() {
    let Some(t) = begin() else { return };
    let c = t.bundle().run_detached();
    let _ = c.reap();
    let id = c.bundle.id.as_str();
    for (arguments, text) in [
        (&["kill", id, "9"][..], "container not running"),
        (&["kill", id, "TERM"], "container not running"),
        (&["kill", id, "0"], "container not running"),
        (&["pause", id], "container not running"),
        (&["resume", id], "container not paused"),
        (&["update", "--pids-limit", "5", id], "container not running"),
        (&["start", id], "cannot start a container that has stopped"),
        (&["events", "--stats", id], &format!("container with id {id} is not running")),
        (&["events", id], &format!("container with id {id} is not running")),
    ] {
        says(&t.call(arguments), 1, &[text]);
    }
    for arguments in
        [&["exec", id, "true"][..], &["exec", "-p", "/no/such/file", id], &["exec", id]]
    {
        says(&t.call(arguments), 255, &["cannot exec in a stopped container"]);
    }
    let _ = t.call(&["kill", "--all", id, "9"]).ok();
    let _ = t.call(&["ps", id]).ok();
}

#[test]
fn id_that_is_taken() {
    let Some(t) = begin() else { return };
    let c = running(&t);
    for command in ["create", "run"] {
        let done = c.bundle.command(command, &[]).done();
        says(&done, 1, &["container with given ID already exists"]);
    }
    assert_eq!(c.status(), "running");
    // An empty directory takes it as well.
    let id = tmp::unique("taken");
    std::fs::create_dir(t.root().join(&id)).unwrap();
    let done = t.command(["create", "--bundle"]).arg(&c.bundle.dir).arg(&id).done();
    says(&done, 1, &["container with given ID already exists"]);
}

#[test]
fn container_of_another_state_than_delete_start_and_exec_want() {
    let Some(t) = begin() else { return };
    let c = running(&t);
    let id = c.bundle.id.as_str();
    let text = format!("cannot delete container {id} that is not stopped: running");
    says(&c.delete(), 1, &[&text]);
    says(&c.start(), 1, &["cannot start an already running container"]);
    says(&c.call("resume", &[], &[]), 1, &["container not paused"]);
    let _ = c.call("pause", &[], &[]).ok();
    let text = format!("cannot delete container {id} that is not stopped: paused");
    says(&c.delete(), 1, &[&text]);
    says(&c.start(), 1, &["cannot start a container in the paused state"]);
    let done = c.call("exec", &[], &["true"]);
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    says(&done, 255, &[text]);
    says(&c.call("pause", &[], &[]), 1, &["container not running"]);
    let _ = c.call("resume", &[], &[]).ok();
}

#[test]
fn signal_that_does_not_exist() {
    let Some(t) = begin() else { return };
    let c = running(&t);
    says(&c.kill("FOO"), 1, &["unknown signal \"FOO\""]);
}

#[test]
fn bundle_without_config_json_or_root() {
    let Some(t) = begin() else { return };
    let bundle = t.bundle();
    let done = t.command(["create", "--bundle"]).arg(&bundle.dir).arg("x").done();
    says(&done, 1, &["JSON specification file config.json not found"]);
    let bundle = t.bundle().set("/root/path", json!("nothing"));
    let done = bundle.try_create();
    says(&done, 1, &["invalid rootfs: ", "no such file or directory"]);
}

#[test]
fn cgroup_that_is_in_use_or_frozen() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 tells the count otherwise") {
        return;
    }
    let c = running(&t);
    let bundle =
        t.bundle().set("/linux/cgroupsPath", c.bundle.config["linux"]["cgroupsPath"].clone());
    let done = bundle.try_create();
    says(&done, 1, &["container's cgroup is not empty: 1 process(es) found"]);
    let _ = t.call(&["delete", "--force", &bundle.id]).ok();
    let bundle = t.bundle();
    std::fs::create_dir_all(bundle.cgroup()).unwrap();
    std::fs::write(bundle.cgroup().join("cgroup.freeze"), "1").unwrap();
    let done = bundle.try_create();
    says(&done, 1, &["container's cgroup unexpectedly frozen"]);
    std::fs::remove_dir(bundle.cgroup()).unwrap();
}

#[test]
fn process_object_that_is_incomplete() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 words one of them otherwise") {
        return;
    }
    let c = running(&t);
    let file = t.dir().join("process.json");
    for (process, text) in [
        (json!({"user": {"uid": 0, "gid": 0}, "args": ["true"]}), "Cwd property must not be empty"),
        (
            json!({"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "x"}),
            "Cwd must be an absolute path",
        ),
        (json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"}), "args must not be empty"),
        (json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": []}), "args must not be empty"),
    ] {
        std::fs::write(&file, process.to_string()).unwrap();
        let done = c.call("exec", &["--process", file.to_str().unwrap()], &[]);
        says(&done, 255, &["exec failed: ", text]);
    }
    let done = t.call(&["exec", &c.bundle.id]);
    says(&done, 255, &["exec args cannot be empty"]);
    for (field, text) in [
        ("/process/cwd", "Cwd property must not be empty"),
        ("/process/args", "args must not be empty"),
        ("/process", "process property must not be empty"),
    ] {
        let done = t.bundle().remove(field).try_create();
        says(&done, 1, &[text]);
    }
}
