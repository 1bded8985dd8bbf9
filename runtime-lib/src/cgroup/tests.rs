//! These need root, a pure cgroup v2 at /sys/fs/cgroup and `ORLOP_TEST_CGROUP2=1`; a mount
//! namespace of their own serves:
//! `unshare -m sh -c 'umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;
//! ORLOP_TEST_CGROUP2=1 cargo test -p orlop --lib cgroup::'`. Elsewhere they say that they skip.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A cgroup of one test's own, with all below it; removed at the end.
struct Playground {
    name: String,
}

impl Playground {
    /// None where the tests cannot run.
    fn new(test: &str) -> Option<Self> {
        let wanted = std::env::var_os("ORLOP_TEST_CGROUP2").is_some_and(|value| value == "1");
        if !wanted || create::open_root().is_err() {
            println!("skipped: needs ORLOP_TEST_CGROUP2=1 and cgroup2 at /sys/fs/cgroup");
            return None;
        }
        let name = format!("orlop-test-{}-{test}", std::process::id());
        fs::create_dir(format!("/sys/fs/cgroup/{name}")).unwrap();
        Some(Self { name })
    }

    fn path(&self, rest: &str) -> String {
        format!("/{}/{rest}", self.name)
    }

    fn host(&self, rest: &str) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup/{}/{rest}", self.name))
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        let path = format!("/{}", self.name);
        if let Ok(Some(cgroup)) = Cgroup::open(&path) {
            let _: Result<()> = cgroup.thaw();
            let _: Result<()> = cgroup.kill();
            let result = cgroup.remove();
            assert!(result.is_ok() || std::thread::panicking(), "{result:?}");
        }
    }
}

/// A process in a cgroup, killed at the end.
struct Sleeper(Child);

impl Sleeper {
    fn new(cgroup: &Path) -> Self {
        let child = Command::new("sleep").arg("100").process_group(0).spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(file: &'static str, value: &str, if_missing: IfMissing) -> CgroupWrite {
    CgroupWrite {
        field: "linux.resources.x".into(),
        file: file.into(),
        value: value.to_owned(),
        if_missing,
        retry_if_invalid: false,
    }
}

fn host_file(cgroup: &Cgroup, file: &str) -> String {
    fs::read_to_string(format!("/sys/fs/cgroup{}/{file}", cgroup.path())).unwrap()
}

#[test]
fn create_makes_all_levels_and_hands_down_all_controllers() {
    let Some(play) = Playground::new("levels") else { return };
    let cgroup = Cgroup::create(&play.path("a/b/c")).unwrap();
    assert_eq!(
        host_file(&cgroup, "cgroup.controllers"),
        fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap()
    );
    assert!(cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_populated().unwrap());
    cgroup.remove().unwrap();
    assert!(!play.host("a/b/c").exists());
    assert!(play.host("a/b").exists(), "only the leaf is the container's");
    cgroup.remove().unwrap();
}

#[test]
fn create_takes_an_empty_cgroup_but_not_one_in_use() {
    let Some(play) = Playground::new("in-use") else { return };
    let path = play.path("c");
    Cgroup::create(&path).unwrap();
    Cgroup::create(&path).unwrap();
    let sleeper = Sleeper::new(&play.host("c"));
    let error = Cgroup::create(&path).unwrap_err().to_string();
    assert!(error.ends_with("container's cgroup is not empty: 1 process(es) found"), "{error}");
    assert!(play.host("c").exists());
    drop(sleeper);
    fs::write(play.host("c/cgroup.freeze"), "1").unwrap();
    let error = Cgroup::create(&path).unwrap_err().to_string();
    assert!(error.ends_with("container's cgroup unexpectedly frozen"), "{error}");
}

#[test]
fn processes_below_a_cgroup_count_as_use() {
    let Some(play) = Playground::new("below") else { return };
    fs::create_dir_all(play.host("c/d")).unwrap();
    let _sleeper = Sleeper::new(&play.host("c/d"));
    assert!(Cgroup::create(&play.path("c")).unwrap_err().to_string().contains("1 process(es)"));
}

#[test]
fn failed_create_leaves_nothing_behind() {
    let Some(play) = Playground::new("undo") else { return };
    fs::write(play.host("cgroup.max.depth"), "2").unwrap();
    let error = Cgroup::create(&play.path("a/b/c/d")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
    assert_eq!(error.field(), Some("linux.cgroupsPath"));
    assert!(!play.host("a").exists());
}

#[test]
fn threaded_subtree_is_refused_and_left_clean() {
    let Some(play) = Playground::new("threaded") else { return };
    fs::create_dir(play.host("t")).unwrap();
    fs::write(play.host("t/cgroup.type"), "threaded").unwrap();
    let error = Cgroup::create(&play.path("t/c")).unwrap_err().to_string();
    assert!(error.contains("it is in an invalid state"), "{error}");
    assert!(!play.host("t/c").exists());
    let error = Cgroup::create(&play.path("t")).unwrap_err().to_string();
    assert!(error.contains("it is in threaded mode"), "{error}");
    assert!(play.host("t").exists());
}

#[test]
fn a_file_in_the_way_is_an_error() {
    let Some(play) = Playground::new("file") else { return };
    let error = Cgroup::create(&play.path("cgroup.procs")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");
}

#[test]
fn paths_that_are_not_clean_are_refused() {
    for path in ["", "/", "a", "/a/../b", "/a//b", "/a/", "/./a", "/a\0"] {
        assert!(create::relative(path).is_err(), "{path:?}");
    }
    assert_eq!(create::relative("/a/b").unwrap(), "a/b");
}

#[test]
fn a_missing_controller_is_named() {
    let Some(play) = Playground::new("missing") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    let apply = |write| cgroup.apply(&[write]).map_err(|error| error.to_string());
    // Nobody has a controller of this name.
    let error = apply(write("orlop.max", "1", IfMissing::Fail)).unwrap_err();
    let text = format!("controller orlop is not available in {:?}", play.path("c"));
    assert_eq!(error, format!("linux.resources.x: {text}"));
    let error = apply(write("orlop.max", "1", IfMissing::Unified)).unwrap_err();
    assert!(
        error.ends_with(
            "unified resource \"orlop.max\" can't be set: controller \"orlop\" not available"
        ),
        "{error}"
    );
    let error = apply(write("cgroup.orlop", "1", IfMissing::Unified)).unwrap_err();
    assert!(
        error.contains("unable to set unified resource \"cgroup.orlop\": no such file"),
        "{error}"
    );
    apply(write("cgroup.orlop", "1", IfMissing::Fail)).unwrap_err();
    let other = IfMissing::Instead { file: "cgroup.max.depth".into(), value: "7".into() };
    apply(write("orlop.max", "1", other)).unwrap();
    assert_eq!(host_file(&cgroup, "cgroup.max.depth"), "7\n");
    let error = apply(write("cgroup.max.depth", "x", IfMissing::Fail)).unwrap_err();
    assert!(
        error.contains("cannot write \"x\" to cgroup.max.depth: invalid argument (EINVAL)"),
        "{error}"
    );
}

#[test]
fn a_file_may_be_missing_only_with_its_controller_there() {
    let Some(play) = Playground::new("skip") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    cgroup.apply(&[write("orlop.max", "1", IfMissing::Skip)]).unwrap_err();
    let Some(controller) =
        host_file(&cgroup, "cgroup.controllers").split_whitespace().next().map(str::to_owned)
    else {
        return;
    };
    let file = format!("{controller}.orlop");
    cgroup.apply(&[CgroupWrite { file: file.into(), ..write("", "1", IfMissing::Skip) }]).unwrap();
}

#[test]
fn a_refused_write_is_repeated_after_the_others_if_told_so() {
    let Some(play) = Playground::new("retry") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    let again =
        CgroupWrite { retry_if_invalid: true, ..write("cgroup.max.depth", "x", IfMissing::Fail) };
    let error =
        cgroup.apply(&[again, write("cgroup.max.descendants", "9", IfMissing::Fail)]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(host_file(&cgroup, "cgroup.max.descendants"), "9\n");
}

#[test]
fn hugepage_limits_reach_the_kernel() {
    let Some(play) = Playground::new("hugetlb") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    if !host_file(&cgroup, "cgroup.controllers").contains("hugetlb") {
        println!("skipped: no hugetlb controller");
        return;
    }
    let limits = |size| {
        let resources =
            serde_json::json!({"hugepageLimits": [{"pageSize": size, "limit": 4_194_304}]});
        crate::compile::resources::limits(&serde_json::from_value(resources).unwrap()).unwrap()
    };
    cgroup.apply(&limits("2MB").writes).unwrap();
    assert_eq!(host_file(&cgroup, "hugetlb.2MB.max"), "4194304\n");
    assert_eq!(host_file(&cgroup, "hugetlb.2MB.rsvd.max"), "4194304\n");
    let error = cgroup.apply(&limits("3MB").writes).unwrap_err().to_string();
    assert_eq!(
        error,
        "linux.resources.hugepageLimits[0].limit: this kernel has no hugetlb.3MB.max"
    );
}

#[test]
fn freezing_stops_and_thawing_lets_go() {
    let Some(play) = Playground::new("freeze") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    cgroup.thaw().unwrap();
    let sleeper = Sleeper::new(&play.host("c"));
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    assert!(host_file(&cgroup, "cgroup.events").contains("frozen 1"));
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    // systemd removes what is empty under everybody's hands.
    drop(sleeper);
    cgroup.remove().unwrap();
    cgroup.thaw().unwrap();
}

#[test]
fn kill_takes_the_whole_subtree_and_remove_waits_for_it() {
    let Some(play) = Playground::new("kill") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    for name in ["c/a/b", "c/d"] {
        fs::create_dir_all(play.host(name)).unwrap();
    }
    let sleepers = ["c", "c/a/b", "c/d"].map(|name| Sleeper::new(&play.host(name)));
    let mut pids = sleepers.iter().map(Sleeper::pid).collect::<Vec<_>>();
    pids.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), pids);
    assert!(cgroup.is_populated().unwrap());
    cgroup.kill().unwrap();
    // They become zombies of this process: those do not keep a cgroup.
    cgroup.remove().unwrap();
    assert!(!play.host("c").exists());
    assert!(!cgroup.is_populated().unwrap());
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.kill().unwrap();
    let error = cgroup.apply(&[write("cgroup.max.depth", "1", IfMissing::Fail)]).unwrap_err();
    assert!(error.to_string().contains("has been removed"), "{error}");
}

#[test]
fn remove_fails_in_time_while_a_process_lives() {
    let Some(play) = Playground::new("alive") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    fs::create_dir(play.host("c/d")).unwrap();
    let sleeper = Sleeper::new(&play.host("c/d"));
    let start = Instant::now();
    let error = cgroup.remove_within(Duration::from_millis(50)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    let text = error.to_string();
    assert!(text.starts_with("unable to remove container's cgroup: "), "{text}");
    assert!(text.contains("still holds 1 process(es)"), "{text}");
    drop(sleeper);
    Cgroup::remove_path(&play.path("c")).unwrap();
    Cgroup::remove_path(&play.path("c")).unwrap();
    assert!(!play.host("c").exists());
}

#[test]
fn remove_copes_with_deep_and_wide_trees() {
    let Some(play) = Playground::new("deep") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    for wide in 0..300 {
        fs::create_dir(play.host(&format!("c/w{wide}"))).unwrap();
    }
    let mut deep = String::from("c");
    for _ in 0..60 {
        deep.push_str("/x");
        fs::create_dir(play.host(&deep)).unwrap();
        fs::create_dir(play.host(&format!("{deep}/y"))).unwrap();
    }
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.remove().unwrap();
    assert!(!play.host("c").exists());
}

#[test]
fn names_that_a_container_chose_do_not_keep_its_cgroup() {
    let Some(play) = Playground::new("names") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    for name in [&b"\xff\xfe"[..], b" ", b"...", b"-rf", b"a\\012b"] {
        let dir = play.host("c").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(dir.join("below")).unwrap();
    }
    let sleeper = Sleeper::new(&play.host("c/ /below"));
    assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
    drop(sleeper);
    cgroup.remove().unwrap();
    assert!(!play.host("c").exists());
}

#[test]
fn open_finds_only_what_is_there() {
    let Some(play) = Playground::new("open") else { return };
    assert!(Cgroup::open(&play.path("c")).unwrap().is_none());
    Cgroup::create(&play.path("c")).unwrap();
    assert_eq!(Cgroup::open(&play.path("c")).unwrap().unwrap().path(), play.path("c"));
}

#[test]
fn a_sub_cgroup_is_found_only_below() {
    let Some(play) = Playground::new("sub") else { return };
    let cgroup = Cgroup::create(&play.path("name")).unwrap();
    fs::create_dir(play.host("name/sub")).unwrap();
    fs::create_dir(play.host("name-evil")).unwrap();
    for path in ["", "/", "sub", "/sub", "sub/../sub"] {
        cgroup.open_below(path).unwrap();
    }
    for path in ["..", "../name-evil", "sub/../../name-evil", "/../name"] {
        let error = cgroup.open_below(path).unwrap_err();
        assert_eq!(error.to_string(), format!("bad sub cgroup path: {path}"));
    }
    let error = cgroup.open_below("none").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn values_of_keyed_files_are_found_by_their_whole_key() {
    let text = "oom 1\noom_kill 23\noom_group_kill 4\n";
    assert_eq!(files::value_of(text, "oom_kill"), Some("23"));
    assert_eq!(files::value_of(text, "oom"), Some("1"));
    assert_eq!(files::value_of(text, "kill"), None);
}

/// Whether a process in the cgroup can open the device.
fn can_open(cgroup: &Path, device: &str, for_writing: bool) -> bool {
    let redirect = if for_writing { "<>" } else { "<" };
    let script = format!("read go; exec 3{redirect}{device}");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap().success()
}

fn program(rules: serde_json::Value) -> DeviceProgram {
    let rules: Vec<_> = serde_json::from_value(rules).unwrap();
    crate::compile::device_program::compile(&rules, &[]).unwrap()
}

#[test]
fn device_programs_are_enforced_and_replaced() {
    let Some(play) = Playground::new("devices") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    let dir = play.host("c");
    let attached = || {
        let mut ids = [0; 64];
        let count = sys::program_query(cgroup.as_fd(), &mut ids).unwrap();
        ids[..count].to_vec()
    };
    assert!(can_open(&dir, "/dev/kmsg", false));
    cgroup.attach_devices(&program(serde_json::json!([]))).unwrap();
    let first = attached();
    assert_eq!(first.len(), 1);
    assert!(can_open(&dir, "/dev/null", true));
    assert!(!can_open(&dir, "/dev/kmsg", false));
    // /dev/kmsg is 1:11.
    let read_only = serde_json::json!(
        [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    cgroup.attach_devices(&program(read_only)).unwrap();
    assert_eq!(attached().len(), 1);
    assert_ne!(attached(), first);
    assert!(can_open(&dir, "/dev/kmsg", false));
    assert!(!can_open(&dir, "/dev/kmsg", true));
    // A cgroup that was there before may have several.
    let second = device_program_of_another(&cgroup);
    assert_eq!(attached().len(), 2);
    drop(second);
    let again = Cgroup::open(&play.path("c")).unwrap().unwrap();
    again.attach_devices(&program(serde_json::json!([{"allow": true, "access": "rwm"}]))).unwrap();
    assert_eq!(attached().len(), 1);
    assert!(can_open(&dir, "/dev/kmsg", true));
}

fn device_program_of_another(cgroup: &Cgroup) -> OwnedFd {
    let denies_all = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let program = sys::program_load(&denies_all, &mut []).unwrap();
    sys::program_attach(cgroup.as_fd(), program.as_fd(), None).unwrap();
    program
}

#[test]
fn a_program_that_the_verifier_refuses_is_explained() {
    let Some(play) = Playground::new("verifier") else { return };
    let cgroup = Cgroup::create(&play.path("c")).unwrap();
    let no_return_value = DeviceProgram::new(vec![[0x95, 0, 0, 0, 0, 0, 0, 0]]);
    let error = cgroup.attach_devices(&no_return_value).unwrap_err();
    assert_eq!(error.field(), Some("linux.resources.devices"));
    assert!(error.to_string().contains("R0 !read_ok"), "{error}");
}

/// Every kind of program that the compiler writes passes the kernel's verifier.
#[test]
fn compiled_programs_pass_the_verifier() {
    let Some(_play) = Playground::new("verified") else { return };
    for rules in [
        serde_json::json!([]),
        serde_json::json!([{"allow": true, "access": "rwm"}]),
        serde_json::json!([{"allow": true, "access": "rwm"},
            {"allow": false, "type": "c", "major": 9, "minor": 9, "access": "w"},
            {"allow": false, "type": "b", "major": 4_294_967_295u32, "access": "rm"},
            {"allow": true, "type": "b", "minor": 7, "access": "r"}]),
    ] {
        sys::program_load(program(rules).instructions(), &mut []).unwrap();
    }
}

#[test]
fn create_in_the_common_case_is_quick() {
    let Some(play) = Playground::new("quick") else { return };
    Cgroup::create(&play.path("warm")).unwrap();
    let start = Instant::now();
    for index in 0..20 {
        let cgroup = Cgroup::create(&play.path(&format!("c{index}"))).unwrap();
        cgroup.remove().unwrap();
    }
    println!("create and remove: {:?}", start.elapsed() / 20);
}
