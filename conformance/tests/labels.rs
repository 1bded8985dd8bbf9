//! AppArmor profiles and SELinux labels, as the payload is under them.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use orlop_conformance::{Bundle, Peer, Test, tmp};
use serde_json::json;

const PROFILE: &str = "/process/apparmorProfile";

fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// A profile that allows everything but writing to one file, in the kernel as long as this lives.
struct Profile {
    name: String,
    text: String,
}

impl Profile {
    fn load(forbidden: &str) -> Self {
        let name = tmp::unique("orlop-test");
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
             file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,\n\
             deny {forbidden} w,\n}}\n"
        );
        let profile = Self { name, text };
        profile.parser("-r");
        profile
    }

    fn parser(&self, action: &str) {
        // Without the cache: nothing of a test stays on the machine.
        let mut parser = Command::new("apparmor_parser")
            .args(["-K", action])
            .stdin(Stdio::piped())
            .spawn()
            .expect("apparmor_parser, of the package apparmor");
        parser.stdin.take().unwrap().write_all(self.text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "apparmor_parser {action}: {}", self.text);
    }

    fn enforced(&self) -> String {
        format!("{} (enforce)\n", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("-R");
    }
}

fn under<'t>(t: &'t Test, profile: &Profile) -> Bundle<'t> {
    t.bundle().set(PROFILE, json!(profile.name))
}

const SHOW: &str = "cat /proc/self/attr/apparmor/current";

#[test]
fn profile_is_refused_where_there_is_no_apparmor() {
    let Some(t) = Test::begin() else { return };
    if apparmor() || t.differs(&[Peer::Crun], "it ignores the profile") {
        return;
    }
    let done = t.bundle().set(PROFILE, json!("docker-default")).run();
    let done = done.fails("apparmor failed to apply profile");
    assert!(t.peer() == Peer::Runc || done.stderr.contains("process.apparmorProfile: "), "{done}");
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.call("exec", &["--apparmor", "docker-default"], &["/bin/true"]).exits(255);
    assert!(done.stderr.contains("apparmor failed to apply profile"), "{done}");
}

#[test]
fn unconfined_and_no_profile_are_accepted_everywhere() {
    let Some(t) = Test::begin() else { return };
    if !apparmor() && t.differs(&[Peer::Crun], "it fails without AppArmor") {
        return;
    }
    for name in ["unconfined", ""] {
        if name == "unconfined"
            && !apparmor()
            && t.differs(&[Peer::Runc], "it asks a kernel without AppArmor for it")
        {
            continue;
        }
        let c = t.bundle().set(PROFILE, json!(name)).args(&["/bin/sleep", "100"]).run_detached();
        let _ = c.call("exec", &["--apparmor", name], &["/bin/true"]).ok();
    }
    if apparmor() {
        let out = t.bundle().set(PROFILE, json!("unconfined")).sh(SHOW).run().ok().stdout;
        assert_eq!(out, "unconfined\n");
    }
}

#[test]
fn label_is_refused_where_there_is_no_selinux() {
    let Some(t) = Test::begin() else { return };
    if selinux() || t.differs(&[Peer::Crun], "it ignores the label") {
        return;
    }
    let text = "selinux label is specified in config, but selinux is disabled or not supported";
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let done = t.bundle().set("/process/selinuxLabel", json!(label)).run().fails(text);
    assert!(t.peer() == Peer::Runc || done.stderr.contains("process.selinuxLabel: "), "{done}");
    if t.peer() == Peer::Orlop {
        // runc's kernel refuses the mounts.
        let done = t.bundle().set("/linux/mountLabel", json!(label)).run().fails(text);
        assert!(done.stderr.contains("linux.mountLabel: "), "{done}");
    }
    let _ = t.bundle().set("/process/selinuxLabel", json!("")).run().ok();
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.call("exec", &["--process-label", label], &["/bin/true"]).exits(255);
    assert!(t.peer() == Peer::Runc || done.stderr.contains(text), "{done}");
}

/// With and without what could stand in its way: no_new_privs, a user without privileges, a
/// read-only /proc, a filter.
#[test]
fn profile_is_enforced() {
    let Some(t) = Test::begin() else { return };
    if t.lacks("AppArmor", !apparmor()) {
        return;
    }
    let profile = Profile::load("/tmp/forbidden");
    let script = format!(
        "{SHOW}; echo x >/tmp/allowed && echo written; {{ echo x >/tmp/forbidden; }} 2>/dev/null || echo refused"
    );
    let docker: serde_json::Value =
        serde_json::from_str(include_str!("../bundles/docker.json")).unwrap();
    for (nnp, uid) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
        let bundle = under(&t, &profile)
            .set("/process/noNewPrivileges", json!(nnp))
            .set("/process/user", json!({"uid": uid, "gid": 0}))
            .set("/linux/seccomp", docker["linux"]["seccomp"].clone())
            .push("/linux/readonlyPaths", json!("/proc"));
        let out = bundle.sh(&script).run().ok().stdout;
        assert_eq!(out, format!("{}written\nrefused\n", profile.enforced()), "{nnp} {uid}");
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let bundle = under(&t, &profile)
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let c = bundle.sh(&format!("{script}; sleep 100")).run_detached();
    c.wait_for_output("refused");
    assert!(c.written().starts_with(&profile.enforced()), "in a user namespace");
    let joined = c.call("exec", &[], &["/bin/sh", "-c", SHOW]).ok();
    assert_eq!(joined.stdout, profile.enforced(), "exec in a user namespace");
    let created = under(&t, &profile).sh(&script).create();
    let _ = created.start().ok();
    created.wait_for_output("refused");
}

#[test]
fn processes_of_exec_are_under_the_containers_profile_or_another() {
    let Some(t) = Test::begin() else { return };
    if t.lacks("AppArmor", !apparmor()) {
        return;
    }
    let (own, other) = (Profile::load("/tmp/own"), Profile::load("/tmp/other"));
    let c = under(&t, &own).args(&["/bin/sleep", "100"]).run_detached();
    let show = ["/bin/sh", "-c", SHOW];
    assert_eq!(c.call("exec", &[], &show).ok().stdout, own.enforced());
    let flags = ["--apparmor", other.name.as_str()];
    assert_eq!(c.call("exec", &flags, &show).ok().stdout, other.enforced());
    let file = t.dir().join("process.json");
    let path = file.to_str().unwrap();
    for (profile, want) in [(json!(other.name), &other), (json!(""), &own), (json!(null), &own)] {
        let mut process = json!({"args": show, "cwd": "/", "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/bin"]});
        if !profile.is_null() {
            process["apparmorProfile"] = profile;
        }
        std::fs::write(&file, process.to_string()).unwrap();
        let done = c.call("exec", &["--process", path], &[]).ok();
        assert_eq!(done.stdout, want.enforced(), "{process}");
    }
    let done = c.call("exec", &["--apparmor", "orlop-no-such"], &["/bin/true"]).exits(255);
    assert!(done.stderr.contains("apparmor failed to apply profile"), "{done}");
}

/// Podman takes the path in backquotes for its class of error.
#[test]
fn missing_profile_is_named_with_the_path_that_podman_looks_for() {
    let Some(t) = Test::begin() else { return };
    if t.lacks("AppArmor", !apparmor()) {
        return;
    }
    let bundle = t.bundle().set(PROFILE, json!("orlop-no-such-profile"));
    let done = bundle.try_create().fails("no such file or directory");
    if t.peer() == Peer::Orlop {
        assert!(done.stderr.contains("apparmor failed to apply profile"), "{done}");
        assert!(done.stderr.contains("`/proc/thread-self/attr/apparmor/exec`"), "{done}");
        assert!(done.stderr.contains("process.apparmorProfile: "), "{done}");
    }
    bundle.assert_nothing_left();
}

/// CVE-2019-16884, CVE-2023-28642: an image that brings its own `/proc/self/attr`.
#[test]
fn profile_holds_whatever_the_image_has_as_proc() {
    let Some(t) = Test::begin() else { return };
    if t.lacks("AppArmor", !apparmor()) {
        return;
    }
    let profile = Profile::load("/tmp/forbidden");
    let mut bundle = under(&t, &profile)
        .file("/proc/self/attr/exec", "", 0o666)
        .file("/proc/self/attr/apparmor/exec", "", 0o666)
        .file("/proc/thread-self/attr/exec", "", 0o666)
        .file("/proc/thread-self/attr/apparmor/exec", "", 0o666)
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    let _ = c.start().ok();
    let current = format!("/proc/{}/attr/apparmor/current", c.pid);
    orlop_conformance::run::wait_for("the profile", || {
        std::fs::read_to_string(&current).is_ok_and(|text| text == profile.enforced())
    });
    for path in ["self", "thread-self"] {
        let path = c.bundle.rootfs().join("proc").join(path).join("attr/apparmor/exec");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "", "nothing was written to the image");
    }
}

/// A createContainer hook is the host's program; one of startContainer is the container's.
#[test]
fn hooks_of_the_host_run_without_the_profile() {
    let Some(t) = Test::begin() else { return };
    if t.lacks("AppArmor", !apparmor()) {
        return;
    }
    let profile = Profile::load("/tmp/forbidden");
    let out = t.dir().join("hook");
    let script = format!("cat /proc/self/attr/apparmor/current >{}", out.display());
    let _ = under(&t, &profile)
        .push("/hooks/createContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))
        .sh(SHOW)
        .run()
        .ok();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "unconfined\n");
}

/// Of the policy in conformance/selinux.cil.
const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const CURRENT: &str = "cat /proc/self/attr/current; echo";

fn no_selinux(t: &Test) -> bool {
    t.lacks("SELinux", !selinux())
}

/// The label of a file.
fn label_of(path: &Path) -> String {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let label = sys::attribute(&path, c"security.selinux").expect("a label");
    String::from_utf8(label).unwrap().trim_end_matches('\0').to_owned()
}

mod sys {
    #![allow(unsafe_code)]

    use std::ffi::CStr;

    pub(super) fn attribute(path: &CStr, name: &CStr) -> std::io::Result<Vec<u8>> {
        let mut value = vec![0_u8; 256];
        // SAFETY: both strings end with a NUL byte, and the buffer is as long as is said.
        let length = unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(length).map_err(|_| std::io::Error::last_os_error())?);
        Ok(value)
    }
}

/// The label that a program says that it is under.
fn said(text: &str) -> &str {
    text.trim_end_matches(['\0', '\n'])
}

#[test]
fn programs_are_under_their_label() {
    let Some(t) = Test::begin() else { return };
    if no_selinux(&t) {
        return;
    }
    let host = std::fs::read_to_string("/proc/thread-self/attr/current").unwrap();
    for (nnp, uid) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
        let done = t
            .bundle()
            .set("/process/selinuxLabel", json!(LABEL))
            .set("/process/noNewPrivileges", json!(nnp))
            .set("/process/user", json!({"uid": uid, "gid": 0}))
            .push("/linux/readonlyPaths", json!("/proc"))
            .sh(CURRENT)
            .run();
        assert_eq!(said(&done.ok().stdout), LABEL, "{nnp} {uid}");
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let done = t
        .bundle()
        .set("/process/selinuxLabel", json!(LABEL))
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .sh(CURRENT)
        .run();
    assert_eq!(said(&done.ok().stdout), LABEL, "in a user namespace");
    for label in [json!(null), json!("")] {
        let done = t.bundle().set("/process/selinuxLabel", label).sh(CURRENT).run().ok();
        assert_eq!(said(&done.stdout), said(&host), "without a label it is the host's");
    }
}

#[test]
fn processes_of_exec_are_under_the_containers_label_or_another() {
    let Some(t) = Test::begin() else { return };
    if no_selinux(&t) {
        return;
    }
    let bundle = t.bundle().set("/process/selinuxLabel", json!(LABEL));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    let show = ["/bin/sh", "-c", CURRENT];
    assert_eq!(said(&c.call("exec", &[], &show).ok().stdout), LABEL);
    let other = "system_u:system_r:other_t:s0";
    let flags = ["--process-label", other];
    assert_eq!(said(&c.call("exec", &flags, &show).ok().stdout), other);
    let none = "system_u:system_r:none_t:s0";
    let done = c.call("exec", &["--process-label", none], &["/bin/true"]).exits(255);
    if t.peer() == Peer::Orlop {
        assert!(done.stderr.contains("process.selinuxLabel: "), "{done}");
        assert!(done.stderr.contains("invalid argument"), "{done}");
    }
}

#[test]
fn filesystems_have_the_mount_label_and_the_policy_holds_for_them() {
    let Some(t) = Test::begin() else { return };
    if no_selinux(&t) {
        return;
    }
    let own = "system_u:object_r:readonly_file_t:s0";
    let script =
        "echo x >/labelled/file && echo written; echo x >/own/file || echo refused; sleep 100";
    let c = t
        .bundle()
        .set("/process/selinuxLabel", json!(LABEL))
        .set("/linux/mountLabel", json!(FILES))
        .mount("/labelled", "tmpfs", "tmpfs", &["mode=755"])
        .mount("/own", "tmpfs", "tmpfs", &[&format!("context={own}")])
        .mount("/mqueue", "mqueue", "mqueue", &["nosuid"])
        .sh(script)
        .run_detached();
    c.wait_for_output("refused");
    assert!(c.written().starts_with("written\n"), "{}", c.written());
    let root = Path::new("/proc").join(c.pid.to_string()).join("root");
    for path in ["labelled", "labelled/file", "dev", "dev/null", "dev/shm", "mqueue"] {
        assert_eq!(label_of(&root.join(path)), FILES, "{path}");
    }
    assert_eq!(label_of(&root.join("own/file")), own);
    for path in ["proc", "sys"] {
        assert_ne!(label_of(&root.join(path)), FILES, "{path}");
    }
}

#[test]
fn label_that_the_policy_refuses_is_an_error_in_its_fields_name() {
    let Some(t) = Test::begin() else { return };
    if no_selinux(&t) {
        return;
    }
    // One that it does not know, and one that the host may not change to.
    for (label, text) in [
        ("system_u:system_r:none_t:s0", "invalid argument"),
        ("nonsense", "invalid argument"),
        ("system_u:system_r:forbidden_t:s0", "permission denied"),
    ] {
        let bundle = t.bundle().set("/process/selinuxLabel", json!(label));
        let done = bundle.run().fails(text);
        let named = t.peer() != Peer::Orlop || done.stderr.contains("process.selinuxLabel: ");
        // Of the second the kernel says so when the program is executed.
        assert!(named || label.contains("forbidden_t"), "{done}");
        bundle.assert_nothing_left();
    }
    let bundle = t.bundle().set("/linux/mountLabel", json!("system_u:object_r:none_t:s0"));
    let done = bundle.run().fails("invalid argument");
    assert!(t.peer() != Peer::Orlop || done.stderr.contains("linux.mountLabel: "), "{done}");
    bundle.assert_nothing_left();
}
