//! Terminals: config.md, and the console socket of runc's command line.

use serde_json::json;

use super::section;
use crate::console::{ConsoleSocket, read_until};
use crate::suite::payload::{self, Facts};
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

fn bundle(t: &Test) -> Bundle<'_> {
    t.bundle().set("/process/terminal", json!(true))
}

/// What the payload says on the terminal that comes through a console socket.
fn on_terminal(b: Bundle<'_>, actions: &[&str]) -> Vec<payload::Reply> {
    let socket = ConsoleSocket::listen(b.test);
    let mut all = actions.to_vec();
    all.push("echo the-end");
    let b = b.payload(&all);
    let path = socket.path.to_str().unwrap();
    let _ = b.command("run", &["--detach", "--console-socket", path]).done().ok();
    let mut console = socket.accept();
    let text = read_until(&mut console.master, "the-end\"}");
    let mut replies = payload::replies(&text);
    replies.truncate(actions.len());
    assert_eq!(replies.len(), actions.len(), "{text}");
    replies
}

fn facts(b: Bundle<'_>) -> Facts {
    Facts(on_terminal(b, &["facts"]).remove(0).ok().clone())
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "terminal", "config.md#process");
    s.case("streams are a terminal", |t| {
        assert_eq!(facts(bundle(t))["tty"], json!([true, true, true]));
    });
    s.case("streams are no terminal without one", |t| {
        assert_eq!(t.bundle().facts()["tty"], json!([false, false, false]));
    });
    s.case("terminal has the size of the config", |t| {
        let b = bundle(t).set("/process/consoleSize", json!({"height": 33, "width": 77}));
        assert_eq!(facts(b)["window"], json!([33, 77]));
    });
    s.case("consoleSize without a terminal has no effect", |t| {
        let b = t.bundle().set("/process/consoleSize", json!({"height": 33, "width": 77}));
        let _ = b.facts();
    });
    s.case("terminal is the controlling one of the program's session", |t| {
        let found = facts(bundle(t));
        // The seventh field of stat, after the name in brackets, is the terminal's device: 136:0 is pts/0.
        let stat = found.text("stat").rsplit_once(") ").unwrap().1.to_owned();
        assert_eq!(stat.split(' ').nth(4), Some("34816"), "{stat}");
        assert_eq!(found["sid"], 1);
    });
    s.case("/dev/tty can be opened", |t| {
        let _ = on_terminal(bundle(t), &["open /dev/tty rw"])[0].ok();
    });
    s.case("/dev/console is the terminal", |t| {
        let stat = on_terminal(bundle(t), &["stat /dev/console"]).remove(0);
        assert_eq!((&stat.ok()["kind"], &stat.ok()["major"]), (&json!("char"), &json!(136)));
    });
    s.case("terminal belongs to the container's devpts", |t| {
        let replies = on_terminal(bundle(t), &["readlink /proc/self/fd/0", "ls /dev/pts"]);
        assert!(replies[0].text().starts_with("/dev/pts/"), "{:?}", replies[0]);
        assert_eq!(*replies[1].ok(), json!(["0", "ptmx"]));
    });
    s.case("terminal belongs to the program's user", |t| {
        let b = bundle(t).set("/process/user", json!({"uid": 1000, "gid": 1000}));
        assert_eq!(on_terminal(b, &["stat /dev/pts/0"])[0].ok()["uid"], 1000);
    })
    .at("runc create");
    s.case("program with a terminal has no descriptor but its three streams", |t| {
        let found = facts(bundle(t));
        let fds: Vec<_> = found["fds"].as_array().unwrap().iter().map(|f| &f["fd"]).collect();
        assert_eq!(fds, [0, 1, 2]);
    });
    socket(&mut s);
}

fn socket(s: &mut Section<'_>) {
    s.section_at("runc create --console-socket");
    s.case("what is typed reaches the program", |t| {
        let socket = ConsoleSocket::listen(t);
        let b = bundle(t).payload(&["read-fd 0", "echo the-end"]);
        let path = socket.path.to_str().unwrap();
        let _ = b.command("run", &["--detach", "--console-socket", path]).done().ok();
        let mut master = socket.accept().master;
        std::io::Write::write_all(&mut master, b"typed\n").unwrap();
        let text = read_until(&mut master, "the-end\"}");
        assert!(text.contains("typed\\n"), "{text}");
    });
    s.case("create with a terminal and without a console socket is refused", |t| {
        let done = bundle(t).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("console socket that does not exist is refused", |t| {
        let b = bundle(t);
        let done = b.command("create", &["--console-socket", "/no/such.sock"]).done();
        assert!(!done.status.success(), "{done}");
        b.assert_nothing_left();
    });
    s.case("master arrives before anybody accepts", |t| {
        let socket = ConsoleSocket::listen(t);
        let b = bundle(t).sleeping();
        let path = socket.path.to_str().unwrap();
        let _ = b.command("create", &["--console-socket", path]).done().ok();
        let _ = socket.accept();
    });
    s.case("exec with a terminal hands over one of its own", |t| {
        let c = t.bundle().sleeping().run_detached();
        let socket = ConsoleSocket::listen(t);
        let path = socket.path.to_str().unwrap();
        let file = c.bundle.dir.join("exec.pid");
        let pid_file = file.to_str().unwrap();
        let flags = ["--tty", "--detach", "--pid-file", pid_file, "--console-socket", path];
        let _ = c.call("exec", &flags, &[payload::PATH, "facts", "echo the-end"]).ok();
        let text = read_until(&mut socket.accept().master, "the-end\"}");
        let found = payload::replies(&text).remove(0);
        // As a shim does: the container could not end else.
        let pid = std::fs::read_to_string(file).unwrap().parse().expect("digits");
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert_eq!(found.ok()["tty"], json!([true, true, true]));
    })
    .at("runc exec --tty");
}
