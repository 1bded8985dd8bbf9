//! `NOTIFY_SOCKET`: a service manager is told that a container's program is ready.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use orlop_conformance::run::wait_for;
use orlop_conformance::{Bundle, Peer, Run, Test, rootfs, tmp};
use serde_json::json;

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    (!t.differs(&[Peer::Crun], "passes everything on")).then_some(t)
}

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    address: String,
    /// Whether the runtime waits for the manager to have read all: runc does since 1.2.
    barrier: bool,
}

impl Manager {
    fn new(t: &Test) -> Self {
        let path = t.dir().join(tmp::unique("manager"));
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::of(t, socket, path.to_str().unwrap().to_owned())
    }

    fn in_the_abstract(t: &Test) -> Self {
        let name = tmp::unique("orlop-test-manager");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::of(t, UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn of(t: &Test, socket: UnixDatagram, address: String) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, address, barrier: t.peer() == Peer::Orlop }
    }

    /// The next message, and the descriptors that come with it, which are closed.
    fn next(&self) -> (String, usize) {
        let mut buffer = [0_u8; 8192];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
        let mut count = 0;
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(descriptors) = part {
                for descriptor in descriptors {
                    nix::unistd::close(descriptor).unwrap();
                    count += 1;
                }
            }
        }
        let bytes = message.bytes;
        (String::from_utf8_lossy(&buffer[..bytes]).into_owned(), count)
    }

    /// Takes all that is told when a program is ready; the pid that it names.
    #[track_caller]
    fn ready(&self) -> i32 {
        assert_eq!(self.next(), ("READY=1\n".to_owned(), 0));
        let (main, descriptors) = self.next();
        let pid = main.strip_prefix("MAINPID=").unwrap().strip_suffix('\n').unwrap();
        assert_eq!(descriptors, 0);
        if self.barrier {
            assert_eq!(self.next(), ("BARRIER=1".to_owned(), 1));
        }
        pid.parse().unwrap()
    }

    fn has_more(&self) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
    }

    #[track_caller]
    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1];
        let error = self.socket.recv(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// A bundle whose program can notify.
fn bundle<'t>(t: &'t Test, script: &str) -> Option<Bundle<'t>> {
    let bundle = t.bundle().sh(script);
    rootfs::add_probe(&bundle.rootfs()).then_some(bundle)
}

fn create(bundle: &Bundle<'_>, manager: &Manager) {
    let create = bundle.command("create", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let _ = create.done().ok();
}

fn start(bundle: &Bundle<'_>, manager: &Manager) -> Run {
    bundle.test.command(["start", &bundle.id]).env("NOTIFY_SOCKET", manager.address.as_str())
}

fn pid(bundle: &Bundle<'_>) -> i32 {
    let state = bundle.test.call(&["state", &bundle.id]).ok().json();
    i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn start_waits_until_the_program_is_ready_and_tells_the_manager() {
    let Some(t) = begin() else { return };
    for manager in [Manager::new(&t), Manager::in_the_abstract(&t)] {
        let script = "while ! [ -e /go ]; do sleep 0.01; done; probe notify READY=1; sleep 100";
        let Some(bundle) = bundle(&t, script) else { return };
        create(&bundle, &manager);
        let pid = pid(&bundle);
        let mut starting = start(&bundle, &manager).spawn();
        wait_for("the start", || t.call(&["state", &bundle.id]).ok().json()["status"] == "running");
        std::thread::sleep(Duration::from_millis(300));
        assert!(starting.runs(), "start returned before the program was ready");
        manager.hears_nothing();
        manager.socket.set_nonblocking(false).unwrap();
        std::fs::write(bundle.rootfs().join("go"), "").unwrap();
        assert_eq!(manager.ready(), pid);
        let done = starting.done().ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        let _ = t.call(&["delete", "--force", &bundle.id]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn start_waits_until_the_manager_has_read_it() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "does not before 1.2") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify READY=1; sleep 100") else { return };
    create(&bundle, &manager);
    let mut starting = start(&bundle, &manager).spawn();
    std::thread::sleep(Duration::from_millis(500));
    assert!(starting.runs(), "nobody has read anything yet");
    assert_eq!(manager.ready(), pid(&bundle));
    let _ = starting.done().ok();
}

#[test]
fn start_returns_when_the_program_ends_without_being_ready() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "waits for a zombie") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify STATUS=nothing") else { return };
    create(&bundle, &manager);
    let _ = start(&bundle, &manager).done().ok();
    manager.hears_nothing();
}

#[test]
fn program_that_is_ready_and_ends_at_once_was_ready() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "may miss the last message") {
        return;
    }
    for _ in 0..5 {
        let manager = Manager::new(&t);
        let Some(bundle) = bundle(&t, "exec probe notify READY=1") else { return };
        create(&bundle, &manager);
        let starting = start(&bundle, &manager).spawn();
        let _ = manager.ready();
        let _ = starting.done().ok();
    }
}

#[test]
fn detached_run_waits_and_names_the_init() {
    let Some(t) = begin() else { return };
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "sleep 0.3; probe notify READY=1; sleep 100") else { return };
    let pid_file = bundle.dir.join("pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    let run = bundle.command("run", &flags).env("NOTIFY_SOCKET", manager.address.as_str());
    let running = run.spawn();
    let main = manager.ready();
    let _ = running.done().ok();
    assert_eq!(std::fs::read_to_string(pid_file).unwrap(), main.to_string());
    assert_eq!(main, pid(&bundle));
}

/// The command is what the manager started, and what has the exit code.
#[test]
fn attached_run_names_itself_and_ends_with_the_program() {
    let Some(t) = begin() else { return };
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify READY=1; echo told; exit 7") else { return };
    let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let running = run.spawn();
    let pid = running.pid();
    assert_eq!(manager.ready(), pid);
    let done = running.done().exits(7);
    assert_eq!(done.stdout, "told\n");
    bundle.assert_nothing_left();
}

#[test]
fn attached_run_goes_on_while_the_manager_is_slow() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "waits for the manager first") {
        return;
    }
    let manager = Manager::new(&t);
    let script = "probe notify READY=1; read line; echo got $line";
    let Some(bundle) = bundle(&t, script) else { return };
    let (read, write) = std::io::pipe().unwrap();
    let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let running = run.stdin(read).spawn();
    std::thread::sleep(Duration::from_millis(300));
    std::io::Write::write_all(&mut &write, b"input\n").unwrap();
    let done = running.done().ok();
    assert_eq!(done.stdout, "got input\n");
}

#[test]
fn attached_run_ends_without_a_word_of_a_program_that_was_never_ready() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "waits for ever") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "exit 3") else { return };
    let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let _ = run.done().exits(3);
    manager.hears_nothing();
}

#[test]
fn socket_is_mounted_read_only_and_named_in_the_environment() {
    let Some(t) = begin() else { return };
    let manager = Manager::new(&t);
    let script = "echo $NOTIFY_SOCKET; stat -c '%F %a' $NOTIFY_SOCKET; grep /run/notify /proc/self/mountinfo; \
                  touch /run/notify/x 2>/dev/null; rm -f /run/notify/notify.sock 2>/dev/null; ls /run/notify; \
                  probe notify READY=1";
    let Some(bundle) = bundle(&t, script) else { return };
    let config = json!(["NOTIFY_SOCKET=/elsewhere", "PATH=/bin"]);
    let bundle = bundle.set("/process/env", config).set("/root/readonly", json!(true));
    let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let running = run.spawn();
    let _ = manager.ready();
    let done = running.done().ok();
    let lines = done.lines();
    assert_eq!(&lines[..2], ["/run/notify/notify.sock", "socket 777"], "{done}");
    let options = lines[2].split(' ').nth(5).unwrap();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|o| o == option), "{option}: {done}");
    }
    assert_eq!(&lines[3..], ["notify.sock"], "{done}");
}

#[test]
fn program_of_another_user_can_notify() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "makes the directory under the caller's umask") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify READY=1") else { return };
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let flags = format!("umask 077; exec {} --root {}", t.runtime().display(), t.root().display());
    bundle.write();
    let run =
        Run::new("/bin/sh", t.dir()).args(["-c", &format!("{flags} run --bundle \"$@\""), "sh"]);
    let run = run.arg(&bundle.dir).arg(&bundle.id).env("NOTIFY_SOCKET", manager.address.as_str());
    let running = run.spawn();
    let _ = manager.ready();
    let _ = running.done().ok();
}

#[test]
fn without_the_variable_nothing_is_added() {
    let Some(t) = begin() else { return };
    let bundle = t.bundle().sh("echo [$NOTIFY_SOCKET]; ls -d /run/notify 2>&1");
    let done = bundle.command("run", &[]).env("NOTIFY_SOCKET", "").done();
    assert!(done.stdout.starts_with("[]\n") && done.stdout.contains("No such file"), "{done}");
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let manager = Manager::new(&t);
    if t.differs(&[Peer::Runc], "fails where the container has no socket") {
        return;
    }
    let _ = start(&c.bundle, &manager).done().ok();
    assert_eq!(c.status(), "running");
}

/// Somebody's leftover variable is no reason to run nothing.
#[test]
fn manager_that_is_gone_keeps_nobody_from_running() {
    let Some(t) = begin() else { return };
    let Some(bundle) = bundle(&t, "echo ran") else { return };
    let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", "/nonexistent/notify");
    assert_eq!(run.done().ok().stdout, "ran\n");
    for address in ["@", "relative", &format!("/{}", "x".repeat(300))] {
        let run = bundle.command("run", &[]).env("NOTIFY_SOCKET", address);
        assert_eq!(run.done().ok().stdout, "ran\n", "{address}");
    }
}

#[test]
fn only_readiness_passes_whatever_the_program_sends() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "take what is cut off, or more") {
        return;
    }
    let manager = Manager::new(&t);
    let script = "probe notify ''; probe notify MAINPID=1; probe notify BARRIER=1; probe notify xREADY=1; \
                  probe notify-long 5000; probe notify-long 100000; probe notify \"$(head -c 3000 /dev/urandom)\"; \
                  probe notify-fds 3 STATUS=x; probe notify-fds 250 FDSTORE=1; sleep 0.3; echo sent; \
                  probe notify-fds 3 \"$(printf 'MAINPID=1\\nREADY=1\\nFDSTORE=1\\nERRNO=1')\"; echo $?; sleep 100";
    let Some(bundle) = bundle(&t, script) else { return };
    create(&bundle, &manager);
    let starting = start(&bundle, &manager).spawn();
    let runtime = starting.pid();
    wait_for("the descriptors", || {
        let text = std::fs::read_dir(format!("/proc/{runtime}/fd"));
        assert!(text.is_ok_and(|fds| fds.count() < 30), "descriptors of the program stay open");
        manager.has_more()
    });
    assert_eq!(manager.ready(), pid(&bundle));
    let _ = starting.done().ok();
    manager.hears_nothing();
}

#[test]
fn flood_from_what_the_program_left_does_not_keep_start_from_returning() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "not looked into") {
        return;
    }
    let manager = Manager::new(&t);
    let script = "while probe notify STATUS=x; do :; done & sleep 0.2; exit 0";
    let Some(bundle) = bundle(&t, script) else { return };
    let bundle = bundle.without_namespace("pid");
    create(&bundle, &manager);
    let _ = start(&bundle, &manager).done().ok();
    manager.hears_nothing();
}

#[test]
fn link_in_the_image_leads_nowhere_outside() {
    let Some(t) = begin() else { return };
    let outside = t.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for target in [outside.to_str().unwrap(), "../../../../../../../../etc", "/"] {
        let manager = Manager::new(&t);
        let Some(bundle) = bundle(&t, "probe notify READY=1; sleep 100") else { return };
        std::fs::create_dir_all(bundle.rootfs().join("run")).unwrap();
        std::os::unix::fs::symlink(target, bundle.rootfs().join("run/notify")).unwrap();
        create_or_refuse(&t, &bundle, &manager, &outside);
    }
}

/// Either the link is followed inside of the root, and works, or the container is refused.
fn create_or_refuse(t: &Test, bundle: &Bundle<'_>, manager: &Manager, outside: &Path) {
    let create = bundle.command("create", &[]).env("NOTIFY_SOCKET", manager.address.as_str());
    let done = create.done();
    if done.status.success() {
        let starting = start(bundle, manager).spawn();
        assert_eq!(manager.ready(), pid(bundle));
        let _ = starting.done().ok();
        let _ = t.call(&["delete", "--force", &bundle.id]).ok();
    }
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
    bundle.assert_nothing_left();
}

#[test]
fn long_state_roots_leave_room_for_the_address() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "fails: an address has 107 bytes") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(mut bundle) = bundle(&t, "probe notify READY=1; sleep 100") else { return };
    bundle.id = format!("{}-{}", bundle.id, "x".repeat(120));
    create(&bundle, &manager);
    let starting = start(&bundle, &manager).spawn();
    assert_eq!(manager.ready(), pid(&bundle));
    let _ = starting.done().ok();
}

#[test]
fn killed_start_can_be_done_again() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "the address is in use") {
        return;
    }
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify READY=1; sleep 100") else { return };
    create(&bundle, &manager);
    // What one leaves that was killed after it had bound the socket.
    let left = t.root().join(&bundle.id).join("notify/notify.sock");
    drop(UnixDatagram::bind(left).unwrap());
    let starting = start(&bundle, &manager).spawn();
    assert_eq!(manager.ready(), pid(&bundle));
    let _ = starting.done().ok();
}

#[test]
fn container_that_cannot_be_started_says_so_as_ever() {
    let Some(t) = begin() else { return };
    let manager = Manager::new(&t);
    let Some(bundle) = bundle(&t, "probe notify READY=1; sleep 100") else { return };
    create(&bundle, &manager);
    let starting = start(&bundle, &manager).spawn();
    let _ = manager.ready();
    let _ = starting.done().ok();
    let done = start(&bundle, &manager).done().exits(1);
    assert!(done.stderr.contains("cannot start an already running container"), "{done}");
}
