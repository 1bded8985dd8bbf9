//! The life of a container: runtime.md.

use nix::sys::wait::WaitStatus;

use super::section;
use crate::proc::is_gone;
use crate::run::wait_for;
use crate::suite::{Case, Section};
use crate::{Bundle, Container, Test};

/// Signals that a program can be told, by name and number (x86_64 and most others).
const SIGNALS: [(&str, i32); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("URG", 23),
    ("WINCH", 28),
    ("IO", 29),
];

/// Ids that the command line of runc takes, and those that it must not.
const GOOD_IDS: [&str; 5] = ["a", "A-b_c.d", "0", "a+b", "-x."];
const BAD_IDS: [&str; 8] = ["..", ".", "../x", "a/b", "/x", "a b", "a\nb", "ä"];

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "lifecycle", "runtime.md#lifecycle");
    created(&mut s);
    running(&mut s);
    stopped(&mut s);
    signals(&mut s);
    ids(&mut s);
    exits(&mut s);
}

fn marker(t: &Test) -> Bundle<'_> {
    t.bundle().payload(&["create /started yes", "forever"])
}

/// A container that has ended with this exit code and was reaped.
fn ended(t: &Test, code: i32) -> Container<'_> {
    let action = format!("exit {code}");
    let c = t.bundle().payload(&[action.as_str()]).create();
    let _ = c.start().ok();
    assert!(matches!(c.reap(), WaitStatus::Exited(_, found) if found == code));
    c
}

fn created(s: &mut Section<'_>) {
    s.case("create does not run the program, start does", |t| {
        let c = marker(t).create();
        assert!(!c.bundle.rootfs().join("started").exists(), "it ran before start");
        let _ = c.start().ok();
        wait_for("the program", || c.bundle.rootfs().join("started").exists());
    });
    s.case("state of a created container is created", |t| {
        assert_eq!(marker(t).create().status(), "created");
    });
    s.case("pid of a created container is that of its process", |t| {
        let c = marker(t).create();
        assert_eq!(c.state()["pid"], c.pid);
        assert!(!is_gone(c.pid), "no process {}", c.pid);
    });
    s.case("create with an id in use fails and leaves the first container alone", |t| {
        let c = marker(t).create();
        let done = t.command(["create", "--bundle"]).arg(&c.bundle.dir).arg(&c.bundle.id).done();
        assert!(!done.status.success(), "{done}");
        assert_eq!(c.status(), "created");
        let _ = c.start().ok();
    })
    .at("runtime.md#create");
    s.case("create without a bundle's config fails", |t| {
        let b = t.bundle();
        let done = t.command(["create", "--bundle"]).arg(&b.dir).arg(&b.id).done();
        assert!(!done.status.success() && done.stderr.contains("config.json"), "{done}");
        b.assert_nothing_left();
    })
    .at("runtime.md#create");
    s.case("changes of config.json after create have no effect", |t| {
        let c = t.bundle().payload(&["echo first"]).create();
        let path = c.bundle.dir.join("config.json");
        let text = std::fs::read_to_string(&path).unwrap().replace("echo first", "echo second");
        std::fs::write(path, text).unwrap();
        let _ = c.start().ok();
        assert_eq!(c.wait_replies(1)[0].text(), "first");
    })
    .at("runtime.md#create");
    s.case("created container can be killed", |t| {
        let c = marker(t).create();
        let _ = c.kill("KILL").ok();
        c.wait_gone();
        let _ = c.reap();
        assert_eq!(c.status(), "stopped");
    })
    .at("runtime.md#kill");
    s.case("created container ends by SIGTERM", |t| {
        let c = marker(t).create();
        let _ = c.kill("TERM").ok();
        c.wait_gone();
    })
    .at("runc kill");
    s.case("pid file holds the pid's digits and nothing else", |t| {
        let c = marker(t).create();
        assert_eq!(std::fs::read_to_string(c.bundle.dir.join("pid")).unwrap(), c.pid.to_string());
    })
    .at("runc create --pid-file");
    s.case("init is a child of the runtime's caller", |t| {
        let c = marker(t).create();
        let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid)).unwrap();
        let parent = crate::proc::status(&status)["PPid"].clone();
        assert_eq!(parent, std::process::id().to_string());
    })
    .at("runc create");
}

fn running(s: &mut Section<'_>) {
    s.case("state of a running container is running", |t| {
        let c = marker(t).run_detached();
        assert_eq!(c.status(), "running");
    });
    s.case("start of a running container fails", |t| {
        let c = marker(t).run_detached();
        let done = c.start();
        assert!(!done.status.success(), "{done}");
        assert_eq!(c.status(), "running");
    })
    .at("runtime.md#start");
    s.case("delete of a running container fails and has no effect", |t| {
        let c = marker(t).run_detached();
        let done = c.delete();
        assert!(!done.status.success(), "{done}");
        assert_eq!(c.status(), "running");
    })
    .at("runtime.md#delete");
    s.case("delete --force ends a running container", |t| {
        let c = marker(t).run_detached();
        let _ = c.call("delete", &["--force"], &[]).ok();
        assert!(is_gone(c.pid), "the process lives");
        c.bundle.assert_nothing_left();
    })
    .at("runc delete --force");
    s.case("two containers of one bundle live side by side", |t| {
        let c = marker(t).run_detached();
        let other = format!("{}-b", c.bundle.id);
        let config = c.bundle.dir.join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        let path = format!("orlop-conformance/{}", c.bundle.id);
        std::fs::write(config, text.replace(&path, &format!("{path}-b"))).unwrap();
        let _ = t.command(["create", "--bundle"]).arg(&c.bundle.dir).arg(&other).done().ok();
        assert_eq!(t.call(&["state", &other]).ok().json()["status"], "created");
        assert_eq!(c.status(), "running");
        let _ = t.call(&["delete", "--force", &other]).ok();
    });
    s.case("list names the container with its pid and status", |t| {
        let c = marker(t).run_detached();
        let list = t.call(&["list", "--format", "json"]).ok().json();
        let own = &list.as_array().expect("a list")[0];
        assert_eq!(own["id"], c.bundle.id.as_str());
        assert_eq!((&own["pid"], &own["status"]), (&c.state()["pid"], &"running".into()));
    })
    .at("runc list");
    s.case("ps names the container's processes", |t| {
        let c = t.bundle().payload(&["leave", "forever"]).run_detached();
        let _ = c.wait_replies(1);
        let list = t.call(&["ps", "--format", "json", &c.bundle.id]).ok().json();
        let pids = list.as_array().expect("a list");
        assert!(pids.len() == 2 && pids.contains(&c.pid.into()), "{list}");
    })
    .at("runc ps");
    s.case("paused container is paused, and goes on when it is resumed", |t| {
        let c = t.bundle().payload(&["wait-file /go", "echo on", "forever"]).run_detached();
        let _ = c.call("pause", &[], &[]).ok();
        assert_eq!(c.status(), "paused");
        std::fs::write(c.bundle.rootfs().join("go"), "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(c.replies().is_empty(), "it ran while it was paused");
        let _ = c.call("resume", &[], &[]).ok();
        assert_eq!(c.status(), "running");
        let _ = c.wait_replies(2);
    })
    .at("runc pause");
    s.case("paused container can be deleted by force", |t| {
        let c = marker(t).run_detached();
        let _ = c.call("pause", &[], &[]).ok();
        let _ = c.call("delete", &["--force"], &[]).ok();
        assert!(is_gone(c.pid), "the process lives");
    })
    .at("runc delete --force");
}

fn stopped(s: &mut Section<'_>) {
    s.case("state of a container that has ended is stopped", |t| {
        let c = ended(t, 0);
        assert_eq!(c.status(), "stopped");
    });
    s.case("container that has ended is stopped also before anybody reaps it", |t| {
        let c = t.bundle().create();
        let _ = c.start().ok();
        c.wait_gone();
        assert_eq!(c.status(), "stopped");
    });
    s.case("exit status is that of the program", |t| {
        let _ = ended(t, 7);
    });
    s.case("stopped container can be deleted, and its id used again", |t| {
        let c = ended(t, 0);
        let _ = c.delete().ok();
        c.bundle.assert_nothing_left();
        let _ = t.command(["run", "--bundle"]).arg(&c.bundle.dir).arg(&c.bundle.id).done().ok();
    })
    .at("runtime.md#delete");
    s.case("delete takes away the cgroup", |t| {
        let c = ended(t, 0);
        assert!(c.bundle.cgroup().exists(), "no cgroup");
        let _ = c.delete().ok();
        assert!(!c.bundle.cgroup().exists(), "the cgroup stayed");
    })
    .at("runtime.md#delete");
    for (name, command) in
        [("state", "state"), ("start", "start"), ("kill", "kill"), ("delete", "delete")]
    {
        s.case(format!("{name} of a container that is not there fails"), move |t| {
            let done = t.call(&[command, "nobody"]);
            assert!(!done.status.success() && !done.stderr.is_empty(), "{done}");
        })
        .at("runtime.md#operations");
    }
    for command in ["create", "state", "start", "kill", "delete"] {
        s.case(format!("{command} without an id fails"), move |t| {
            let b = t.bundle();
            b.write();
            let mut args = vec![command];
            args.extend(
                ["--bundle", b.dir.to_str().unwrap()].iter().filter(|_| command == "create"),
            );
            let done = t.call(&args);
            assert!(!done.status.success(), "{done}");
        })
        .at("runtime.md#operations");
    }
    s.case("start of a stopped container fails", |t| {
        let c = ended(t, 0);
        let done = c.start();
        assert!(!done.status.success(), "{done}");
    })
    .at("runtime.md#start");
    s.case("kill of a stopped container fails", |t| {
        let c = ended(t, 0);
        let done = c.kill("KILL");
        assert!(!done.status.success(), "{done}");
    })
    .at("runtime.md#kill");
    s.case("kill of a stopped container leaves its state as it is", |t| {
        let c = ended(t, 0);
        let before = c.state();
        let _ = c.kill("KILL");
        assert_eq!(c.state(), before);
    })
    .at("runtime.md#kill");
    s.case("delete leaves alone what was not made with the container", |t| {
        let c = t.bundle().sleeping().create();
        let other = c.bundle.cgroup().with_file_name(format!("{}-other", c.bundle.id));
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("cgroup.procs"), c.pid.to_string()).unwrap();
        let _ = c.call("delete", &["--force"], &[]).ok();
        let _ = c.reap();
        assert!(other.exists(), "a cgroup was removed that somebody else made");
        std::fs::remove_dir(other).unwrap();
    })
    .at("runtime.md#delete");
    s.case("second delete fails", |t| {
        let c = ended(t, 0);
        let _ = c.delete().ok();
        assert!(!c.delete().status.success());
    })
    .at("runtime.md#delete");
    s.case("delete --force of what is not there succeeds", |t| {
        let _ = t.call(&["delete", "--force", "nobody"]).ok();
    })
    .at("runc delete --force");
    s.case("end of pid 1 ends its container's other processes", |t| {
        let c = t.bundle().payload(&["leave"]).create();
        let _ = c.start().ok();
        let _ = c.reap();
        wait_for("the end of all", || {
            let procs = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.procs"));
            procs.is_ok_and(|text| text.is_empty())
        });
    })
    .at("config-linux.md#namespaces");
}

fn signals(s: &mut Section<'_>) {
    for (name, number) in SIGNALS {
        s.case(format!("kill {name} reaches the program"), move |t| {
            let c = t.bundle().payload(&["signal", "forever"]).run_detached();
            let _ = c.wait_replies(1);
            let _ = c.kill(name).ok();
            assert_eq!(*c.wait_replies(2)[1].ok(), number);
        })
        .at("runtime.md#kill");
    }
    for form in ["SIGUSR1", "usr1", "10"] {
        s.case(format!("kill takes a signal as {form}"), move |t| {
            let c = t.bundle().payload(&["signal", "forever"]).run_detached();
            let _ = c.wait_replies(1);
            let _ = c.kill(form).ok();
            assert_eq!(*c.wait_replies(2)[1].ok(), 10);
        })
        .at("runc kill");
    }
    s.case("kill without a signal sends SIGTERM", |t| {
        let c = t.bundle().payload(&["signal", "forever"]).run_detached();
        let _ = c.wait_replies(1);
        let _ = c.call("kill", &[], &[]).ok();
        assert_eq!(*c.wait_replies(2)[1].ok(), 15);
    })
    .at("runc kill");
    s.case("kill of an unknown signal fails and sends none", |t| {
        let c = marker(t).run_detached();
        assert!(!c.kill("NOSUCH").status.success());
        assert_eq!(c.status(), "running");
    })
    .at("runc kill");
    s.case("kill KILL ends all processes of a container in the host's pid namespace", |t| {
        let b = t.bundle().without_namespace("pid").payload(&["leave", "forever"]);
        let c = b.run_detached();
        let other = c.wait_replies(1)[0].ok().as_i64().unwrap();
        let _ = c.kill("KILL").ok();
        wait_for("the end of both", || is_gone(c.pid) && is_gone(i32::try_from(other).unwrap()));
    })
    .at("runc kill");
}

fn ids(s: &mut Section<'_>) {
    for id in GOOD_IDS {
        s.case(format!("id {id:?} is taken"), move |t| {
            let b = t.bundle();
            b.write();
            let _ = t.command(["run", "--bundle"]).arg(&b.dir).args(["--", id]).done().ok();
        })
        .at("runc create");
    }
    for id in BAD_IDS {
        s.case(format!("id {id:?} is refused"), move |t| {
            let b = t.bundle();
            b.write();
            let done = t.command(["run", "--bundle"]).arg(&b.dir).args(["--", id]).done();
            assert!(!done.status.success(), "{done}");
        })
        .at("runc create");
    }
    s.case("empty id is refused", |t| {
        let b = t.bundle();
        b.write();
        assert!(!t.command(["run", "--bundle"]).arg(&b.dir).arg("").done().status.success());
    })
    .at("runc create");
}

fn exits(s: &mut Section<'_>) {
    for code in [0, 1, 42, 255] {
        s.case(format!("run ends with the program's exit code {code}"), move |t| {
            let action = format!("exit {code}");
            let _ = t.bundle().payload(&[action.as_str()]).run().exits(code);
        })
        .at("runc run");
    }
    for (signal, number) in [("SIGKILL", 9), ("SIGTERM", 15), ("SIGUSR1", 10)] {
        s.case(format!("run ends with 128 + {number} where {signal} ends the program"), move |t| {
            let b = t.bundle().payload(&["forever"]).without_namespace("pid");
            let running = b.command("run", &[]).spawn();
            wait_for("a running container", || {
                let done = t.call(&["state", &b.id]);
                done.status.success() && done.json()["status"] == "running"
            });
            // By the kernel, not by the runtime: a program in the host's pid namespace has default actions.
            let pid = t.call(&["state", &b.id]).ok().json()["pid"].as_i64().unwrap();
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let signal = nix::sys::signal::Signal::try_from(number).unwrap();
            nix::sys::signal::kill(pid, signal).unwrap();
            let _ = running.done().exits(128 + number);
        })
        .at("runc run");
    }
    state_fields(s);
}

fn state_fields(s: &mut Section<'_>) {
    s.case("state names the version of the specification", |t| {
        let c = marker(t).create();
        let state = c.state();
        let version = state["ociVersion"].as_str().expect("text");
        assert!(version.starts_with("1."), "{version}");
    })
    .at("runtime.md#state");
    s.case("state names the id", |t| {
        let c = marker(t).create();
        assert_eq!(c.state()["id"], c.bundle.id.as_str());
    })
    .at("runtime.md#state");
    s.case("state names the bundle by an absolute path", |t| {
        let b = marker(t);
        b.write();
        let run = t.command(["create", "--bundle", "."]).arg(&b.id).cwd(&b.dir);
        let _ = run.done().ok();
        let state = t.call(&["state", &b.id]).ok().json();
        assert_eq!(state["bundle"].as_str().unwrap(), b.dir.to_str().unwrap());
    })
    .at("runtime.md#state");
    s.case("bundle is the current directory by default", |t| {
        let b = t.bundle();
        b.write();
        let _ = t.command(["run"]).arg(&b.id).cwd(&b.dir).done().ok();
    })
    .at("runc create");
    s.case("state names the annotations", |t| {
        let b = marker(t).set("/annotations", serde_json::json!({"com.example.key": "value"}));
        assert_eq!(b.create().state()["annotations"]["com.example.key"], "value");
    })
    .at("runtime.md#state");
    s.case("state has no pid of a stopped container, or zero", |t| {
        let c = ended(t, 0);
        let pid = &c.state()["pid"];
        assert!(pid.is_null() || *pid == 0, "{pid}");
    })
    .at("runtime.md#state");
    s.case("state writes nothing to standard error", |t| {
        let c = marker(t).create();
        assert_eq!(c.call("state", &[], &[]).ok().stderr, "");
    })
    .at("runc state");
}
