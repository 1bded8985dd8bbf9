//! The root filesystem of test containers: a static busybox and the directories that mounts need.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program of the package busybox-static.
#[must_use]
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists())
}

fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let program = busybox().expect("busybox-static is installed");
        let out = Command::new(program).arg("--list").output().expect("busybox --list");
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    })
}

/// Copies a program that is to be executed at once.
///
/// Another process does it: what other threads start meanwhile would inherit a descriptor of ours that writes, and as
/// long as it is open the copy is a "text file busy".
///
/// # Panics
/// Where it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("--").args([from, to]).output().expect("cp");
    assert!(done.status.success(), "{done:?}");
}

/// Makes a root filesystem at `dir`, which must not exist.
///
/// busybox is copied, never linked: a container's root may write to it.
///
/// # Panics
/// Where the package busybox-static is missing or a file cannot be made.
pub fn make(dir: &Path) {
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "home", "mnt", "usr", "var"] {
        std::fs::create_dir_all(dir.join(name)).expect("rootfs directory");
    }
    mode(dir, 0o755);
    mode(&dir.join("tmp"), 0o1777);
    let bin = dir.join("bin");
    std::fs::copy(busybox().expect("busybox-static is installed"), bin.join("busybox"))
        .expect("copy busybox");
    for applet in applets().iter().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(applet)).expect("applet link");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n";
    std::fs::write(dir.join("etc/passwd"), passwd).expect("passwd");
    std::fs::write(dir.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("group");
}

/// Puts the program made of `probe.c` into a root filesystem, as `/bin/probe`; false where it could not be built.
///
/// # Panics
/// Where it cannot be written, or `ORLOP_NO_SKIP` is set and it could not be built.
#[must_use]
pub fn add_probe(root: &Path) -> bool {
    // Embedded, as the tests may run on another machine than they were built on.
    let program = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));
    if program.is_empty() {
        assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "cannot run: no C compiler");
        eprintln!("SKIPPED: no C compiler");
        return false;
    }
    let path = root.join("bin/probe");
    std::fs::write(&path, program).expect("write the probe");
    mode(&path, 0o755);
    true
}

/// Sets a file's permissions.
///
/// # Panics
/// Where that fails.
pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}
