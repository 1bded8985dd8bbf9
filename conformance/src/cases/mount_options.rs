//! The options of mounts: config.md, Linux mount options.

use serde_json::json;

use super::section;
use crate::Bundle;
use crate::proc::Mount;
use crate::suite::{Case, Section};

/// Options of a mount, and what the mount table then says: words that are there (`x`) or not (`!x`).
const FLAGS: [(&[&str], &[&str]); 32] = [
    (&["ro"], &["ro"]),
    (&["rw"], &["rw"]),
    (&["ro", "rw"], &["rw"]),
    (&["rw", "ro"], &["ro"]),
    (&["nosuid"], &["nosuid"]),
    (&["suid"], &["!nosuid"]),
    (&["nosuid", "suid"], &["!nosuid"]),
    (&["nodev"], &["nodev"]),
    (&["dev"], &["!nodev"]),
    (&["nodev", "dev"], &["!nodev"]),
    (&["noexec"], &["noexec"]),
    (&["exec"], &["!noexec"]),
    (&["noexec", "exec"], &["!noexec"]),
    (&["noatime"], &["noatime"]),
    (&["atime"], &["!noatime"]),
    (&["noatime", "atime"], &["!noatime"]),
    (&["nodiratime"], &["nodiratime"]),
    (&["diratime"], &["!nodiratime"]),
    (&["nodiratime", "diratime"], &["!nodiratime"]),
    (&["relatime"], &["relatime"]),
    (&["norelatime"], &["!noatime"]),
    (&["strictatime"], &["!relatime", "!noatime"]),
    (&["nostrictatime"], &["!noatime"]),
    (&["nosymfollow"], &["nosymfollow"]),
    (&["symfollow"], &["!nosymfollow"]),
    (&["nosymfollow", "symfollow"], &["!nosymfollow"]),
    (&["defaults"], &["rw", "!nosuid", "!nodev", "!noexec"]),
    (&[], &["rw", "!nosuid", "!nodev", "!noexec", "relatime"]),
    (&["ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"]),
    (&["ro", "noatime", "nodiratime"], &["ro", "noatime", "nodiratime"]),
    (&["noexec", "strictatime", "nosuid"], &["noexec", "nosuid", "!relatime"]),
    (&["nosymfollow", "ro"], &["nosymfollow", "ro"]),
];

/// Options of a filesystem as a whole.
const SUPER: [(&[&str], &[&str]); 9] = [
    (&["sync"], &["sync"]),
    (&["async"], &["!sync"]),
    (&["sync", "async"], &["!sync"]),
    (&["dirsync"], &["dirsync"]),
    (&["lazytime"], &["lazytime"]),
    (&["nolazytime"], &["!lazytime"]),
    (&["silent"], &["rw"]),
    (&["loud"], &["rw"]),
    (&["noiversion"], &["rw"]),
];

/// Recursive options (since version 1.1 of the specification): what the mount and one below it then have.
const RECURSIVE: [(&str, &str); 18] = [
    ("rro", "ro"),
    ("rrw", "rw"),
    ("rnosuid", "nosuid"),
    ("rsuid", "!nosuid"),
    ("rnodev", "nodev"),
    ("rdev", "!nodev"),
    ("rnoexec", "noexec"),
    ("rexec", "!noexec"),
    ("rnoatime", "noatime"),
    ("ratime", "!noatime"),
    ("rnodiratime", "nodiratime"),
    ("rdiratime", "!nodiratime"),
    ("rrelatime", "relatime"),
    ("rstrictatime", "!relatime"),
    ("rnorelatime", "!noatime"),
    ("rnostrictatime", "!noatime"),
    ("rnosymfollow", "nosymfollow"),
    ("rsymfollow", "!nosymfollow"),
];

/// Propagation: the option, what the mount table says, and whether the mount below has it too.
const PROPAGATION: [(&str, &str, bool); 8] = [
    ("private", "", false),
    ("rprivate", "", true),
    ("shared", "shared", false),
    ("rshared", "shared", true),
    ("slave", "master", false),
    ("rslave", "master", true),
    ("unbindable", "unbindable", false),
    ("runbindable", "unbindable", true),
];

const SPEC: &str = "config.md#linux-mount-options";

fn said(have: &[String], want: &[&str], mount: &Mount) {
    for word in want {
        let (absent, name) = word.strip_prefix('!').map_or((false, *word), |name| (true, name));
        let is = have.iter().any(|option| option == name);
        assert!(is != absent, "wanted {word}, got {} of {mount:?}", have.join(","));
    }
}

fn words(options: &[&str]) -> String {
    if options.is_empty() { "no options".into() } else { options.join(",") }
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "mount options", SPEC);
    for (options, want) in FLAGS {
        s.case(format!("tmpfs with {} is {}", words(options), want.join(",")), move |t| {
            let mount = t.bundle().mount("/mnt", "tmpfs", "tmpfs", options).facts().mount("/mnt");
            said(&mount.options, want, &mount);
        });
    }
    for (options, want) in FLAGS {
        s.case(format!("bind mount with {} is {}", words(options), want.join(",")), move |t| {
            let mount = bind(t.bundle(), options, false).facts().mount("/mnt");
            said(&mount.options, want, &mount);
        });
    }
    for (options, want) in SUPER {
        s.case(format!("filesystem with {} is {}", words(options), want.join(",")), move |t| {
            let mount = t.bundle().mount("/mnt", "tmpfs", "tmpfs", options).facts().mount("/mnt");
            said(&mount.super_options, want, &mount);
        });
    }
    for (option, want) in RECURSIVE {
        s.case(format!("{option} counts for the mounts below, too"), move |t| {
            let facts = bind(t.bundle(), &[option], true).facts();
            for target in ["/mnt", "/mnt/sub"] {
                let mount = facts.mount(target);
                said(&mount.options, &[want], &mount);
            }
        });
    }
    for (option, want, below) in PROPAGATION {
        s.case(format!("propagation is {option}"), move |t| {
            let facts = bind(t.bundle(), &[option], true).facts();
            let has = |target: &str| {
                let mount = facts.mount(target);
                let is = mount.propagation.iter().any(|p| p.starts_with(want) && !want.is_empty());
                if want.is_empty() { mount.propagation.is_empty() } else { is }
            };
            assert!(has("/mnt"), "{:?}", facts.mount("/mnt"));
            assert!(!below || has("/mnt/sub"), "below: {:?}", facts.mount("/mnt/sub"));
        });
    }
    binds(&mut s);
    data(&mut s);
    effects(&mut s);
}

/// A bind mount at /mnt of a directory that has a shared tmpfs below it; the case's own mounts go with its namespace.
fn bind<'t>(bundle: Bundle<'t>, options: &[&str], recursive: bool) -> Bundle<'t> {
    let source = bundle.test.dir().join("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    own_mounts(&source, recursive);
    let kind = if recursive { "rbind" } else { "bind" };
    let mut all = vec![kind];
    all.extend(options);
    bundle.mount("/mnt", "none", source.to_str().unwrap(), &all)
}

/// Makes `source` a shared mount with a shared tmpfs below, in a mount namespace of the case's own.
fn own_mounts(source: &std::path::Path, below: bool) {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).unwrap();
    mount(Some(source), source, none, MsFlags::MS_BIND, none).unwrap();
    if below {
        mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    mount(none, source, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).unwrap();
}

fn binds(s: &mut Section<'_>) {
    s.case("bind takes one mount and not those below", |t| {
        let mounts = {
            let source = t.dir().join("source");
            std::fs::create_dir_all(source.join("sub")).unwrap();
            own_mounts(&source, true);
            let b = t.bundle().mount("/mnt", "none", source.to_str().unwrap(), &["bind"]);
            b.facts().mounts()
        };
        assert!(!mounts.iter().any(|m| m.target == "/mnt/sub"), "{mounts:?}");
    });
    s.case("rbind takes the mounts below, too", |t| {
        let _ = bind(t.bundle(), &[], true).facts().mount("/mnt/sub");
    });
    s.case("ro of rbind counts for the upper mount alone", |t| {
        let facts = bind(t.bundle(), &["ro"], true).facts();
        assert!(facts.mount("/mnt").has(&["ro"]), "the upper mount");
        assert!(facts.mount("/mnt/sub").has(&["rw"]), "the mount below");
    });
    s.case("bind keeps flags of its source that the config does not name", |t| {
        let b = bind(t.bundle(), &["noexec"], false);
        let source = t.dir().join("source");
        let flags = nix::mount::MsFlags::MS_BIND
            | nix::mount::MsFlags::MS_REMOUNT
            | nix::mount::MsFlags::MS_NOSUID;
        let none: Option<&str> = None;
        nix::mount::mount(none, &source, none, flags, none).unwrap();
        let mount = b.facts().mount("/mnt");
        said(&mount.options, &["noexec"], &mount);
    });
    s.case("type bind is enough for a bind mount in runc's manner", |t| {
        let source = t.dir().join("plain");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), "inside").unwrap();
        let b = t.bundle().mount("/mnt", "bind", source.to_str().unwrap(), &["bind"]);
        assert_eq!(b.act("read /mnt/file").text(), "inside");
    });
}

fn data(s: &mut Section<'_>) {
    for (options, stat, want) in [
        (&["mode=1711"][..], "mode", 0o1711),
        (&["mode=0700"][..], "mode", 0o700),
        (&["uid=1234"][..], "uid", 1234),
        (&["gid=4321"][..], "gid", 4321),
    ] {
        s.case(format!("tmpfs takes {} as its own option", options[0]), move |t| {
            let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", options);
            assert_eq!(b.act("stat /mnt").ok()[stat], want);
        });
    }
    s.case("tmpfs is as large as size says", |t| {
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["size=1m"]);
        assert_eq!(b.act("statfs /mnt").ok()["size"], 1 << 20);
    });
    s.case("tmpfs has as many inodes as nr_inodes says", |t| {
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["nr_inodes=10"]);
        assert_eq!(b.act("statfs /mnt").ok()["inodes"], 10);
    });
    s.case("tmpcopyup copies what the directory held", |t| {
        let b = t.bundle().file("/data/file", "from the image", 0o640);
        let b = b.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let replies = b.acts(&["read /data/file", "stat /data/file"]);
        assert_eq!(replies[0].text(), "from the image");
        assert_eq!(replies[1].ok()["mode"], 0o640);
    })
    .at("config.md#linux-mount-options");
    s.case("option that the filesystem does not know is refused", |t| {
        let done = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["nosuchoption=1"]).try_create();
        assert!(!done.status.success(), "{done}");
    });
}

fn effects(s: &mut Section<'_>) {
    s.case("nothing can be written to a ro mount", |t| {
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["ro"]);
        b.act("create /mnt/x y").fails(&[libc::EROFS]);
    });
    s.case("program on a noexec mount cannot be executed", |t| {
        let b = t.bundle();
        let source = t.dir().join("programs");
        std::fs::create_dir(&source).unwrap();
        crate::suite::payload::install(&source.join("payload"));
        let b = b.mount("/mnt", "none", source.to_str().unwrap(), &["bind", "noexec"]);
        b.act("exec /mnt/payload").fails(&[libc::EACCES]);
    });
    s.case("device on a nodev mount cannot be opened", |t| {
        let device = |name: &str| json!({"path": name, "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0});
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["nodev"]);
        let b = b.push("/linux/devices", device("/mnt/null"));
        b.act("open /mnt/null w").fails(&[libc::EACCES]);
    });
    s.case("symlink on a nosymfollow mount is not followed", |t| {
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["nosymfollow"]);
        let replies = b.acts(&["symlink /etc/passwd /mnt/link", "open /mnt/link"]);
        replies[1].fails(&[libc::ELOOP]);
    });
}
