//! User namespaces: new ones with maps, joined ones, and further processes in them.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use orlop_conformance::agent::{Agent, Answer};
use orlop_conformance::console::{ConsoleSocket, read_until};
use orlop_conformance::run::Done;
use orlop_conformance::{Bundle, Container, Peer, Test, proc, rootfs, tmp};
use serde_json::{Value, json};

/// The ids on the host of the containers' root.
const UID: u32 = 100_000;
const GID: u32 = 300_000;

/// A range of ids.
fn range(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}

/// A bundle in a new user namespace with these maps; its root filesystem belongs to `owner`.
fn with_maps(t: &Test, users: Value, groups: Value, owner: (u32, u32)) -> Bundle<'_> {
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
    let bundle = bundle.set("/linux/uidMappings", users).set("/linux/gidMappings", groups);
    own(&bundle.rootfs(), owner);
    open(t, &bundle);
    bundle
}

/// Others than root may pass through.
fn open(t: &Test, bundle: &Bundle<'_>) {
    for dir in [t.dir(), &bundle.dir] {
        rootfs::mode(dir, 0o711);
    }
}

/// A bundle whose ids 0 to 65535 are others on the host.
fn mapped(t: &Test) -> Bundle<'_> {
    let (users, groups) = (json!([range(0, UID, 65536)]), json!([range(0, GID, 65536)]));
    with_maps(t, users, groups, (UID, GID))
}

fn own(path: &Path, (uid, gid): (u32, u32)) {
    lchown(path, Some(uid), Some(gid)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), (uid, gid));
        }
    }
}

/// With these capabilities.
fn capable<'t>(bundle: Bundle<'t>, names: &[&str]) -> Bundle<'t> {
    let sets = json!({"bounding": names, "effective": names, "permitted": names});
    bundle.set("/process/capabilities", sets)
}

/// A mount of the test's own on the host.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&at);
        assert!(mount.status().unwrap().success());
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _: std::io::Result<_> = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[track_caller]
fn exec(c: &Container<'_>, flags: &[&str], script: &str) -> Done {
    c.call("exec", flags, &["/bin/sh", "-c", script])
}

/// A container that stays, with its output in a file that only the test reads.
fn sleeper(bundle: Bundle<'_>) -> Container<'_> {
    bundle.args(&["/bin/sleep", "1000"]).run_detached()
}

#[test]
fn root_of_the_namespace_owns_what_is_made_for_it() {
    let Some(t) = Test::begin() else { return };
    let script = "stat -c '%u:%g %n' /dev /dev/pts/ptmx /dev/mqueue /dev/shm /sys/class/net/lo \
                  /proc/1 /proc/sys/net/ipv4/ip_forward /dev/fd";
    let done = mapped(&t).sh(script).run().ok();
    assert_eq!(done.lines().len(), 8, "{done}");
    for line in done.lines() {
        assert!(line.starts_with("0:0 "), "{done}");
    }
}

#[test]
fn new_namespaces_belong_to_the_user_namespace() {
    let Some(t) = Test::begin() else { return };
    let caps = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE", "CAP_IPC_OWNER"];
    let script = "hostname other && ifconfig lo down && mount -t tmpfs none /mnt && \
                  mount -t proc none /mnt && umount /mnt && echo 7 > /proc/sys/fs/mqueue/msg_max && \
                  cat /proc/sys/fs/mqueue/msg_max; hostname";
    let bundle = capable(mapped(&t), &caps).set("/linux/readonlyPaths", json!([]));
    let done = bundle.set("/linux/maskedPaths", json!([])).sh(script).run().ok();
    assert_eq!(done.lines(), ["7", "other"], "{done}");
}

#[test]
fn capabilities_are_those_of_the_configuration_and_none_is_ambient() {
    let Some(t) = Test::begin() else { return };
    let script = "grep -E '^(Cap|Uid|Gid)' /proc/self/status";
    let root = proc::status(&mapped(&t).sh(script).run().ok().stdout);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(root[set], "0000000020000420", "{set}");
    }
    let user = mapped(&t).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let user = proc::status(&user.sh(script).run().ok().stdout);
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(user[set], "0000000000000000", "{set}");
    }
    assert_eq!(root["CapInh"], "0000000000000000");
    assert_eq!(root["CapAmb"], "0000000000000000");
    assert_eq!(user["Uid"], "1000\t1000\t1000\t1000");
}

#[test]
fn hooks_in_the_container_start_without_ambient_capabilities() {
    let Some(t) = Test::begin() else { return };
    let bundle = mapped(&t);
    let out = bundle.dir.join("hook");
    std::fs::write(&out, "").unwrap();
    std::fs::set_permissions(&out, Permissions::from_mode(0o666)).unwrap();
    let script = format!("grep -E '^(CapAmb|CapEff|Uid)' /proc/self/status > {}", out.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let _ = bundle.set("/hooks/createContainer", hook).run().ok();
    let status = proc::status(&std::fs::read_to_string(&out).unwrap());
    assert_eq!(status["CapAmb"], "0000000000000000");
    assert_eq!(status["Uid"], "0\t0\t0\t0");
}

#[test]
fn devices_are_the_hosts_nodes() {
    let Some(t) = Test::begin() else { return };
    let script = "stat -c '%t:%T %F %n' /dev/null /dev/zero /dev/urandom; echo x > /dev/null && \
                  head -c 3 /dev/zero | wc -c";
    let done = mapped(&t).sh(script).run().ok();
    let special = "character special file";
    let null = format!("1:3 {special} /dev/null");
    let zero = format!("1:5 {special} /dev/zero");
    assert_eq!(done.lines(), [null, zero, format!("1:9 {special} /dev/urandom"), "3".into()]);
    let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229});
    if Path::new("/dev/fuse").exists() {
        let bundle = mapped(&t).push("/linux/devices", fuse);
        assert_eq!(bundle.sh("stat -c %t:%T /dev/fuse").run().ok().stdout, "a:e5\n");
    }
    let fifo = json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 7, "gid": 8});
    let done = mapped(&t).push("/linux/devices", fifo).sh("stat -c '%F %u %g' /dev/pipe").run();
    assert_eq!(done.ok().stdout, "fifo 7 8\n");
}

#[test]
fn device_that_the_host_has_under_another_number_is_refused() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "bind what has the name") {
        return;
    }
    let device = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 5});
    let done = mapped(&t).push("/linux/devices", device).run().exits(1);
    assert!(done.stderr.contains("linux.devices[0]"), "{done}");
}

#[test]
fn supplementary_groups_are_exactly_those_of_the_configuration() {
    let Some(t) = Test::begin() else { return };
    let groups = json!({"uid": 0, "gid": 0, "additionalGids": [5, 1000]});
    let script = "grep Groups /proc/self/status; cat /proc/self/setgroups";
    let done = mapped(&t).set("/process/user", groups).sh(script).run().ok();
    assert_eq!(
        done.stdout.split_whitespace().collect::<Vec<_>>(),
        ["Groups:", "5", "1000", "allow"]
    );
    let done = mapped(&t).sh(script).run().ok();
    assert_eq!(done.stdout.split_whitespace().collect::<Vec<_>>(), ["Groups:", "allow"]);
}

#[test]
fn maps_may_lack_root() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "becomes root first") {
        return;
    }
    let (users, groups) = (json!([range(1000, UID, 10)]), json!([range(1000, GID, 10)]));
    let bundle = with_maps(&t, users, groups, (UID, GID));
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().unwrap().clone();
    // The group of a devpts, 5, is not mapped.
    let mounts: Vec<Value> = mounts.into_iter().filter(|m| m["type"] != "devpts").collect();
    let bundle = bundle.set("/mounts", json!(mounts));
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let script =
        "id -u; id -g; stat -c %u:%g /dev /; grep CapEff /proc/self/status; cat /proc/self/uid_map";
    let done = bundle.sh(script).run().ok();
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let wanted = ["1000", "1001", "1000:1001", "1000:1000", "CapEff:", "0000000000000000"];
    assert_eq!(words, [&wanted[..], &["1000", "100000", "10"]].concat(), "{done}");
}

#[test]
fn maps_have_up_to_340_ranges() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 cuts them off") {
        return;
    }
    // Every second id, in an order that the kernel has to sort. (The whole has to fit in a page.)
    let list = |first: u32, count: u32| -> Value {
        (0..count).rev().map(|i| range(i, first + 2 * i, 1)).collect()
    };
    let bundle = with_maps(&t, list(2000, 340), list(3000, 340), (2000, 3000));
    let user = json!({"uid": 339, "gid": 338});
    let script = "wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map; id -u; id -g";
    let done = bundle.set("/process/user", user).sh(script).run().ok();
    assert_eq!(done.lines(), ["340", "340", "339", "338"]);
    for (users, groups, field) in [
        (list(2000, 341), list(3000, 340), "linux.uidMappings: "),
        (list(2000, 1), list(1_000_000_000, 340), "linux.gidMappings: "),
    ] {
        let done = with_maps(&t, users, groups, (2000, 3000)).run().exits(1);
        assert!(done.stderr.contains(field), "{done}");
    }
}

#[test]
fn ids_outside_of_the_maps_are_refused_by_name() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "fail without a name") {
        return;
    }
    for (user, field) in [
        (json!({"uid": 65536, "gid": 0}), "process.user.uid"),
        (json!({"uid": 0, "gid": 70000}), "process.user.gid"),
        (
            json!({"uid": 0, "gid": 0, "additionalGids": [1, 65536]}),
            "process.user.additionalGids[1]",
        ),
    ] {
        let done = mapped(&t).set("/process/user", user).run().exits(1);
        assert!(done.stderr.contains(&format!("{field}: ")), "{field}: {done}");
    }
    for option in ["uid=65536", "gid=65536"] {
        let bundle = mapped(&t).mount("/mnt", "tmpfs", "tmpfs", &[option]);
        let done = bundle.run().exits(1);
        assert!(done.stderr.contains("mounts[7].options: "), "{done}");
    }
}

#[test]
fn sources_that_only_the_creator_may_see_are_mounted() {
    let Some(t) = Test::begin() else { return };
    let secret = t.dir().join("secret");
    std::fs::create_dir_all(secret.join("a/b")).unwrap();
    std::fs::write(secret.join("a/b/file"), "content").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o700)).unwrap();
    // An absolute link on the way stays in the container's mount namespace.
    std::os::unix::fs::symlink(secret.join("a"), secret.join("link")).unwrap();
    let bundle = mapped(&t);
    rootfs::mode(&bundle.dir, 0o700);
    let directory = secret.join("link/b");
    let file = secret.join("a/b/file");
    let bundle = bundle.mount("/mnt", "bind", directory.to_str().unwrap(), &["rbind", "ro"]);
    let bundle = bundle.mount("/etc/file", "bind", file.to_str().unwrap(), &["bind"]);
    let script = "cat /mnt/file /etc/file; touch /mnt/x 2>&1; stat -c %u /mnt";
    let done = bundle.sh(script).run().ok();
    assert!(done.stdout.starts_with("contentcontent"), "{done}");
    assert!(done.stdout.contains("Read-only file system"), "{done}");
    assert!(done.stdout.ends_with("65534\n"), "{done}");
}

#[test]
fn source_that_is_not_there_is_named() {
    let Some(t) = Test::begin() else { return };
    let secret = t.dir().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o700)).unwrap();
    let source = secret.join("nothing");
    let done = mapped(&t).mount("/mnt", "bind", source.to_str().unwrap(), &["bind"]).run();
    let done = done.exits(1);
    assert!(done.stderr.contains("no such file or directory"), "{done}");
    assert!(t.peer() != Peer::Orlop || done.stderr.contains("mounts[7].source"), "{done}");
}

#[test]
fn locked_flags_of_the_hosts_mounts_stay() {
    let Some(t) = Test::begin() else { return };
    let source = Mounted::tmpfs(t.dir().join("source"), "ro,nosuid,nodev,noexec,mode=755");
    let path = source.0.to_str().unwrap();
    let script = "grep ' /mnt ' /proc/self/mountinfo";
    let bundle = mapped(&t).mount("/mnt", "bind", path, &["rbind", "nosuid"]);
    let done = bundle.sh(script).run().ok();
    let mount = proc::mount_at(&proc::mounts(&done.stdout), "/mnt");
    assert!(mount.has(&["ro", "nosuid", "nodev", "noexec"]), "{done}");
    for option in ["rw", "dev", "exec", "suid"] {
        let done = mapped(&t).mount("/mnt", "bind", path, &["rbind", option]).run();
        if t.differs(&[Peer::Crun], "keeps what is locked") {
            continue;
        }
        let done = done.exits(1);
        assert!(done.stderr.contains("operation not permitted"), "{option}: {done}");
    }
}

#[test]
fn root_of_the_container_cannot_write_where_the_host_forbids_it() {
    let Some(t) = Test::begin() else { return };
    let source = Mounted::tmpfs(t.dir().join("source"), "mode=777");
    std::fs::write(source.0.join("file"), "host").unwrap();
    std::fs::set_permissions(source.0.join("file"), Permissions::from_mode(0o666)).unwrap();
    let remount = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&source.0).status();
    assert!(remount.unwrap().success());
    let script = "mount -o remount,bind,rw /mnt; echo bad > /mnt/file; umount -l /mnt/.; true";
    for mode in [0o711, 0o700] {
        let bundle = capable(mapped(&t), &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        // Opened by the container's root, or by the creator.
        rootfs::mode(t.dir(), mode);
        let path = source.0.to_str().unwrap();
        let done = bundle.mount("/mnt", "bind", path, &["bind"]).sh(script).run();
        assert!(done.stderr.contains("denied"), "{done}");
        assert_eq!(std::fs::read_to_string(source.0.join("file")).unwrap(), "host");
    }
}

#[test]
fn masks_and_read_only_paths_hold_against_the_namespaces_root() {
    let Some(t) = Test::begin() else { return };
    let script = "wc -c < /proc/timer_list; ls /proc/acpi | wc -l; umount /proc/timer_list; \
                  umount /proc/acpi; mount -o remount,bind,rw /proc/sys; \
                  echo 1 > /proc/sys/kernel/shm_rmid_forced; wc -c < /proc/timer_list";
    let done = capable(mapped(&t), &["CAP_NET_ADMIN"]).sh(script).run();
    assert!(done.stdout.starts_with("0\n"), "{done}");
    assert!(done.stdout.ends_with("\n0\n"), "{done}");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn sysctls_of_the_containers_own_namespaces_are_set() {
    let Some(t) = Test::begin() else { return };
    let sysctl = json!({"net.ipv4.ip_forward": "1", "user.max_net_namespaces": "3"});
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/user/max_net_namespaces";
    let host = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").unwrap();
    let done = mapped(&t).set("/linux/sysctl", sysctl).sh(script).run().ok();
    assert_eq!(done.stdout, "1\n3\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/user/max_net_namespaces").unwrap(), host);
    let sysctl = json!({"user.max_net_namespaces": "3"});
    let done = t.bundle().set("/linux/sysctl", sysctl).run().exits(1);
    let text = "is not in a separate kernel namespace";
    assert!(t.peer() == Peer::Crun || done.stderr.contains(text), "{done}");
}

#[test]
fn terminal_belongs_to_the_user_of_the_process() {
    let Some(t) = Test::begin() else { return };
    for uid in [0, 1000] {
        let user = json!({"uid": uid, "gid": 1000});
        let bundle = mapped(&t).set("/process/terminal", json!(true)).set("/process/user", user);
        let script =
            "tty; stat -c 'is %u' /dev/console $(tty); echo ready; read line; echo got $line";
        let bundle = bundle.sh(script);
        let socket = ConsoleSocket::listen(&t);
        let path = socket.path.to_str().unwrap().to_owned();
        let done = bundle.command("run", &["-d", "--console-socket", &path]).done().ok();
        assert!(done.stderr.is_empty(), "{done}");
        let mut console = socket.accept();
        let text = read_until(&mut console.master, "ready");
        assert_eq!(text.matches(&format!("is {uid}\r")).count(), 2, "{text}");
        console.master.write_all(b"hello\n").unwrap();
        let _ = read_until(&mut console.master, "got hello");
        std::fs::remove_file(&socket.path).unwrap();
    }
}

#[test]
fn streams_are_given_to_the_user_of_the_process() {
    let Some(t) = Test::begin() else { return };
    let script = "echo one > /dev/stdout; echo two > /dev/stderr; stat -Lc %u /proc/self/fd/1";
    let user = json!({"uid": 1000, "gid": 1000});
    let done = mapped(&t).set("/process/user", user).sh(script).run().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("one\n1000\n", "two\n"), "{done}");
    let user = json!({"uid": 1000, "gid": 1000});
    let script = "stat -Lc %u /proc/self/fd/1";
    let c = mapped(&t).set("/process/user", user).sh(script).run_detached();
    c.wait_for_output("1000");
    assert_eq!(std::fs::metadata(&c.output).unwrap().uid(), UID + 1000);
}

#[test]
fn hooks_of_the_runtime_run_outside() {
    let Some(t) = Test::begin() else { return };
    let bundle = mapped(&t);
    let out = bundle.dir.join("hook");
    let script = format!("cat > {0}.state; cat /proc/self/uid_map > {0}", out.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let bundle = bundle.set("/hooks/prestart", hook);
    let c = sleeper(bundle);
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), own);
    let state = std::fs::read(out.with_extension("state")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["pid"], c.pid);
}

#[test]
fn oom_score_and_limits_are_set_from_outside() {
    let Some(t) = Test::begin() else { return };
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 100},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    ]);
    let bundle = mapped(&t).set("/process/rlimits", limits).set("/process/oomScoreAdj", json!(-5));
    let script = "cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; ulimit -Hu; ulimit -Hc";
    let done = bundle.sh(script).run();
    // Below zero takes CAP_SYS_RESOURCE.
    let done = if done.stderr.contains("oomScoreAdj") || done.stderr.contains("oom_score_adj") {
        mapped(&t)
            .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]))
            .set("/process/oomScoreAdj", json!(5))
            .sh("cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn")
            .run()
            .ok()
    } else {
        let done = done.ok();
        assert_eq!(done.lines(), ["-5", "64", "128", "100", "0"]);
        return;
    };
    assert_eq!(done.lines(), ["5", "64", "128"]);
}

#[test]
fn filters_are_loaded_with_and_without_new_privileges() {
    let Some(t) = Test::begin() else { return };
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 25}]
    });
    for nnp in [true, false] {
        let bundle = capable(mapped(&t), &["CAP_SYS_ADMIN"]).set("/linux/seccomp", filter.clone());
        let bundle = bundle.set("/process/noNewPrivileges", json!(nnp));
        let done = bundle.sh("hostname x; grep -E '^Seccomp:' /proc/self/status").run();
        assert!(done.stderr.contains("Inappropriate ioctl"), "{done}");
        assert!(done.stdout.contains('2'), "{done}");
    }
}

#[test]
fn root_filesystem_is_read_only_and_moved_as_asked() {
    let Some(t) = Test::begin() else { return };
    let bundle = mapped(&t).set("/root/readonly", json!(true));
    let done = bundle.sh("touch /x").run().exits(1);
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    let bundle = mapped(&t).sh("ls /bin/busybox");
    assert_eq!(bundle.command("run", &["--no-pivot"]).done().ok().stdout, "/bin/busybox\n");
}

#[test]
fn without_a_network_namespace_sys_is_bound() {
    let Some(t) = Test::begin() else { return };
    let bundle = mapped(&t).without_namespace("network").remove("/linux/maskedPaths");
    let done = bundle.run().exits(1);
    assert!(done.stderr.contains("operation not permitted"), "{done}");
    let bundle = mapped(&t).without_namespace("network").remove("/linux/maskedPaths");
    let sys = json!({"destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]});
    let mut mounts: Vec<Value> = bundle.config["mounts"].as_array().unwrap().clone();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    for mount in &mut mounts {
        if mount["destination"] == "/sys" {
            *mount = sys.clone();
        }
    }
    let script = "ls /sys/class/net; cat /proc/self/mountinfo";
    let done = bundle.set("/mounts", json!(mounts)).sh(script).run().ok();
    assert!(done.stdout.contains("lo"), "{done}");
    let text = done.stdout.lines().filter(|line| line.contains(" - "));
    let all = proc::mounts(&text.collect::<Vec<_>>().join("\n"));
    for mount in all.iter().filter(|mount| mount.target.starts_with("/sys")) {
        assert!(mount.has(&["ro"]), "{mount:?}");
    }
}

#[test]
fn without_a_cgroup_namespace_the_hosts_cgroups_are_shown_and_locked() {
    let Some(t) = Test::begin() else { return };
    let bundle = mapped(&t).without_namespace("cgroup");
    let script = "ls /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/orlop-no; \
                  grep ' /sys/fs/cgroup' /proc/self/mountinfo; cat /proc/self/cgroup";
    let id = bundle.id.clone();
    let done = bundle.sh(script).run().ok();
    assert!(done.stdout.contains("/sys/fs/cgroup/cgroup.procs"), "{done}");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    assert!(done.stdout.contains(&format!("/{id}\n")), "the whole path: {done}");
    let mut text = done.stdout.lines().filter(|line| line.contains(" - "));
    let mount = proc::mount_at(&proc::mounts(text.next_back().unwrap()), "/sys/fs/cgroup");
    assert!(mount.has(&["ro", "nosuid", "nodev", "noexec"]), "{mount:?}");
}

#[test]
fn maps_and_namespace_must_go_together() {
    let Some(t) = Test::begin() else { return };
    let namespace = json!({"type": "user"});
    let maps = json!([range(0, UID, 10)]);
    let none = t.bundle().push("/linux/namespaces", namespace.clone());
    let _ = none.run().fails("no namespace path or mappings specified");
    let _ = t.bundle().set("/linux/uidMappings", maps.clone()).run().fails("isn't enabled");
    if t.differs(&[Peer::Runc, Peer::Crun], "accept one map") {
        return;
    }
    let one = t.bundle().push("/linux/namespaces", namespace).set("/linux/gidMappings", maps);
    let _ = one.run().fails("linux.uidMappings");
}

#[test]
fn further_processes_are_in_the_user_namespace() {
    let Some(t) = Test::begin() else { return };
    let c = sleeper(mapped(&t));
    let script = "id -u; id -g; grep -E '^(CapEff|CapInh|CapAmb|Groups)' /proc/self/status; \
                  readlink /proc/self/ns/user; cat /proc/self/uid_map";
    let done = exec(&c, &[], script).ok();
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let user = proc::namespace(c.pid, "user").unwrap();
    let wanted = [
        "0",
        "0",
        "CapInh:",
        "0000000000000000",
        "CapEff:",
        "0000000020000420",
        "CapAmb:",
        "0000000000000000",
        "Groups:",
        &user,
        "0",
        "100000",
        "65536",
    ];
    let mut sorted = (words.clone(), wanted.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{done}");
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let script = format!("readlink /proc/self/ns/{kind}");
        let theirs = exec(&c, &[], &script).ok().stdout;
        assert_eq!(theirs.trim_end(), proc::namespace(c.pid, kind).unwrap());
    }
}

#[test]
fn further_processes_have_users_of_the_maps() {
    let Some(t) = Test::begin() else { return };
    let c = sleeper(mapped(&t));
    let done =
        exec(&c, &["-u", "1000:1001", "-g", "7"], "id -u; id -g; id -G; cat /dev/stdin </dev/null");
    assert_eq!(done.ok().lines(), ["1000", "1001", "1001 7"]);
    if t.differs(&[Peer::Runc, Peer::Crun], "fail without a name") {
        return;
    }
    for (user, field) in [("65536", "process.user.uid"), ("0:65536", "process.user.gid")] {
        let done = exec(&c, &["-u", user], "true").exits(255);
        assert!(done.stderr.contains(field), "{done}");
    }
}

#[test]
fn further_processes_take_a_process_file_a_terminal_and_detaching() {
    let Some(t) = Test::begin() else { return };
    let c = sleeper(mapped(&t));
    let process = json!({
        "user": {"uid": 5, "gid": 6}, "cwd": "/", "args": ["/bin/sh", "-c", "id -u; id -g"],
        "env": ["PATH=/bin"], "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 32, "hard": 64}]
    });
    let file = t.dir().join(tmp::unique("process"));
    std::fs::write(&file, process.to_string()).unwrap();
    let done = c.call("exec", &["--process", file.to_str().unwrap()], &[]).ok();
    assert_eq!(done.lines(), ["5", "6"]);
    let socket = ConsoleSocket::listen(&t);
    let path = socket.path.to_str().unwrap();
    let pid_file = t.dir().join("exec.pid");
    let pid_path = pid_file.to_str().unwrap();
    let flags = ["-d", "-t", "-u", "1000", "--pid-file", pid_path, "--console-socket", path];
    let script = "stat -c 'is %u' $(tty); echo ready; read line; echo got $line";
    let _ = exec(&c, &flags, script).ok();
    let mut console = socket.accept();
    let text = read_until(&mut console.master, "ready");
    assert!(text.contains("is 1000"), "{text}");
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(proc::namespace(pid, "user"), proc::namespace(c.pid, "user"));
    console.master.write_all(b"hello\n").unwrap();
    let _ = read_until(&mut console.master, "got hello");
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
}

/// A bundle that joins namespaces of a container by path.
fn joining<'t>(t: &'t Test, c: &Container<'_>, kinds: &[(&str, &str)]) -> Bundle<'t> {
    let mut bundle = t.bundle();
    own(&bundle.rootfs(), (UID, GID));
    open(t, &bundle);
    for (kind, file) in kinds {
        let path = format!("/proc/{}/ns/{file}", c.pid);
        bundle = bundle.without_namespace(kind);
        bundle = bundle.push("/linux/namespaces", json!({"type": kind, "path": path}));
    }
    bundle
}

#[test]
fn user_namespace_with_a_path_is_joined() {
    let Some(t) = Test::begin() else { return };
    let first = sleeper(mapped(&t));
    let second = sleeper(joining(&t, &first, &[("user", "user")]));
    assert_eq!(proc::namespace(second.pid, "user"), proc::namespace(first.pid, "user"));
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(proc::namespace(second.pid, kind), proc::namespace(first.pid, kind), "{kind}");
    }
    let script = "echo $$; stat -c '%u %n' /dev /dev/mqueue /sys/class/net/lo /proc/1";
    let done = joining(&t, &first, &[("user", "user")]).sh(script).run().ok();
    let wanted = ["1", "0 /dev", "0 /dev/mqueue", "0 /sys/class/net/lo", "0 /proc/1"];
    assert_eq!(done.lines(), wanted);
    let done = exec(&second, &[], "id -u; cat /proc/self/uid_map").ok();
    assert_eq!(done.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "100000", "65536"]);
}

#[test]
fn joined_namespaces_of_a_pod_are_owned_by_its_user_namespace() {
    let Some(t) = Test::begin() else { return };
    let first = sleeper(mapped(&t));
    let kinds = [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let mut bundle = joining(&t, &first, &kinds).remove("/hostname");
    // As containerd and CRI-O send it: the maps too.
    bundle = bundle.set("/linux/uidMappings", json!([range(0, UID, 65536)]));
    bundle = bundle.set("/linux/gidMappings", json!([range(0, GID, 65536)]));
    let second = sleeper(bundle);
    for (_, file) in kinds {
        assert_eq!(proc::namespace(second.pid, file), proc::namespace(first.pid, file), "{file}");
    }
    assert_ne!(proc::namespace(second.pid, "pid"), proc::namespace(first.pid, "pid"));
    let _ = second.kill("KILL").ok();
    let _ = second.reap();
    let _ = second.delete().ok();
}

#[test]
fn maps_of_a_joined_namespace_must_be_its_own() {
    let Some(t) = Test::begin() else { return };
    let first = sleeper(mapped(&t));
    if t.differs(&[Peer::Runc, Peer::Crun], "1.1 and crun do not compare") {
        return;
    }
    for (users, groups) in [
        (json!([range(0, UID, 65535)]), json!([range(0, GID, 65536)])),
        (json!([range(0, UID, 65536)]), json!([range(0, GID, 65536), range(65536, 7, 1)])),
        (json!([range(0, UID, 65536)]), json!([range(1, GID, 65536)])),
    ] {
        let bundle = joining(&t, &first, &[("user", "user")]);
        let bundle = bundle.set("/linux/uidMappings", users).set("/linux/gidMappings", groups);
        let done = bundle.set("/process/user", json!({"uid": 1, "gid": 1})).run().exits(1);
        assert!(done.stderr.contains("linux.uidMappings: "), "{done}");
        assert!(done.stderr.contains("other id maps"), "{done}");
    }
}

#[test]
fn joined_pid_namespace_is_entered_in_the_user_namespace_too() {
    let Some(t) = Test::begin() else { return };
    let first = sleeper(mapped(&t));
    let bundle = joining(&t, &first, &[("user", "user"), ("pid", "pid")]);
    let script = "tr '\\0' ' ' < /proc/1/cmdline; echo; id -u; echo $$";
    let done = bundle.sh(script).run().ok();
    let lines = done.lines();
    assert_eq!(lines[..2], ["/bin/sleep 1000 ", "0"], "{done}");
    assert_ne!(lines[2], "1", "{done}");
}

#[test]
fn new_user_namespace_takes_namespaces_of_the_host_along() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "1.1 cannot; crun joins after") {
        return;
    }
    let host = sleeper(t.bundle());
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let bundle = joining(&t, &host, &kinds).remove("/hostname");
    let bundle = bundle.push("/linux/namespaces", json!({"type": "user"}));
    let bundle = bundle.set("/linux/uidMappings", json!([range(0, UID, 65536)]));
    let bundle = bundle.set("/linux/gidMappings", json!([range(0, GID, 65536)]));
    // Neither may be mounted by who does not own the namespace.
    let mut mounts: Vec<Value> = bundle.config["mounts"].as_array().unwrap().clone();
    mounts.retain(|m| !matches!(m["type"].as_str().unwrap(), "sysfs" | "mqueue" | "cgroup"));
    let c = sleeper(bundle.set("/mounts", json!(mounts)));
    for (_, file) in kinds {
        assert_eq!(proc::namespace(c.pid, file), proc::namespace(host.pid, file), "{file}");
    }
    for file in ["user", "pid", "mnt"] {
        assert_ne!(proc::namespace(c.pid, file), proc::namespace(host.pid, file), "{file}");
    }
    let done = exec(&c, &[], "hostname other; id -u").ok();
    assert!(done.stdout == "0\n" && done.stderr.contains("hostname"), "{done}");
    let done = exec(&host, &[], "hostname").ok();
    assert_eq!(done.stdout, "test\n");
}

#[test]
fn created_containers_start_from_the_fifo_and_are_killed() {
    let Some(t) = Test::begin() else { return };
    let c = mapped(&t).sh("id -u; sleep 1000").create();
    assert_eq!(c.status(), "created");
    assert_eq!(exec(&c, &[], "id -u").ok().stdout, "0\n");
    let _ = c.start().ok();
    c.wait_for_output("0");
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    assert_eq!(c.status(), "stopped");
    let _ = c.delete().ok();
}

#[test]
fn time_namespace_and_scheduling_are_set_in_a_user_namespace_too() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "1.1 and crun's version do not know them") {
        return;
    }
    let first = sleeper(mapped(&t));
    for bundle in [mapped(&t), joining(&t, &first, &[("user", "user")])] {
        let bundle = bundle.push("/linux/namespaces", json!({"type": "time"}));
        let bundle = bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}}));
        let scheduler = json!({"policy": "SCHED_FIFO", "priority": 2});
        let io = json!({"class": "IOPRIO_CLASS_RT", "priority": 3});
        let bundle = bundle.set("/process/scheduler", scheduler).set("/process/ioPriority", io);
        let done = bundle
            .sh("cat /proc/uptime; ionice -p $$; cut -d' ' -f40,41 /proc/self/stat")
            .run()
            .ok();
        let uptime: f64 = done.stdout.split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 1e9, "{done}");
        assert!(done.stdout.contains("realtime: prio 3"), "{done}");
        assert!(done.stdout.ends_with("\n2 1\n"), "the priority and SCHED_FIFO: {done}");
    }
}

#[test]
fn filters_in_a_user_namespace_have_an_agent() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "the descriptor does not come with the message") {
        return;
    }
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    for nnp in [true, false] {
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]);
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path,
            "syscalls": rule});
        let bundle =
            mapped(&t).set("/linux/seccomp", profile).set("/process/noNewPrivileges", json!(nnp));
        let c = bundle.sh("mkdir /tmp/x 2>/dev/null || echo refused; sleep 100").run_detached();
        assert_eq!(agent.next_told()["pid"], c.pid);
        c.wait_for_output("refused");
        let flag = format!("--no-new-privs={nnp}");
        let done = c.call("exec", &[&flag], &["/bin/mkdir", "/tmp/x"]).exits(1);
        assert!(done.stderr.contains("Invalid cross-device link"), "{done}");
        assert_eq!(agent.next_told()["state"]["pid"], c.pid);
    }
}

#[test]
fn exec_joins_the_session_keyring_of_a_user_namespace() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "each process of exec has a keyring of its own") {
        return;
    }
    let bundle = mapped(&t);
    let missing = !Path::new("/proc/keys").exists() || !rootfs::add_probe(&bundle.rootfs());
    if t.lacks("keyrings", missing) {
        return;
    }
    let session = ["/bin/probe", "call", "x86_64", "250", "0", "-3", "0"];
    let c = bundle.sh(&format!("{}; sleep 100", session.join(" "))).run_detached();
    c.wait_for_output("\n");
    for user in ["0", "1000"] {
        let joined = c.call("exec", &["--user", user], &session).ok();
        assert_eq!(joined.stdout, c.written(), "exec as {user}");
    }
}
