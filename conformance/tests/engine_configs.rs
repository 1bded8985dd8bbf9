//! The configurations that real engines wrote, as they wrote them: Docker, Podman, containerd.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use orlop_conformance::{Bundle, Test, proc, run::wait_for};
use serde_json::{Value, json};

const DOCKER: &str = include_str!("../bundles/docker.json");
const PODMAN: &str = include_str!("../bundles/podman.json");
const CONTAINERD: &str = include_str!("../bundles/containerd.json");

/// What the payload tells about itself, one section a line of `==`.
const TELL: &str = r#"
tell() { echo "== $1"; shift; "$@" 2>&1; }
tell status cat /proc/self/status
tell mounts cat /proc/self/mountinfo
tell hostname hostname
tell pid echo $$
tell env env
tell cwd pwd
tell limits cat /proc/self/limits
tell umask umask
tell descriptors ls /proc/self/fd
tell dev ls /dev
tell null sh -c 'echo x >/dev/null && head -c 4 /dev/zero | wc -c'
tell cgroup cat /proc/self/cgroup
tell masked sh -c 'for path in MASKED; do if [ -d $path ]; then ls -A $path; elif [ -e $path ]; then cat $path; fi; done'
tell readonly sh -c 'echo 1 >/proc/sys/kernel/hostname || echo refused'
tell writable sh -c 'echo 1 >/written && echo written'
tell ping cat /proc/sys/net/ipv4/ping_group_range
tell ports cat /proc/sys/net/ipv4/ip_unprivileged_port_start
tell end
"#;

/// A bundle of an engine's config, changed only where it speaks of the engine's machine: its root filesystem, the
/// sources of its bind mounts, its cgroup, and limits of controllers that this machine lacks.
fn bundle<'t>(t: &'t Test, text: &str, script: &str) -> Bundle<'t> {
    let mut bundle = t.bundle();
    let cgroup = bundle.config["linux"]["cgroupsPath"].clone();
    bundle.config = serde_json::from_str(text).unwrap();
    bundle.config["root"]["path"] = json!(bundle.rootfs());
    bundle.config["linux"]["cgroupsPath"] = cgroup;
    let masked = paths(&bundle.config, "maskedPaths").join(" ");
    let script = script.replace("MASKED", &masked);
    bundle.config["process"]["args"] = json!(["sh", "-c", script]);
    let sources = bundle.dir.join("sources");
    std::fs::create_dir(&sources).unwrap();
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "bind" {
            mount["source"] = json!(source(&sources, mount["source"].as_str().unwrap()));
        }
    }
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let resources = bundle.config["linux"]["resources"].as_object_mut().unwrap();
    for field in ["memory", "cpu", "pids"] {
        if !controllers.split_whitespace().any(|controller| controller == field) {
            resources.remove(field);
        }
    }
    bundle
}

fn paths<'c>(config: &'c Value, field: &str) -> Vec<&'c str> {
    config["linux"][field].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// A local stand-in for what an engine mounts: a file that says its name, or a directory.
fn source(sources: &Path, original: &str) -> PathBuf {
    let name = Path::new(original).file_name().unwrap();
    let path = sources.join(name);
    if name == "shm" {
        std::fs::create_dir(&path).unwrap();
    } else {
        std::fs::write(&path, format!("the test's {}\n", name.to_string_lossy())).unwrap();
    }
    path
}

/// A section of what the payload tells.
fn section<'o>(output: &'o str, name: &str) -> &'o str {
    let (_, rest) = output.split_once(&format!("== {name}\n")).expect("the section");
    rest.split("== ").next().unwrap()
}

/// What is the same for all engines.
#[track_caller]
fn check_all(config: &Value, output: &str) {
    assert_eq!(section(output, "pid"), "1\n");
    assert_eq!(section(output, "cwd"), "/\n");
    let status = proc::status(section(output, "status"));
    let has_seccomp = config["linux"]["seccomp"].is_object();
    assert_eq!(status["Seccomp"], if has_seccomp { "2" } else { "0" });
    let no_new_privileges = config["process"]["noNewPrivileges"] == true;
    assert_eq!(status["NoNewPrivs"], if no_new_privileges { "1" } else { "0" });
    check_capabilities(config, &status);
    let hostname = section(output, "hostname").trim();
    if let Some(wanted) = config["hostname"].as_str() {
        assert_eq!(hostname, wanted);
    }
    let env: Vec<_> = section(output, "env").lines().collect();
    for variable in config["process"]["env"].as_array().unwrap() {
        assert!(env.contains(&variable.as_str().unwrap()), "{variable} is not in {env:?}");
    }
    check_mounts(config, &proc::mounts(section(output, "mounts")));
    // The fourth is that of ls itself.
    assert_eq!(section(output, "descriptors"), "0\n1\n2\n3\n");
    let dev = section(output, "dev");
    for name in [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ] {
        let wanted = !["console", "core"].contains(&name);
        assert!(!wanted || dev.lines().any(|line| line == name), "/dev/{name}: {dev}");
    }
    assert_eq!(section(output, "null"), "4\n");
    assert_eq!(section(output, "masked"), "", "masked paths are empty");
    assert!(section(output, "readonly").ends_with("refused\n"));
    assert_eq!(section(output, "writable"), "written\n");
}

#[track_caller]
fn check_capabilities(config: &Value, status: &std::collections::BTreeMap<String, String>) {
    // linux/capability.h
    const NUMBERS: [(&str, u32); 14] = [
        ("CAP_CHOWN", 0),
        ("CAP_DAC_OVERRIDE", 1),
        ("CAP_FOWNER", 3),
        ("CAP_FSETID", 4),
        ("CAP_KILL", 5),
        ("CAP_SETGID", 6),
        ("CAP_SETUID", 7),
        ("CAP_SETPCAP", 8),
        ("CAP_NET_BIND_SERVICE", 10),
        ("CAP_NET_RAW", 13),
        ("CAP_SYS_CHROOT", 18),
        ("CAP_MKNOD", 27),
        ("CAP_AUDIT_WRITE", 29),
        ("CAP_SETFCAP", 31),
    ];
    let sets = &config["process"]["capabilities"];
    for (field, name) in [
        ("CapBnd", "bounding"),
        ("CapEff", "effective"),
        ("CapPrm", "permitted"),
        ("CapInh", "inheritable"),
        ("CapAmb", "ambient"),
    ] {
        let names = sets[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let bits =
            names.iter().map(|name| NUMBERS.iter().find(|(known, _)| name == known).unwrap().1);
        let wanted = bits.fold(0_u64, |set, bit| set | 1 << bit);
        assert_eq!(status[field], format!("{wanted:016x}"), "{field}");
    }
}

#[track_caller]
fn check_mounts(config: &Value, mounts: &[proc::Mount]) {
    for wanted in config["mounts"].as_array().unwrap() {
        let target = wanted["destination"].as_str().unwrap();
        let mount = proc::mount_at(mounts, target);
        let options: Vec<_> =
            wanted["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let flags = ["nosuid", "noexec", "nodev", "ro", "relatime"];
        let flags: Vec<_> =
            options.iter().copied().filter(|option| flags.contains(option)).collect();
        assert!(mount.has(&flags), "{flags:?}: {mount:?}");
        let kind = match wanted["type"].as_str().unwrap() {
            "bind" => continue,
            "cgroup" => "cgroup2",
            kind => kind,
        };
        assert_eq!(mount.fstype, kind, "{mount:?}");
        for option in options.iter().filter(|option| option.starts_with("mode=") && kind == "tmpfs")
        {
            let mode = option.trim_start_matches("mode=").trim_start_matches('0');
            let shown = mount.super_options.iter().any(|have| {
                have.strip_prefix("mode=").is_some_and(|have| have.trim_start_matches('0') == mode)
            });
            assert!(shown || mode == "1777", "{option}: {mount:?}");
        }
    }
    assert!(
        mounts.iter().all(|mount| mount.propagation.iter().all(|kind| !kind.starts_with("shared")))
    );
    // Those of a kernel that has them; /sys shows the container's network namespace, and the rest is the same.
    let here = |path: &&str| Path::new(path).exists();
    for path in paths(config, "readonlyPaths").into_iter().filter(here) {
        assert!(proc::mount_at(mounts, path).has(&["ro"]), "{path}");
    }
    for path in paths(config, "maskedPaths").into_iter().filter(here) {
        let mount = proc::mount_at(mounts, path);
        let is_null = mount.root == "/null" || mount.root.ends_with("/dev/null");
        assert!(is_null || (mount.fstype == "tmpfs" && mount.has(&["ro"])), "{path}: {mount:?}");
    }
}

/// Runs it in one step, then in the steps that engines take; gives what the payload told each time.
#[track_caller]
fn run_both_ways(t: &Test, text: &str) {
    let attached = bundle(t, text, TELL);
    let done = attached.run().ok();
    assert_eq!(done.stderr, "");
    check_all(&attached.config, &done.stdout);
    check_engine(&attached.config, &done.stdout);
    attached.assert_nothing_left();

    let stepwise = bundle(t, text, &format!("{TELL}\nexec sleep 1000"));
    let config = stepwise.config.clone();
    let container = stepwise.create();
    assert_eq!(container.status(), "created");
    assert_eq!(container.state()["pid"], container.pid);
    if let Some(annotations) = config["annotations"].as_object() {
        assert_eq!(container.state()["annotations"].as_object(), Some(annotations));
    }
    let _ = container.start().ok();
    container.wait_for_output("== end");
    assert_eq!(container.status(), "running");
    check_all(&config, &container.written());
    check_engine(&config, &container.written());
    let _ = container.kill("KILL").ok();
    let _ = container.reap();
    wait_for("stopped", || container.status() == "stopped");
    let _ = container.delete().ok();
    container.bundle.assert_nothing_left();
}

/// What only one engine's config asks for.
#[track_caller]
fn check_engine(config: &Value, output: &str) {
    let sysctl = &config["linux"]["sysctl"];
    for (key, name) in
        [("net.ipv4.ping_group_range", "ping"), ("net.ipv4.ip_unprivileged_port_start", "ports")]
    {
        if let Some(value) = sysctl[key].as_str() {
            let words: Vec<_> = section(output, name).split_whitespace().collect();
            assert_eq!(words, value.split_whitespace().collect::<Vec<_>>(), "{key}");
        }
    }
    if let Some(umask) = config["process"]["user"]["umask"].as_u64() {
        assert_eq!(section(output, "umask"), format!("{umask:04o}\n"));
    }
    for limit in config["process"]["rlimits"].as_array().into_iter().flatten() {
        let (name, soft, hard) = (&limit["type"], &limit["soft"], &limit["hard"]);
        let line = match name.as_str().unwrap() {
            "RLIMIT_NOFILE" => "Max open files",
            "RLIMIT_NPROC" => "Max processes",
            other => panic!("{other}"),
        };
        let found =
            section(output, "limits").lines().find_map(|text| text.strip_prefix(line)).unwrap();
        let numbers: Vec<_> = found.split_whitespace().take(2).map(str::to_owned).collect();
        assert_eq!(numbers, [soft.to_string(), hard.to_string()], "{name}");
    }
    let own_cgroup =
        config["linux"]["namespaces"].as_array().unwrap().iter().any(|ns| ns["type"] == "cgroup");
    let cgroup =
        section(output, "cgroup").lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    if own_cgroup {
        assert_eq!(cgroup, "/");
    } else {
        assert_eq!(cgroup, config["linux"]["cgroupsPath"]);
    }
}

#[test]
fn docker_s() {
    let Some(t) = Test::begin() else { return };
    run_both_ways(&t, DOCKER);
    let done = bundle(&t, DOCKER, "cat /etc/resolv.conf /etc/hostname /etc/hosts").run().ok();
    assert_eq!(done.stdout, "the test's resolv.conf\nthe test's hostname\nthe test's hosts\n");
}

#[test]
fn podman_s() {
    let Some(t) = Test::begin() else { return };
    run_both_ways(&t, PODMAN);
    let script = "cat /etc/hosts /etc/hostname /run/.containerenv; echo x >/dev/shm/file";
    let bundle = bundle(&t, PODMAN, script);
    let done = bundle.run().ok();
    let text = "the test's hosts\nthe test's hostname\nthe test's .containerenv\n";
    assert_eq!(done.stdout, text);
    let shm = std::fs::read_to_string(bundle.dir.join("sources/shm/file")).unwrap();
    assert_eq!(shm, "x\n", "/dev/shm is the engine's");
}

#[test]
fn containerd_s() {
    let Some(t) = Test::begin() else { return };
    run_both_ways(&t, CONTAINERD);
    let done = bundle(&t, CONTAINERD, "echo x >/run/x; cat /run/x").run().ok();
    assert_eq!(done.stdout, "x\n");
}
