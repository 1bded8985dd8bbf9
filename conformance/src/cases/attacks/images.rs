//! Hostile images: links and files where the runtime is going to write, mount or look.

use serde_json::json;

use super::{Sentinel, confined, link, section, without_mount};
use crate::console::ConsoleSocket;
use crate::suite::payload::{self, PATH};
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "hostile images");
    targets(&mut s);
    devices(&mut s);
    masks(&mut s);
    procfs(&mut s);
    names(&mut s);
}

/// Mount targets that are links.
fn targets(s: &mut Section<'_>) {
    s.section_at("CVE-2019-18837");
    for what in ["an absolute link", "a relative link"] {
        for (kind, source) in
            [("tmpfs", None), ("directory", Some("full")), ("file", Some("full/file"))]
        {
            s.case(format!("{kind} mounted over {what} to the host stays inside"), move |t| {
                let sentinel = Sentinel::new(t);
                let mut b = t.bundle();
                let to = if kind == "file" { sentinel.at("file") } else { sentinel.at("empty") };
                let up =
                    if what.contains("relative") { "../../../../../../../../../.." } else { "" };
                let to = format!("{up}{to}");
                link(&b, "target", &to);
                let source = source.map(|name| sentinel.at(name));
                b = match &source {
                    None => b.mount("/target", "tmpfs", "tmpfs", &[]),
                    Some(path) => b.mount("/target", "none", path, &["bind"]),
                };
                let actions = ["create /target/x changed", "write /target changed"];
                let _ = b.payload(&actions[..if source.is_none() { 2 } else { 0 }]).run();
                sentinel.is_untouched();
            });
        }
    }
    s.section_at("CVE-2024-45310");
    for kind in ["file", "directory"] {
        s.case(
            format!("missing target of a {kind} below a link is not made on the host"),
            move |t| {
                let sentinel = Sentinel::new(t);
                let b = t.bundle();
                sentinel.link(&b, "v", "empty");
                let source = sentinel.at(if kind == "file" { "file" } else { "full" });
                let _ = b.mount("/v/a/b/c", "none", &source, &["bind", "ro"]).run();
                sentinel.is_untouched();
            },
        );
    }
    s.case("working directory below a link is not made on the host", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle();
        sentinel.link(&b, "v", "empty");
        let _ = b.set("/process/cwd", json!("/v/a/b")).run();
        sentinel.is_untouched();
    });
    s.case("tmpcopyup copies links and not what they lead to", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle();
        sentinel.link(&b, "data/link", super::MARKER);
        let b = b.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        confined(&b.payload(&["read /data/link"]).run());
    })
    .at("CVE-2021-30465");
    s.case("read-only root is read-only though the image ships a /proc of its own", |t| {
        let mut b = without_mount(t.bundle(), "/proc").set("/root/readonly", json!(true));
        b = b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        for number in 0..64 {
            link(&b, &format!("proc/self/fd/{number}"), "/tmp");
            link(&b, &format!("proc/thread-self/fd/{number}"), "/tmp");
        }
        let b = b.payload(&["create /x changed"]);
        let done = b.run();
        assert!(!b.rootfs().join("x").exists(), "the root was written: {done}");
    })
    .at("CVE-2026-115521");
}

/// Default devices and their links, where the image decides what /dev is.
fn devices(s: &mut Section<'_>) {
    s.section_at("CVE-2026-41579, CVE-2026-47766");
    for to in ["dev", "empty"] {
        s.case(format!("/dev that is a link to the host's {to} gets no devices there"), move |t| {
            let sentinel = Sentinel::new(t);
            let b = without_mount(t.bundle(), "/dev");
            sentinel.link(&b, "dev", to);
            let done = b.run();
            sentinel.is_untouched();
            confined(&done);
        });
    }
    s.case("device of the config below a link is not made on the host", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle();
        sentinel.link(&b, "v", "empty");
        let device = json!({"path": "/v/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0});
        let _ = b.push("/linux/devices", device).run();
        sentinel.is_untouched();
    });
    s.case("/dev/console that is a link makes no file on the host", |t| {
        let sentinel = Sentinel::new(t);
        let b = without_mount(t.bundle(), "/dev");
        sentinel.link(&b, "dev/console", "empty/new");
        on_terminal(b);
        sentinel.is_untouched();
    })
    .at("CVE-2026-88264");
    s.case("/dev/null that is a link does not lead the streams to a file of the host", |t| {
        let sentinel = Sentinel::new(t);
        let b = without_mount(t.bundle(), "/dev");
        sentinel.link(&b, "dev/null", "null");
        let b = b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let run = b
            .command("run", &[])
            .stdout(std::fs::File::options().write(true).open("/dev/null").unwrap());
        let _ = run.done();
        sentinel.is_untouched();
    })
    .at("CVE-2026-88265");
    s.case("/dev/null that is a link to another mount does not change that one's owner", |t| {
        let sentinel = Sentinel::new(t);
        let b = without_mount(t.bundle(), "/dev");
        link(&b, "dev/null", "/bound/null");
        let b = b.mount("/bound", "none", &sentinel.at(""), &["bind"]);
        let b = b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let _ = b.command("run", &[]).stdin(null()).stdout(null()).done();
        sentinel.is_untouched();
    })
    .at("CVE-2026-88265");
    s.case("/dev/console is a terminal though /dev/pts is the attacker's", |t| {
        let sentinel = Sentinel::new(t);
        let b = without_mount(t.bundle(), "/dev/pts");
        for number in 0..64 {
            std::os::unix::fs::symlink("/etc/passwd", sentinel.dir.join(format!("pts/{number}")))
                .unwrap();
        }
        let b = b.mount("/dev/pts", "none", &sentinel.at("pts"), &["bind"]);
        let stat = on_terminal(b.payload(&["stat /dev/console", "echo end"]));
        for reply in stat {
            let kind = &reply.value["kind"];
            assert!(
                kind != "file",
                "/dev/console is what a link in /dev/pts leads to: {}",
                reply.value
            );
        }
    })
    .at("CVE-2025-52565");
}

/// Runs it with a terminal; gives the payload's answers, if there are any.
fn on_terminal(b: Bundle<'_>) -> Vec<payload::Reply> {
    let socket = ConsoleSocket::listen(b.test);
    let b = b.set("/process/terminal", json!(true));
    let done =
        b.command("run", &["--detach", "--console-socket", socket.path.to_str().unwrap()]).done();
    if !done.status.success() {
        return Vec::new();
    }
    let text = crate::console::read_until(&mut socket.accept().master, "");
    payload::replies(&text)
}

fn masked(t: &Test) -> Bundle<'_> {
    let b = without_mount(t.bundle(), "/dev").file("/secret", "secret of the container", 0o644);
    b.file("/directory/secret", "secret of the container", 0o644)
        .set("/linux/maskedPaths", json!(["/secret", "/directory", "/proc/kcore"]))
}

fn unmasked(b: Bundle<'_>) {
    let done = b
        .payload(&[
            "read /secret",
            "write /secret changed",
            "read /directory/secret",
            "stat /secret",
        ])
        .run();
    assert!(!done.stdout.contains("secret of the container"), "a masked file was read: {done}");
    if let Some(stat) = payload::replies(&done.stdout).get(3) {
        let found = (&stat.value["kind"], &stat.value["major"], &stat.value["minor"]);
        assert!(found.0 != "file", "the mask is an ordinary file: {done}");
        assert_eq!(
            found,
            (&json!("char"), &json!(1), &json!(3)),
            "the mask is another device: {done}"
        );
    }
}

/// Masks, where the image decides what /dev/null is.
fn masks(s: &mut Section<'_>) {
    s.section_at("CVE-2025-31133");
    s.case("masks hold though /dev/null is a link to another file", |t| {
        let b = masked(t).file("/dev/x", "", 0o666);
        link(&b, "dev/null", "/etc/passwd");
        unmasked(b);
    });
    s.case("masks hold though /dev/null is a link into procfs", |t| {
        let b = masked(t);
        // A setting of the container's own namespace: what a runtime does to it harms nobody.
        link(&b, "dev/null", "/proc/sys/kernel/domainname");
        unmasked(b);
    });
    s.case("masks hold though /dev/null is an ordinary file", |t| {
        unmasked(masked(t).file("/dev/null", "", 0o666));
    });
    s.case("masks hold though /dev/null is another device", |t| {
        let b = masked(t);
        let path = b.rootfs().join("dev/null");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let zero = nix::sys::stat::makedev(1, 5);
        if nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, zero).is_err() {
            crate::suite::skip("no device can be made here");
        }
        unmasked(b);
    });
    s.case("masks hold though there is no /dev/null", |t| unmasked(masked(t)));
    s.case("masks and read-only paths through a link to the host stay inside", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle();
        sentinel.link(&b, "v", "full");
        let b = b
            .set("/linux/maskedPaths", json!(["/v/file"]))
            .set("/linux/readonlyPaths", json!(["/v"]));
        let done = b.payload(&["read /v/file"]).run();
        confined(&done);
        sentinel.is_untouched();
    });
}

/// /proc and /sys that are not what the runtime believes.
fn procfs(s: &mut Section<'_>) {
    s.section_at("CVE-2019-19921, CVE-2023-27561, CVE-2023-28642");
    for name in ["proc", "sys"] {
        for to in ["/bad", "/", "sys/../bad"] {
            s.case(
                format!("/{name} that is a link to {to} is refused, or masks hold all the same"),
                move |t| {
                    let b = t.bundle().file("/bad/x", "", 0o644);
                    link(&b, name, to);
                    let masked = if name == "proc" { "/proc/keys" } else { "/sys/firmware" };
                    let done = b
                        .payload(&[
                            "statfs /bad",
                            &format!("ls {masked}"),
                            &format!("read {masked}"),
                        ])
                        .run();
                    let replies = payload::replies(&done.stdout);
                    if done.status.success() && replies.len() == 3 {
                        // procfs at another place has keys without a mask.
                        let real = [0x9fa0, 0x6265_6572]
                            .contains(&replies[0].value["type"].as_i64().unwrap_or(0));
                        let open = replies[1].value.as_array().is_some_and(|l| !l.is_empty())
                            || replies[2].value.as_str().is_some_and(|text| !text.is_empty());
                        assert!(!real || !open, "{masked} is open: {done}");
                    }
                },
            );
        }
    }
    s.section_at("CVE-2025-52881, CVE-2025-62596");
    s.case("sysctl is set, or nothing starts, though /proc is the attacker's", |t| {
        let b =
            without_mount(t.bundle(), "/proc").file("/proc/sys/net/ipv4/ip_forward", "0", 0o666);
        let b = b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        let b = b
            .mount("/real", "proc", "proc", &[])
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        let done = b.payload(&["read /real/sys/net/ipv4/ip_forward"]).run();
        if let Some(reply) = payload::replies(&done.stdout).first() {
            assert_eq!(reply.text(), "1\n", "it runs without the setting: {done}");
        }
    });
    s.case("OOM score is set, or nothing starts, though /proc is the attacker's", |t| {
        let b = without_mount(t.bundle(), "/proc").file("/proc/self/oom_score_adj", "0", 0o666);
        let b = b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        let b = b.mount("/real", "proc", "proc", &[]).set("/process/oomScoreAdj", json!(777));
        let done = b.payload(&["read /real/self/oom_score_adj"]).run();
        if let Some(reply) = payload::replies(&done.stdout).first() {
            assert_eq!(reply.text(), "777\n", "it runs without the score: {done}");
        }
    });
    for target in ["/proc/self/attr", "/proc/sys", "/proc/self", "/proc/thread-self", "/proc/1"] {
        s.case(format!("mount of the attacker's directory on {target} is refused or has no effect on what is set"), move |t| {
            let sentinel = Sentinel::new(t);
            let b = t.bundle().mount(target, "none", &sentinel.at("full"), &["bind"]);
            let b = b.mount("/real", "proc", "proc", &[]);
            let b = b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).set("/process/oomScoreAdj", json!(777));
            let done = b.payload(&["read /real/sys/net/ipv4/ip_forward", "read /real/self/oom_score_adj"]).run();
            let replies = payload::replies(&done.stdout);
            if replies.len() == 2 {
                assert_eq!((replies[0].text(), replies[1].text()), ("1\n", "777\n"), "{done}");
            }
            sentinel.is_untouched();
        });
    }
}

/// Names that mean something else elsewhere.
fn names(s: &mut Section<'_>) {
    s.section_at("CVE-2016-3697");
    s.case("user 1000 is 1000 though a user of that name is root", |t| {
        let b = t.bundle().file("/etc/passwd", "1000:x:0:0::/:/bin/sh\n", 0o644);
        let b = b.file("/etc/group", "1000:x:0:1000\n", 0o644);
        let found = b.set("/process/user", json!({"uid": 1000, "gid": 1000})).facts();
        assert_eq!((&found["uid"], &found["gid"]), (&json!(1000), &json!(1000)));
    });
    for user in ["1", "1:1", "1000:0", "65534"] {
        s.case(format!("exec --user {user} is not root"), move |t| {
            let c = t.bundle().sleeping().run_detached();
            let found = c.exec_facts(&["--user", user]);
            let want: i64 = user.split(':').next().unwrap().parse().unwrap();
            assert_eq!((found.number("uid"), found.number("euid")), (want, want));
            assert_eq!(found.set("CapEff"), 0, "capabilities are left");
        })
        .at("CVE-2026-30892");
    }
    s.section_at("CVE-2022-0811");
    for name in [
        "net/ipv4/../../kernel/core_pattern",
        "net.ipv4.../../kernel/core_pattern",
        "kernel.shm/../core_pattern",
        "net/../kernel/core_pattern",
    ] {
        s.case(format!("sysctl {name} is refused"), move |t| {
            // The value that is there already: even a runtime that writes it changes nothing.
            let same = super::text("/proc/sys/kernel/core_pattern");
            let done = t.bundle().set("/linux/sysctl", json!({name: same.trim_end()})).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
    s.section_at("CVE-2021-43784");
    for length in [65_535, 65_536, 70_000] {
        s.case(format!("argument of {length} bytes does not change the namespaces"), move |t| {
            let b = t
                .bundle()
                .push("/process/args", json!("facts"))
                .push("/process/args", json!("x".repeat(length)));
            namespaces_hold(&b);
        });
        s.case(format!("namespace path of {length} bytes is refused"), move |t| {
            let path = format!("/proc/self/ns/{}net", "./".repeat(length / 2));
            let b = t.bundle().without_namespace("network");
            let b = b.push("/linux/namespaces", json!({"type": "network", "path": path}));
            assert!(!b.try_create().status.success());
        });
    }
    s.case("five thousand variables do not change the namespaces", |t| {
        let many: Vec<_> = (0..5000).map(|n| format!("V{n}=value")).collect();
        let b = t.bundle().push("/process/args", json!("facts"));
        namespaces_hold(&b.set("/process/env", json!(many)));
    });
    s.section_at("runc 1.5.2, crun 1.29");
    for path in ["../", "../..", "/../../x", "a/../../.."] {
        s.case(format!("exec --cgroup {path} does not leave the container's cgroup"), move |t| {
            let c = t.bundle().sleeping().run_detached();
            let done = c.call("exec", &["--cgroup", path], &[PATH, "read /proc/self/cgroup"]);
            if let Some(reply) = payload::replies(&done.stdout).first() {
                assert!(!reply.text().contains(".."), "{done}");
            }
        });
    }
}

/// Each namespace that the config asks for is a new one, if the program runs at all.
fn namespaces_hold(b: &Bundle<'_>) {
    let done = b.run();
    let Some(reply) = payload::replies(&done.stdout).into_iter().next() else { return };
    let own = i32::try_from(std::process::id()).unwrap();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let host = crate::proc::namespace(own, kind).unwrap();
        assert_ne!(reply.ok()["ns"][kind], host.as_str(), "the {kind} namespace is the host's");
    }
}
