//! Labels of Linux security modules: config.md#linux-process and config-linux.md#mount-label.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::section;
use crate::Test;
use crate::suite::Case;
use crate::suite::host::Need;

const PROFILES: Need = Need::Path("/sys/kernel/security/apparmor/profiles");

/// A profile of AppArmor that is loaded while this lives.
struct Profile(String);

impl Profile {
    fn load(name: &str, rules: &str) -> Self {
        let text = format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n");
        assert!(parser("--replace", &text), "the profile cannot be loaded");
        Self(text)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // A second failure is no news.
        let _: bool = parser("--remove", &self.0);
    }
}

fn parser(action: &str, text: &str) -> bool {
    let mut command = Command::new("apparmor_parser");
    let command = command.args([action, "--skip-cache"]).stdin(Stdio::piped());
    let mut parser = command.spawn().expect("apparmor_parser");
    let mut input = parser.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("a parser that reads");
    drop(input);
    parser.wait().is_ok_and(|status| status.success())
}

fn name(t: &Test) -> String {
    // The case's directory has a name that nothing else has.
    format!("orlop-{}", t.dir().file_name().unwrap().to_string_lossy())
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "labels", "config.md#linux-process");
    s.case("AppArmor profile is the process's, and enforced", |t| {
        let name = name(t);
        let profile = Profile::load(&name, "file, signal, capability, deny /secret r,");
        let b = t.bundle().file("/secret", "secret", 0o644);
        let replies = b
            .set("/process/apparmorProfile", json!(name))
            .acts(&["read /proc/self/attr/apparmor/current", "read /secret"]);
        assert_eq!(replies[0].text(), format!("{name} (enforce)\n"));
        replies[1].fails(&[libc::EACCES]);
        drop(profile);
    })
    .needs(PROFILES)
    .needs(Need::Program("apparmor_parser"));
    s.case("AppArmor profile that is not loaded is refused", |t| {
        let done = t.bundle().set("/process/apparmorProfile", json!(name(t))).try_create();
        assert!(!done.status.success(), "{done}");
    })
    .needs(PROFILES);
    s.case("mountLabel is the context of the container's mounts", |t| {
        let label = "system_u:object_r:container_file_t:s0:c715,c811";
        let facts = t.bundle().set("/linux/mountLabel", json!(label)).facts();
        let table = facts.text("mountinfo");
        let dev = table.lines().find(|line| line.contains(" /dev ")).expect("a mount");
        assert!(dev.contains(label), "{dev}");
    })
    .at("config-linux.md#mount-label")
    .needs(Need::Path("/sys/fs/selinux/enforce"));
}
