//! Standard streams, terminals, and descriptors that must not leak.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{Read, Write};

use orlop_conformance::console::{ConsoleSocket, read_until};
use orlop_conformance::{Peer, Run, Test};
use serde_json::json;

#[test]
fn attached_run_hands_standard_input_on_and_its_end() {
    let Some(t) = Test::begin() else { return };
    let input = t.dir().join("in");
    std::fs::write(&input, "one\ntwo\n").unwrap();
    let bundle = t.bundle().sh("cat; echo end");
    let done = bundle.command("run", &[]).stdin(File::open(&input).unwrap()).done().ok();
    assert_eq!(done.stdout, "one\ntwo\nend\n");
}

#[test]
fn attached_run_works_on_pipes() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("cat; echo end");
    let (in_read, mut in_write) = std::io::pipe().unwrap();
    let (mut out_read, out_write) = std::io::pipe().unwrap();
    let running = bundle.command("run", &[]).stdin(in_read).stdout(out_write).spawn();
    in_write.write_all(b"through a pipe\n").unwrap();
    drop(in_write);
    let mut text = String::new();
    out_read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through a pipe\nend\n");
    let _ = running.done().ok();
}

#[test]
fn attached_run_carries_much_output_unharmed() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("dd if=/dev/zero bs=64k count=100 2>/dev/null; dd if=/dev/zero bs=64k count=50 >&2 2>/dev/null");
    let done = bundle.run();
    assert_eq!(done.stdout.len(), 100 * 65536);
}

#[test]
fn output_that_cannot_be_passed_on_is_a_failure() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "loses it silently") {
        return;
    }
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let c = t.bundle().args(&["/bin/sleep", "1000"]).run_detached();
    let bundle = t.bundle().sh("echo lost");
    let exec = t.command(["exec", &c.bundle.id, "/bin/echo", "lost"]);
    for run in [bundle.command("run", &[]), exec] {
        let done = run.stdout(full()).done();
        assert_ne!(done.code(), 0, "{done}");
        assert!(done.stderr.to_lowercase().contains("no space left on device"), "{done}");
    }
    bundle.assert_nothing_left();
}

#[test]
fn attached_run_ends_with_the_payload_even_while_input_is_open() {
    let Some(t) = Test::begin() else { return };
    let (read, write) = std::io::pipe().unwrap();
    let bundle = t.bundle().sh("echo done; exit 4");
    let done = bundle.command("run", &[]).stdin(read).done().exits(4);
    assert_eq!(done.stdout, "done\n");
    drop(write);
}

#[test]
fn created_container_inherits_the_streams_of_create() {
    let Some(t) = Test::begin() else { return };
    let (mut read, write) = std::io::pipe().unwrap();
    let bundle = t.bundle().sh("echo from the container");
    let _ = bundle.command("create", &[]).stdout(write).done().ok();
    let _ = t.call(&["start", &bundle.id]).ok();
    let mut text = String::new();
    // The end comes only when nobody, no helper of the runtime either, holds the pipe any more.
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the container\n");
}

#[test]
fn payload_has_no_descriptors_but_the_standard_ones() {
    let Some(t) = Test::begin() else { return };
    let script = "for fd in /proc/self/fd/*; do n=${fd##*/}; l=$(readlink $fd 2>/dev/null) && echo $n $l; done; true";
    // The caller leaks: a directory, a file and a pipe without close-on-exec.
    let leak = "exec 3</ 4</etc/passwd 8</proc 9</usr; exec \"$@\"";
    for command in ["run", "create"] {
        let bundle = t.bundle().sh(script);
        bundle.write();
        let run = Run::new("/bin/sh", t.dir()).args(["-c", leak, "sh"]);
        let run = run.arg(t.runtime()).arg("--root").arg(t.root()).arg(command).arg("--bundle");
        let run = run.arg(&bundle.dir).arg(&bundle.id);
        let out = run.output_file();
        let _ = run.done().ok();
        if command == "create" {
            let _ = t.call(&["start", &bundle.id]).ok();
            orlop_conformance::run::wait_for("the payload", || {
                let state = t.call(&["state", &bundle.id]).ok().json();
                state["status"] == "stopped"
            });
        }
        let text = orlop_conformance::run::lossy(&out);
        let mut numbers: Vec<_> = text.lines().map(|l| l.split(' ').next().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["0", "1", "2"], "{command}: {text}");
        let _ = t.call(&["delete", "--force", &bundle.id]).ok();
    }
}

#[test]
fn created_init_holds_no_descriptor_of_the_callers() {
    let Some(t) = Test::begin() else { return };
    let leak = "exec 3</ 4</etc/passwd 9</usr; exec \"$@\"";
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    bundle.write();
    let pid_file = bundle.dir.join("pid");
    let run = Run::new("/bin/sh", t.dir()).args(["-c", leak, "sh"]).arg(t.runtime());
    let run = run.arg("--root").arg(t.root()).args(["create", "--bundle"]).arg(&bundle.dir);
    let _ = run.arg("--pid-file").arg(&pid_file).arg(&bundle.id).done().ok();
    let pid = std::fs::read_to_string(pid_file).unwrap();
    if t.differs(&[Peer::Crun], "keeps them open until execve") {
        return;
    }
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let link = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        assert!(link != "/" && link != "/usr" && link != "/etc/passwd", "{link}");
    }
}

#[test]
fn preserved_descriptors_keep_their_numbers() {
    let Some(t) = Test::begin() else { return };
    let file = t.dir().join("kept");
    std::fs::write(&file, "kept\n").unwrap();
    let bundle = t.bundle().sh("cat <&3; ls /proc/self/fd | wc -l");
    bundle.write();
    let open = "exec 3<\"$0\" 4</; exec \"$@\"";
    let run = Run::new("/bin/sh", t.dir()).args(["-c", open]).arg(&file).arg(t.runtime());
    let run = run.arg("--root").arg(t.root()).args(["run", "--preserve-fds", "1", "--bundle"]);
    let done = run.arg(&bundle.dir).arg(&bundle.id).done().ok();
    // 0, 1, 2, 3 and the directory that ls reads.
    assert_eq!(done.stdout, "kept\n5\n");
}

#[test]
fn terminal_is_sent_over_the_console_socket() {
    let Some(t) = Test::begin() else { return };
    let socket = ConsoleSocket::listen(&t);
    let script = "tty; stty size; ls -l /dev/console | cut -c1; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && \
                  echo all; read line; echo \"got $line\"";
    let bundle = t
        .bundle()
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 77}))
        .sh(script);
    let path = socket.path.to_str().unwrap();
    // Nobody accepts while create runs: the runtime may not wait for its peer.
    let _ = bundle.command("create", &["--console-socket", path]).done().ok();
    let mut console = socket.accept();
    assert!(!console.payload.is_empty());
    let _ = t.call(&["start", &bundle.id]).ok();
    let text = read_until(&mut console.master, "all");
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
    assert!(text.contains("33 77"), "{text}");
    assert!(text.contains("\nc"), "a character device: {text}");
    console.master.write_all(b"hello\n").unwrap();
    assert!(read_until(&mut console.master, "got hello").contains("got hello"));
}

#[test]
fn terminal_is_the_controlling_one_of_the_payload() {
    let Some(t) = Test::begin() else { return };
    let socket = ConsoleSocket::listen(&t);
    let script = "trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done";
    let bundle = t.bundle().set("/process/terminal", json!(true)).sh(script);
    let path = socket.path.to_str().unwrap();
    let _ = bundle.command("run", &["-d", "--console-socket", path]).done().ok();
    let mut console = socket.accept();
    let _ = read_until(&mut console.master, "ready");
    console.master.write_all(b"\x03").unwrap();
    let _ = read_until(&mut console.master, "interrupted");
}

#[test]
fn terminal_and_console_socket_must_go_together() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "words it differently") {
        return;
    }
    let done = t.bundle().set("/process/terminal", json!(true)).try_create();
    let _ = done.fails("cannot allocate tty if runc will detach without setting console socket");
    let socket = ConsoleSocket::listen(&t);
    let path = socket.path.to_str().unwrap();
    let done = t.bundle().command("create", &["--console-socket", path]).done();
    let _ = done.fails("cannot use console socket if runc will not detach or allocate tty");
}

#[test]
fn console_socket_that_nobody_listens_on_fails_the_creation() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/process/terminal", json!(true));
    let done = bundle.command("create", &["--console-socket", "/no/such/socket"]).done().exits(1);
    assert!(done.stderr.contains("no such file or directory"), "{done}");
    bundle.assert_nothing_left();
}

#[test]
fn attached_terminal_copies_both_ways() {
    let Some(t) = Test::begin() else { return };
    // With others the size may come a moment after the start; of 0 0 busybox says nothing, and exits with 0.
    let script = "until stty size 2>/dev/null | grep .; do sleep 0.05; done; \
                  read line; echo \"got $line\"; exit 6";
    let bundle = t.bundle().set("/process/terminal", json!(true)).sh(script);
    bundle.write();
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let (mut master, running) = t.call_on_terminal((21, 63), &run);
    let text = read_until(&mut master, "21 63");
    assert!(text.contains("21 63"));
    master.write_all(b"hello\r").unwrap();
    let text = read_until(&mut master, "got hello");
    assert!(text.contains("got hello"), "{text}");
    let _ = running.done().exits(6);
}

#[test]
fn attached_terminal_has_its_size_and_modes_from_the_beginning() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun, Peer::Runc], "set them while the program runs already") {
        return;
    }
    let script = "stty size; stty -a | grep -o -e -onlcr; sleep 1000";
    let bundle = t.bundle().set("/process/terminal", json!(true)).sh(script);
    bundle.write();
    let exec = ["exec", "-t", &bundle.id, "/bin/sh", "-c", script];
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let mut terminals = Vec::new();
    for arguments in [&run[..], &exec] {
        let (mut master, running) = t.call_on_terminal((21, 63), arguments);
        let text = read_until(&mut master, "onlcr\r\n");
        // The carriage returns are those of the caller's terminal: without them a screen shows a staircase.
        assert_eq!(text, "21 63\r\n-onlcr\r\n");
        terminals.push((master, running));
    }
    let _ = t.call(&["delete", "--force", &bundle.id]);
    for (_master, running) in terminals {
        let _ = running.done();
    }
}

#[test]
fn streams_belong_to_the_payloads_user() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let done = bundle.sh("echo out >/proc/self/fd/1; echo err >/proc/self/fd/2").run().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn run_works_with_closed_streams() {
    let Some(t) = Test::begin() else { return };
    let file = t.dir().join("made");
    let bundle = t.bundle().mount("/mnt", "bind", t.dir().to_str().unwrap(), &["bind"]);
    let bundle = bundle.sh("echo yes >/mnt/made");
    bundle.write();
    if t.differs(&[Peer::Crun], "fails") {
        return;
    }
    let run = Run::new("/bin/sh", t.dir()).args(["-c", "exec <&- >&- 2>&-; exec \"$@\"", "sh"]);
    let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args(["run", "--bundle"]);
    let _ = run.arg(&bundle.dir).arg(&bundle.id).done().ok();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "yes\n");
}

#[test]
fn init_is_not_the_runtimes_own_file() {
    // CVE-2019-5736
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let exe = std::fs::read_link(format!("/proc/{}/exe", c.pid)).unwrap();
    let meta = std::fs::metadata(t.runtime()).unwrap();
    let id = |m: &std::fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        (m.dev(), m.ino())
    };
    if let Ok(opened) = std::fs::metadata(format!("/proc/{}/exe", c.pid)) {
        assert_ne!(id(&opened), id(&meta), "{}", exe.display());
    }
}
