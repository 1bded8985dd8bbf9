//! The binary, as far as it goes without a container.
#![allow(clippy::unwrap_used, reason = "a failed test panics, in its helpers too")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("orlop-cli-test-{name}-{}", std::process::id()));
        let _: std::io::Result<()> = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _: std::io::Result<()> = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).env_clear();
    command
}

fn orlop(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = orlop(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    assert_eq!(stderr(&output), "", "{arguments:?}: nothing on stderr on success");
    stdout(&output).to_owned()
}

fn fails(arguments: &[&str], code: i32, text: &str) -> Output {
    let output = orlop(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    assert!(stderr(&output).contains(text), "{arguments:?}: {output:?}");
    output
}

#[test]
fn help_is_on_stdout_in_all_its_forms() {
    for arguments in [&[][..], &["-h"], &["--help"], &["help"], &["h"], &["-help"]] {
        let text = succeeds(arguments);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("NAME:"), "{arguments:?}");
        assert_eq!(lines.next(), Some("   orlop - Open Container Initiative runtime"));
        assert!(!text.contains("VERSION"));
    }
}

#[test]
fn each_command_has_help() {
    for name in [
        "create", "delete", "events", "explain", "features", "kill", "list", "pause", "ps",
        "resume", "run", "spec", "start", "state", "update",
    ] {
        for arguments in
            [&[name, "-h"][..], &[name, "--help"], &["help", name], &[name, "x", "--help"]]
        {
            if matches!(name, "kill" | "ps") && arguments.len() == 3 {
                continue;
            }
            let text = succeeds(arguments);
            let second = text.lines().nth(1).unwrap_or_default();
            assert!(second.starts_with(&format!("   orlop {name} - ")), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn the_version_names_the_program_once() {
    for flag in ["--version", "-v", "-version"] {
        let text = succeeds(&[flag]);
        assert!(text.starts_with("orlop version 0.1.0\n"), "{text}");
        assert!(text.lines().any(|line| line == "spec: 1.3.0"), "{text}");
        assert_eq!(text.matches("version").count(), 1, "{text}");
    }
}

#[test]
fn a_file_named_runc_answers_as_runc() {
    let output = command(&["--version"]).arg0("/usr/local/sbin/runc").output().unwrap();
    assert!(stdout(&output).starts_with("runc version "), "{output:?}");
    let output =
        command(&["create", "--bundle", "/nonexistent", "x"]).arg0("runc").output().unwrap();
    assert!(stderr(&output).contains("runc create failed: "), "{output:?}");
}

#[test]
fn an_unknown_flag_is_exit_1_with_usage_on_stdout() {
    for (arguments, flag) in [
        (&["--bogus"][..], "bogus"),
        (&["state", "-bogus", "x"], "bogus"),
        (&["run", "x", "-n"], "n"),
    ] {
        let output = fails(arguments, 1, &format!("flag provided but not defined: -{flag}"));
        assert!(stdout(&output).contains("Incorrect Usage: "), "{output:?}");
        assert!(stdout(&output).contains("\nUSAGE:\n"), "{output:?}");
    }
}

#[test]
fn a_missing_value_is_exit_1() {
    fails(&["--root"], 1, "flag needs an argument: --root");
    fails(&["create", "x", "--bundle"], 1, "flag needs an argument: --bundle");
}

#[test]
fn an_unknown_command_is_exit_3() {
    fails(&["frobnicate"], 3, "No help topic for 'frobnicate'");
    fails(&["frobnicate", "-h"], 3, "No help topic for 'frobnicate'");
    fails(&["help", "frobnicate"], 3, "No help topic for 'frobnicate'");
}

#[test]
fn checkpoint_help_fails_as_long_as_there_is_no_checkpoint() {
    let text = "is not supported by this version of orlop";
    for arguments in [
        &["checkpoint", "--help"][..],
        &["checkpoint", "-h"],
        &["help", "checkpoint"],
        &["restore", "--help"],
        &["checkpoint", "x"],
        &["restore", "x"],
    ] {
        let output = fails(arguments, 1, text);
        assert_eq!(stdout(&output), "");
    }
    assert!(!succeeds(&["--help"]).contains("checkpoint"));
    // Whether containers can be restored in pods, which is asked for after the other.
    let text = "flag needs an argument: --lsm-mount-context";
    fails(&["restore", "--lsm-mount-context"], 1, text);
    fails(&["checkpoint"], 1, "requires exactly 1 argument(s)");
}

#[test]
fn a_wrong_number_of_arguments_is_exit_1_with_usage() {
    for (arguments, text) in [
        (&["create"][..], "\"create\" requires exactly 1 argument(s)"),
        (&["run", "a", "b"], "\"run\" requires exactly 1 argument(s)"),
        (&["kill"], "\"kill\" requires a minimum of 1 argument(s)"),
        (&["kill", "a", "9", "b"], "\"kill\" requires a maximum of 2 argument(s)"),
        (&["list", "a"], "\"list\" requires exactly 0 argument(s)"),
    ] {
        let output = fails(arguments, 1, text.replace('"', "\\\"").as_str());
        assert!(stdout(&output).starts_with("Incorrect Usage.\n\nNAME:\n"), "{output:?}");
    }
}

#[test]
fn the_log_file_exists_even_after_success() {
    let scratch = Scratch::new("log-success");
    let log = scratch.path("log.json");
    succeeds(&["--log", &log, "--log-format", "json", "features"]);
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn a_failure_is_in_the_log_file_and_plainly_on_stderr() {
    let scratch = Scratch::new("log-failure");
    let log = scratch.path("log.json");
    fs::write(&log, "kept\n").unwrap();
    let output =
        fails(&["--log", &log, "--log-format=json", "spec", "--bundle", "/nonexistent"], 1, "");
    assert_eq!(stderr(&output), "chdir /nonexistent: no such file or directory\n");
    let text = fs::read_to_string(&log).unwrap();
    let (kept, line) = text.split_once('\n').unwrap();
    assert_eq!(kept, "kept");
    assert!(
        line.starts_with(
            "{\"level\":\"error\",\"msg\":\"chdir /nonexistent: no such file or directory\",\"time\":\"20"
        ),
        "{line}"
    );
    assert!(line.ends_with("Z\"}\n"), "{line}");
}

#[test]
fn usage_errors_of_a_command_are_in_the_log_file_too() {
    let scratch = Scratch::new("log-usage");
    let log = scratch.path("log");
    fails(&["--log", &log, "state", "--bogus"], 1, "flag provided but not defined: -bogus\n");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=error msg=\"flag provided but not defined: -bogus\"\n"), "{text}");
}

#[test]
fn without_a_log_file_a_failure_is_one_line_of_the_log_on_stderr() {
    let output = fails(&["spec", "--bundle", "/nonexistent"], 1, "");
    let text = stderr(&output);
    assert!(text.starts_with("time=\"20"), "{text}");
    assert!(text.ends_with("level=error msg=\"chdir /nonexistent: no such file or directory\"\n"));
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn an_invalid_log_format_is_refused() {
    fails(&["--log-format", "xml", "features"], 1, "invalid log-format: xml");
    succeeds(&["--log-format", "", "features"]);
}

#[test]
fn the_state_directory_is_never_the_root() {
    for root in ["/", "/.", "/x/.."] {
        fails(&["--root", root, "list"], 1, "Option --root argument should not be set to /");
    }
}

#[test]
fn rootless_takes_booleans_and_auto() {
    for value in ["auto", "true", "0", ""] {
        succeeds(&["--rootless", value, "features"]);
    }
    fails(&["--rootless=X", "features"], 1, "strconv.ParseBool: parsing \\\"X\\\": invalid syntax");
}

#[test]
fn a_criu_path_is_accepted_and_ignored() {
    succeeds(&["--criu", "/usr/sbin/criu", "--criu=x", "features"]);
}

#[test]
fn the_runtime_directory_becomes_the_root_of_all_but_root() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("xdg");
    let list = |uid: Option<u32>| {
        let mut list = command(&["features"]);
        list.env("XDG_RUNTIME_DIR", &scratch.0);
        if let Some(uid) = uid {
            list.uid(uid).gid(uid);
        }
        list.output().unwrap()
    };
    let mut user = None;
    if nix::unistd::geteuid().is_root() {
        assert_eq!(list(None).status.code(), Some(0));
        assert!(!scratch.0.join("orlop").exists(), "root keeps the default");
        std::os::unix::fs::chown(&scratch.0, Some(65534), Some(65534)).unwrap();
        user = Some(65534);
    }
    let output = list(user);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mode = fs::metadata(scratch.0.join("orlop")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1700);
}

#[test]
fn explain_shows_the_unit_that_systemd_would_make() {
    let scratch = Scratch::new("explain-systemd");
    let bundle = scratch.path("");
    succeeds(&["spec", "--bundle", &bundle]);
    let plan = succeeds(&["--systemd-cgroup", "explain", "--bundle", &bundle, "a+b"]);
    assert!(plan.contains("/system.slice/orlop-a\\\\x2bb.scope"), "{plan}");
    assert!(plan.contains("Delegate = true"), "{plan}");
    // A user's systemd is found by the environment, which is empty here.
    let by_user = ["--systemd-cgroup", "--rootless=true", "explain", "--bundle", &bundle];
    fails(&by_user, 1, "could not detect DBUS_SESSION_BUS_ADDRESS");
    succeeds(&["--systemd-cgroup", "features"]);
}

#[test]
fn create_and_run_say_so_when_they_fail() {
    let scratch = Scratch::new("no-config");
    let bundle = scratch.path("");
    for name in ["create", "run"] {
        let text = format!("orlop {name} failed: JSON specification file config.json not found");
        fails(&[name, "--bundle", &bundle, "x"], 1, &text);
    }
    fails(&["create", ""], 1, "orlop create failed: container id cannot be empty");
    fails(&["state", ""], 1, "container id cannot be empty");
}

#[test]
fn an_empty_default_root_is_an_empty_list_and_a_missing_given_one_an_error() {
    let scratch = Scratch::new("list");
    fails(&["--root", &scratch.path("missing"), "list"], 1, "no such file or directory");
}

fn spec(directory: &Path, rootless: bool) -> String {
    let directory = directory.to_str().unwrap();
    let mut arguments = vec!["spec", "--bundle", directory];
    arguments.extend(rootless.then_some("--rootless"));
    assert_eq!(succeeds(&arguments), "");
    fs::read_to_string(Path::new(directory).join("config.json")).unwrap()
}

#[test]
fn spec_writes_a_configuration_and_never_over_another() {
    let scratch = Scratch::new("spec");
    let text = spec(&scratch.0, false);
    assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n"), "{text}");
    fails(&["spec", "-b", &scratch.path("")], 1, "File config.json exists. Remove it first");
    assert_eq!(fs::read_to_string(scratch.path("config.json")).unwrap(), text);
}

#[test]
fn the_rootless_configuration_maps_the_caller() {
    let scratch = Scratch::new("spec-rootless");
    let text = spec(&scratch.0, true);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!(value["linux"]["uidMappings"][0]["hostID"], uid);
}

#[test]
fn features_is_a_document_with_both_versions_and_a_linux_section() {
    let text = succeeds(&["features"]);
    assert!(
        text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",")
    );
    assert!(text.ends_with("}\n"));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["linux"]["cgroup"]["v2"], true);
    assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
}

#[test]
fn explain_needs_no_console_socket_with_a_terminal_nor_without() {
    let scratch = Scratch::new("explain");
    let with = spec(&scratch.0, false);
    let plan = succeeds(&["explain", "-b", &scratch.path(""), "x"]);
    assert!(plan.contains("process.terminal"), "{plan}");
    let without = with.replace("\"terminal\": true", "\"terminal\": false");
    fs::write(scratch.path("config.json"), without).unwrap();
    let plan = succeeds(&["explain", "-b", &scratch.path(""), "x"]);
    assert!(!plan.contains("process.terminal"), "{plan}");
}

#[test]
fn a_container_that_is_not_there_does_not_exist() {
    let scratch = Scratch::new("missing");
    let root = scratch.path("root");
    for arguments in [&["state", "x"][..], &["kill", "x", "9"], &["start", "x"], &["delete", "x"]] {
        let arguments: Vec<&str> =
            ["--root", &root].into_iter().chain(arguments.iter().copied()).collect();
        fails(&arguments, 1, "container does not exist");
    }
    succeeds(&["--root", &root, "delete", "--force", "x"]);
    succeeds(&["--root", &root, "delete", "x", "-force"]);
}
