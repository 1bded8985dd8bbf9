//! The process: config.md, and how it starts.

use serde_json::{Value, json};

use super::section;
use crate::Test;
use crate::suite::host::Need;
use crate::suite::payload::{Facts, PATH};
use crate::suite::{Case, Section};

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "process", "config.md#process");
    arguments(&mut s);
    environment(&mut s);
    directory(&mut s);
    state_at_start(&mut s);
    scheduling(&mut s);
    streams(&mut s);
    let mut s = section(list, "users", "config.md#posix-platform-user");
    users(&mut s);
}

fn with(t: &Test, pointer: &str, value: Value) -> Facts {
    t.bundle().set(pointer, value).facts()
}

fn arguments(s: &mut Section<'_>) {
    s.case("arguments arrive as they are, empty and with blanks too", |t| {
        let args = json!([PATH, "facts", "echo ", "echo a  b\n\t\"c\"", "echo ä"]);
        let done = t.bundle().set("/process/args", args.clone()).run().ok();
        let facts = crate::suite::payload::replies(&done.stdout).remove(0);
        assert_eq!(facts.ok()["args"], args);
    });
    s.case("program without a slash is looked up in PATH of the config", |t| {
        let b = t.bundle().file("/opt/x/y", "", 0o644);
        let to = b.rootfs().join("opt/x/tool");
        crate::suite::payload::install(&to);
        let b = b.set("/process/env", json!(["PATH=/nowhere:/opt/x"]));
        assert_eq!(b.set("/process/args", json!(["tool"])).run().code(), 0);
    });
    s.case("first argument need not be the file's name", |t| {
        let b = t.bundle();
        std::os::unix::fs::symlink("payload", b.rootfs().join("other")).unwrap();
        let done = b.set("/process/args", json!(["/other", "facts"])).run().ok();
        let facts = crate::suite::payload::replies(&done.stdout).remove(0);
        assert_eq!(facts.ok()["args"][0], "/other");
    });
    for (what, args) in [
        ("program that does not exist", json!(["/nosuch"])),
        ("program that is in no directory of PATH", json!(["nosuch"])),
        ("program that is a directory", json!(["/etc"])),
        ("program that is not executable", json!(["/etc/passwd"])),
        ("empty list of arguments", json!([])),
    ] {
        s.case(format!("create refuses a {what}"), move |t| {
            let done = t.bundle().set("/process/args", args.clone()).try_create();
            assert!(!done.status.success() && !done.stderr.is_empty(), "{done}");
        });
    }
    for (what, args, text) in [
        ("that does not exist", "/nosuch", "no such file or directory"),
        ("that is in no directory of PATH", "nosuch", "executable file not found in $PATH"),
        ("that is not executable", "/etc/passwd", "permission denied"),
    ] {
        s.case(format!("message about a program {what} is what engines look for"), move |t| {
            let done = t.bundle().set("/process/args", json!([args])).try_create();
            let said = done.stderr.to_lowercase();
            assert!(said.contains(&text.to_lowercase()), "{done}");
        })
        .at("runc create");
    }
    s.case("start of a container without a process is refused", |t| {
        let b = t.bundle().remove("/process");
        if b.try_create().status.success() {
            assert!(!t.call(&["start", &b.id]).status.success());
        }
    })
    .at("runtime.md#start");
}

fn environment(s: &mut Section<'_>) {
    s.case("environment is that of the config", |t| {
        let facts = with(t, "/process/env", json!(["A=1", "B=two words", "C=", "D==x="]));
        for (name, value) in [("A", "1"), ("B", "two words"), ("C", ""), ("D", "=x=")] {
            assert_eq!(facts.env(name), Some(value), "{name}");
        }
    });
    s.case("environment of the runtime does not reach the program", |t| {
        let b = t.bundle().payload(&["facts"]);
        let done = b.command("run", &[]).env("LEAK_ME", "yes").done().ok();
        assert!(!done.stdout.contains("LEAK_ME"), "it did");
    });
    s.case("HOME is set where the config does not set it", |t| {
        let facts = t.bundle().facts();
        assert_eq!(facts.env("HOME"), Some("/root"));
    })
    .at("runc create");
    s.case("HOME of the config stays", |t| {
        let facts = with(t, "/process/env", json!(["HOME=/elsewhere"]));
        assert_eq!(facts.env("HOME"), Some("/elsewhere"));
    });
    for bad in ["NOVALUE", "=x"] {
        s.case(format!("variable {bad:?} is refused"), move |t| {
            let done = t.bundle().set("/process/env", json!([bad])).try_create();
            assert!(!done.status.success(), "{done}");
        })
        .at("runc create");
    }
}

fn directory(s: &mut Section<'_>) {
    s.case("program starts in its working directory", |t| {
        assert_eq!(with(t, "/process/cwd", json!("/home"))["cwd"], "/home");
    });
    s.case("working directory that is not there is made", |t| {
        assert_eq!(with(t, "/process/cwd", json!("/a/new/one"))["cwd"], "/a/new/one");
    })
    .at("runc create");
    for (what, cwd) in [("relative", "home"), ("empty", "")] {
        s.case(format!("{what} working directory is refused"), move |t| {
            let done = t.bundle().set("/process/cwd", json!(cwd)).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
    s.case("working directory that is a file is refused", |t| {
        let done = t.bundle().set("/process/cwd", json!("/etc/passwd")).try_create();
        assert!(!done.status.success(), "{done}");
    });
}

fn state_at_start(s: &mut Section<'_>) {
    for value in [true, false] {
        s.case(format!("noNewPrivileges is {value} as the config says"), move |t| {
            let facts = with(t, "/process/noNewPrivileges", json!(value));
            assert_eq!(facts["no_new_privs"], i32::from(value));
        });
    }
    for value in [100, 1000] {
        s.case(format!("oomScoreAdj {value} is the process's"), move |t| {
            let facts = with(t, "/process/oomScoreAdj", json!(value));
            assert_eq!(facts.text("oom_score_adj"), value.to_string());
        });
    }
    s.case("oomScoreAdj is the caller's where the config names none", |t| {
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        assert_eq!(t.bundle().facts().text("oom_score_adj"), own.trim());
    });
    for (mask, name) in [(0o027, "027"), (0o077, "077"), (0, "000")] {
        s.case(format!("umask {name} is the process's"), move |t| {
            let facts = with(t, "/process/user", json!({"uid": 0, "gid": 0, "umask": mask}));
            assert_eq!(facts["umask"], mask);
        })
        .at("config.md#posix-platform-user");
    }
    s.case("umask is 022 where the config names none, whatever the caller's is", |t| {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let b = t.bundle();
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let b = b.payload(&["facts"]);
        b.write();
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let done = b.command("run", &[]).done();
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let facts = crate::suite::payload::replies(&done.ok().stdout).remove(0);
        assert_eq!(facts.ok()["umask"], 0o022);
    })
    .at("runc create");
    s.case("no signal is blocked or ignored, though the caller ignores some", |t| {
        sys::ignore(&[libc::SIGUSR1, libc::SIGTERM, libc::SIGHUP]);
        let facts = t.bundle().facts();
        assert_eq!(facts.set("SigBlk"), 0, "blocked");
        // The payload is a Rust program, which ignores SIGPIPE (13) itself.
        assert_eq!(facts.set("SigIgn") & !(1 << 12), 0, "ignored");
    });
    s.case("program leads a session of its own", |t| {
        let facts = t.bundle().facts();
        assert_eq!((&facts["sid"], &facts["pgid"]), (&json!(1), &json!(1)));
    });
    s.case("program does not die with the runtime", |t| {
        assert_eq!(t.bundle().facts()["death_signal"], 0);
    });
    s.case("program's securebits and keep-capabilities flag are clear", |t| {
        let facts = t.bundle().facts();
        assert_eq!((&facts["securebits"], &facts["keep_caps"]), (&json!(0), &json!(0)));
    });
    s.case("program has no descriptor but its three streams", |t| {
        let facts = t.bundle().facts();
        let fds: Vec<_> = facts["fds"].as_array().unwrap().iter().map(|f| &f["fd"]).collect();
        assert_eq!(fds, [0, 1, 2], "{}", facts["fds"]);
    });
    s.case("program is not the runtime's executable", |t| {
        assert_eq!(t.bundle().facts().text("exe"), PATH);
    });
    s.case("session keyring is not the caller's", |t| {
        let own = sys::session_keyring();
        let found = t.bundle().facts().number("session_keyring");
        assert!(found < 0 || found != own, "it is");
    })
    .at("runc create --no-new-keyring");
    s.case("personality LINUX32 makes uname say i686", |t| {
        let facts = with(t, "/linux/personality", json!({"domain": "LINUX32"}));
        assert_eq!((&facts["personality"], &facts["machine"]), (&json!(8), &json!("i686")));
    })
    .at("config-linux.md#personality");
    s.case("personality LINUX is the kernel's own", |t| {
        assert_eq!(with(t, "/linux/personality", json!({"domain": "LINUX"}))["personality"], 0);
    })
    .at("config-linux.md#personality");
    s.case("unknown personality is refused", |t| {
        let b = t.bundle().set("/linux/personality", json!({"domain": "MULTICS"}));
        assert!(!b.try_create().status.success());
    })
    .at("config-linux.md#personality");
}

fn scheduling(s: &mut Section<'_>) {
    for (policy, number) in [("SCHED_OTHER", 0), ("SCHED_BATCH", 3), ("SCHED_IDLE", 5)] {
        s.case(format!("scheduling policy {policy} is the process's"), move |t| {
            assert_eq!(with(t, "/process/scheduler", json!({"policy": policy}))["policy"], number);
        });
    }
    for policy in ["SCHED_FIFO", "SCHED_RR"] {
        s.case(format!("scheduling policy {policy} is the process's"), move |t| {
            let number = if policy == "SCHED_FIFO" { 1 } else { 2 };
            let value = json!({"policy": policy, "priority": 5});
            assert_eq!(with(t, "/process/scheduler", value)["policy"], number);
        })
        .needs(Need::Capability(23, "CAP_SYS_NICE"));
    }
    s.case("nice value is the process's", |t| {
        let value = json!({"policy": "SCHED_OTHER", "nice": 7});
        assert_eq!(with(t, "/process/scheduler", value)["nice"], 7);
    });
    s.case("unknown scheduling policy is refused", |t| {
        let b = t.bundle().set("/process/scheduler", json!({"policy": "SCHED_NOSUCH"}));
        assert!(!b.try_create().status.success());
    });
    for (class, number) in
        [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)]
    {
        s.case(format!("I/O priority class {class} is the process's"), move |t| {
            let priority = if number == 3 { 0 } else { 4 };
            let facts =
                with(t, "/process/ioPriority", json!({"class": class, "priority": priority}));
            assert_eq!(facts.number("io_priority"), number << 13 | priority);
        });
    }
    s.case("processors of the program are not those that the runtime is bound to", |t| {
        let facts = t.bundle().facts();
        let all = std::thread::available_parallelism().unwrap().get();
        assert_eq!(facts["affinity"].as_array().unwrap().len(), all);
    })
    .at("runc create");
}

fn streams(s: &mut Section<'_>) {
    s.case("standard input of run reaches the program", |t| {
        let b = t.bundle().payload(&["read-fd 0"]);
        let (read, write) = std::io::pipe().unwrap();
        let run = b.command("run", &[]).stdin(read).spawn();
        std::io::Write::write_all(&mut { write }, b"hello").unwrap();
        let done = run.done().ok();
        assert_eq!(crate::suite::payload::replies(&done.stdout)[0].text(), "hello");
    })
    .at("runc run");
    s.case("standard streams of create are the program's own", |t| {
        let c = t.bundle().payload(&["echo hello"]).create();
        let _ = c.start().ok();
        assert_eq!(c.wait_replies(1)[0].text(), "hello");
    })
    .at("runc create");
    s.case("preserved descriptors keep their numbers, others are closed", |t| {
        let b = t.bundle().payload(&["facts"]);
        b.write();
        let file = std::fs::File::open("/etc/passwd").unwrap();
        for number in 3..=6 {
            sys::duplicate(&file, number);
        }
        let done = b.command("run", &["--preserve-fds", "2"]).done().ok();
        let facts = crate::suite::payload::replies(&done.stdout).remove(0);
        let fds: Vec<_> =
            facts.ok()["fds"].as_array().unwrap().iter().map(|f| f["fd"].clone()).collect();
        assert_eq!(fds, [0, 1, 2, 3, 4]);
    })
    .at("runc run --preserve-fds");
    s.case("socket activation passes its descriptors and says so", |t| {
        let b = t.bundle().payload(&["facts"]);
        b.write();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        sys::duplicate(&socket, 3);
        // LISTEN_PID must be the runtime's own pid, which only a shell that becomes it knows.
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let run = crate::Run::new("/bin/sh", t.dir()).args(["-c", script, "sh"]).arg(t.runtime());
        let run = run.arg("--root").arg(t.root()).args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
        let done = run.done().ok();
        let facts = Facts(crate::suite::payload::replies(&done.stdout).remove(0).ok().clone());
        assert_eq!((facts.env("LISTEN_FDS"), facts.env("LISTEN_PID")), (Some("1"), Some("1")));
        assert!(facts["fds"].as_array().unwrap().iter().any(|f| f["fd"] == 3));
    })
    .at("runc run");
}

fn users(s: &mut Section<'_>) {
    for (uid, gid) in
        [(0, 0), (1000, 1000), (1, 2), (65534, 65534), (4_294_967_294_u32, 4_294_967_294_u32)]
    {
        s.case(format!("program runs as {uid}:{gid}"), move |t| {
            let facts = with(t, "/process/user", json!({"uid": uid, "gid": gid}));
            let of = |name: &str| facts.status(name).to_owned();
            assert_eq!(of("Uid"), format!("{uid} {uid} {uid} {uid}"));
            assert_eq!(of("Gid"), format!("{gid} {gid} {gid} {gid}"));
        });
    }
    s.case("additional groups are those of the config", |t| {
        let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 70000, 3]});
        let facts = with(t, "/process/user", user);
        let mut groups: Vec<_> =
            facts["groups"].as_array().unwrap().iter().map(|g| g.as_i64().unwrap()).collect();
        groups.retain(|g| *g != 1000);
        groups.sort_unstable();
        assert_eq!(groups, [3, 5, 70000]);
    });
    s.case("groups of the caller do not reach the program", |t| {
        let gids = [4242.into(), 4343.into()];
        nix::unistd::setgroups(&gids).unwrap();
        let facts = with(t, "/process/user", json!({"uid": 1000, "gid": 1000}));
        let groups = facts["groups"].as_array().unwrap();
        assert!(!groups.contains(&json!(4242)) && !groups.contains(&json!(4343)), "{groups:?}");
    });
    s.case("numbers count, not names in the container's passwd", |t| {
        let passwd = "1000:x:0:0::/:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n";
        let b = t.bundle().file("/etc/passwd", passwd, 0o644);
        let facts = b.set("/process/user", json!({"uid": 1000, "gid": 1000})).facts();
        assert_eq!((&facts["uid"], &facts["gid"]), (&json!(1000), &json!(1000)));
    });
    s.case("user other than root writes where it may and nowhere else", |t| {
        let b = t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let replies = b.acts(&["create /tmp/x y", "create /etc/x y"]);
        let _ = replies[0].ok();
        replies[1].fails(&[libc::EACCES]);
    });
    s.case("standard streams can be opened again by a user other than root", |t| {
        let b = t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let b = b.payload(&["open /proc/self/fd/1 w"]);
        let done = b.run().ok();
        let _ = crate::suite::payload::replies(&done.stdout)[0].ok();
    })
    .at("runc run");
    for (what, user) in [
        ("negative user id", json!({"uid": -1, "gid": 0})),
        ("user id above 32 bits", json!({"uid": 4_294_967_296_u64, "gid": 0})),
        ("group id above 32 bits", json!({"uid": 0, "gid": 4_294_967_296_u64})),
        ("user id that is text", json!({"uid": "0", "gid": 0})),
    ] {
        s.case(format!("{what} is refused"), move |t| {
            let done = t.bundle().set("/process/user", user.clone()).run();
            assert!(!done.status.success(), "{done}");
        });
    }
}

pub(super) use sys::duplicate;

mod sys {
    #![allow(unsafe_code)]
    use std::os::fd::AsRawFd;

    /// The serial number of this process's session keyring.
    pub(super) fn session_keyring() -> i64 {
        // SAFETY: KEYCTL_GET_KEYRING_ID (0) of KEY_SPEC_SESSION_KEYRING (-3) takes numbers only.
        unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0, 0, 0) }
    }

    /// Ignores signals, as programs do that this one executes.
    pub(super) fn ignore(signals: &[i32]) {
        for signal in signals {
            // SAFETY: SIG_IGN is no handler: nothing of this program runs when the signal comes.
            unsafe { libc::signal(*signal, libc::SIG_IGN) };
        }
    }

    /// Makes a descriptor that a program executed from here gets under this number.
    pub(in crate::cases) fn duplicate(file: &impl AsRawFd, number: i32) {
        // SAFETY: a case's process is its own and knows which numbers it uses: those below ten are free but for the
        // streams and `file` itself; where `file` has the number, its close-on-exec flag is cleared instead.
        unsafe {
            if file.as_raw_fd() == number {
                libc::fcntl(number, libc::F_SETFD, 0);
            } else {
                libc::dup2(file.as_raw_fd(), number);
            }
        }
    }
}
