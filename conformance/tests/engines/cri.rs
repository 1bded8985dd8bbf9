//! containerd's CRI plugin, which is what Kubernetes calls. crictl is not in Debian; curl carries the messages, since gRPC
//! is HTTP/2 with five bytes before a message.

mod message;
mod stream;

use std::path::Path;
use std::sync::LazyLock;

use orlop_conformance::Run;
use orlop_conformance::run::{limit, lossy};
use orlop_conformance::tmp::{TempDir, unique};

use self::message::Types;
use self::stream::Stream;
use crate::cli::GREEDY;
use crate::{Driver, Runtime, check, daemons, is_heard, wait_for};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// containerd's CRI plugin with one pod.
struct Pod {
    dir: TempDir,
    driver: Driver,
    /// The sandbox's configuration, which goes with each container.
    config: String,
    id: String,
}

#[test]
fn cri_cgroupfs_runs_pods() {
    check(|runtime| runs_pods(&Pod::run(Driver::Cgroupfs, runtime)));
}

#[test]
fn cri_systemd_runs_pods() {
    check(|runtime| runs_pods(&Pod::run(Driver::Systemd, runtime)));
}

#[test]
fn cri_cgroupfs_says_out_of_memory() {
    check(|runtime| says_out_of_memory(&Pod::run(Driver::Cgroupfs, runtime)));
}

#[test]
fn cri_systemd_says_out_of_memory() {
    check(|runtime| says_out_of_memory(&Pod::run(Driver::Systemd, runtime)));
}

#[test]
fn cri_systemd_streams_exec() {
    check(|runtime| streams_exec(&Pod::run(Driver::Systemd, runtime)));
}

#[test]
fn cri_cgroupfs_streams_attach() {
    check(|runtime| streams_attach(&Pod::run(Driver::Cgroupfs, runtime)));
}

#[test]
fn cri_systemd_runs_fifty_at_once() {
    check(|runtime| runs_fifty_at_once(&Pod::run(Driver::Systemd, runtime)));
}

/// Calls a method with a message in protobuf's text form; the answer has the same.
#[track_caller]
fn call(dir: &Path, method: &str, request: &str) -> Result<String, String> {
    static TYPES: LazyLock<Types> =
        LazyLock::new(|| Types::parse(&std::fs::read_to_string("/opt/cri.proto").unwrap()));
    let file = |name: &str| dir.join(name);
    let message = TYPES.encode(&format!("{method}Request"), request);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    std::fs::write(file("body"), [&[0], &length[..], &message].concat()).unwrap();
    let curl = Run::new("curl", dir).cwd(dir).args([
        "-sS",
        "--http2-prior-knowledge",
        "--unix-socket",
        SOCKET,
    ]);
    let curl = curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    let curl = curl.args(["--data-binary", "@body", "-o", "answer", "-D", "headers"]);
    // The end of a pod is that of all its containers, one by one.
    let time = if method == "StopPodSandbox" { limit() * 5 } else { limit() };
    let curl = curl.arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"));
    let _ = curl.within(time).done().ok();
    let headers = std::fs::read_to_string(file("headers")).unwrap();
    if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
        return Err(headers);
    }
    let answer = std::fs::read(file("answer")).unwrap();
    Ok(TYPES.decode(&format!("{method}Response"), &answer[5..]))
}

/// The first value of a field, of any depth.
#[track_caller]
fn field(text: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let value = text.lines().find_map(|line| line.trim().strip_prefix(&start));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim_matches('"').to_owned()
}

impl Pod {
    fn run(driver: Driver, runtime: Runtime) -> Self {
        daemons::containerd();
        let dir = TempDir::new("orlop-cri");
        let name = unique("pod");
        let parent = match driver {
            Driver::Cgroupfs => "/kubepods/besteffort",
            Driver::Systemd => "kubepods-besteffort.slice",
        };
        let config = format!(
            r#"{{ metadata {{ name: "{name}" uid: "{name}" namespace: "default" }} hostname: "{name}"
                log_directory: "{}" linux {{ cgroup_parent: "{parent}" }} }}"#,
            dir.path().display()
        );
        let request =
            format!("config {config} runtime_handler: \"{}\"", daemons::handler(runtime, driver));
        let id = field(&call(dir.path(), "RunPodSandbox", &request).unwrap(), "pod_sandbox_id");
        Self { dir, driver, config, id }
    }

    #[track_caller]
    fn call(&self, method: &str, request: &str) -> String {
        call(self.dir.path(), method, request).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Creates and starts a container of the pod.
    #[track_caller]
    fn start(&self, name: &str, resources: &str, script: &str) -> String {
        self.start_with(name, &format!("linux {{ resources {{ {resources} }} }}"), script)
    }

    /// The same with any fields of a container's configuration.
    #[track_caller]
    fn start_with(&self, name: &str, fields: &str, script: &str) -> String {
        let config = format!(
            r#"{{ metadata {{ name: "{name}" }} image {{ image: "localhost/busybox:latest" }} log_path: "{name}.log"
                command: "sh" args: "-c" args: "{script}" {fields} }}"#
        );
        let request = format!(
            "pod_sandbox_id: \"{}\" config {config} sandbox_config {}",
            self.id, self.config
        );
        let id = field(&self.call("CreateContainer", &request), "container_id");
        let _ = self.call("StartContainer", &format!("container_id: \"{id}\""));
        id
    }

    fn status(&self, id: &str) -> String {
        self.call("ContainerStatus", &format!("container_id: \"{id}\""))
    }

    #[track_caller]
    fn exec(&self, id: &str, script: &str) -> String {
        let request = format!(
            "container_id: \"{id}\" cmd: \"sh\" cmd: \"-c\" cmd: \"{script}\" timeout: 170"
        );
        self.call("ExecSync", &request)
    }

    /// Asks for a stream, by `Exec` or `Attach`, and connects to it.
    #[track_caller]
    fn stream(&self, method: &str, id: &str, fields: &str) -> Stream {
        let answer = self.call(method, &format!("container_id: \"{id}\" {fields}"));
        Stream::open(&field(&answer, "url"))
    }

    /// What a container has said.
    fn log(&self, name: &str) -> String {
        lossy(&self.dir.path().join(format!("{name}.log")))
    }

    /// The directory of a container's cgroup.
    fn cgroup(&self, id: &str) -> String {
        match self.driver {
            Driver::Cgroupfs => format!("/sys/fs/cgroup/kubepods/besteffort/{id}"),
            Driver::Systemd => format!(
                "/sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{id}.scope"
            ),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let request = format!("pod_sandbox_id: \"{}\"", self.id);
            let _: Result<String, String> = call(self.dir.path(), method, &request);
        }
    }
}

fn runs_pods(pod: &Pod) {
    let resources =
        "memory_limit_in_bytes: 67108864 cpu_quota: 50000 cpu_period: 100000 cpu_shares: 512";
    let script =
        "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let id = pod.start("one", resources, script);
    assert_eq!(field(&pod.status(&id), "state"), "CONTAINER_RUNNING");
    let limit = |file: &str| {
        let text = std::fs::read_to_string(format!("{}/{file}", pod.cgroup(&id))).unwrap();
        text.trim().to_owned()
    };
    assert_eq!(limit("memory.max"), "67108864");
    assert_eq!(limit("cpu.max"), "50000 100000");
    let done = pod.exec(
        &id,
        "hostname; ls /sys/class/net; cat /sys/fs/cgroup/memory.max; echo err >&2; exit 7",
    );
    assert_eq!(field(&done, "exit_code"), "7");
    assert!(field(&done, "stdout").ends_with("eth0\\nlo\\n67108864\\n"), "{done}");
    assert_eq!(field(&done, "stderr"), "err\\n");
    let update = "linux { memory_limit_in_bytes: 100663296 cpu_quota: 80000 cpu_period: 100000 }";
    let _ = pod.call("UpdateContainerResources", &format!("container_id: \"{id}\" {update}"));
    assert_eq!(
        (limit("memory.max").as_str(), limit("cpu.max").as_str()),
        ("100663296", "80000 100000")
    );
    let stats = pod.call("ContainerStats", &format!("container_id: \"{id}\""));
    assert!(stats.contains("working_set_bytes"), "{stats}");

    // A second container of the pod is in its namespaces, all but pid and mount.
    let namespaces = "for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    let other = pod.start("two", "", &format!("{namespaces}; exit 4"));
    wait_for("its end", || field(&pod.status(&other), "state") == "CONTAINER_EXITED");
    let status = pod.status(&other);
    assert_eq!(
        (field(&status, "exit_code").as_str(), field(&status, "reason").as_str()),
        ("4", "Error")
    );
    let seen = pod.exec(&id, namespaces);
    wait_for("three lines", || pod.log("two").lines().count() == 3);
    for line in pod.log("two").lines() {
        let namespace = line.split_whitespace().last().unwrap();
        assert!(namespace.contains(":["), "{line}");
        assert!(seen.contains(namespace), "{namespace} in {seen}");
    }

    let request = format!("container_id: \"{id}\"");
    let _ = pod.call("StopContainer", &format!("{request} timeout: 60"));
    assert_eq!(field(&pod.status(&id), "exit_code"), "3");
    wait_for("the last line", || pod.log("one").contains("term"));
    let _ = pod.call("RemoveContainer", &request);
    assert!(!Path::new(&pod.cgroup(&id)).exists());
}

fn streams_exec(pod: &Pod) {
    let id = pod.start("one", "", "exec sleep 1000");
    let outputs = "stdout: true stderr: true";
    let exec = |words: &[&str], fields: &str| {
        let words = words.iter().map(|word| format!("cmd: \"{word}\" ")).collect::<String>();
        pod.stream("Exec", &id, &(words + fields))
    };

    // Its input has an end at once.
    let script = "cat; echo out; echo err >&2; cat /proc/self/cgroup >/cgroup; exit 42";
    let end = exec(&["sh", "-c", script], outputs).end();
    assert_eq!((end.stdout.as_slice(), end.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(end.code(), Ok(42));

    // More than any pipe between holds, of every value.
    let data = (0..300_000_u32).flat_map(|i| (i % 65_521).to_be_bytes()).collect::<Vec<_>>();
    let script = format!("head -c {} >/in; cat /in; cat /in >&2", data.len());
    let mut stream = exec(&["sh", "-c", &script], &format!("stdin: true {outputs}"));
    stream.write(&data);
    let end = stream.end();
    assert_eq!(end.code(), Ok(0));
    assert!(end.stdout == data && end.stderr == data, "what was written comes back on both");

    // A client that goes is the end of the input.
    let mut stream = exec(&["sh", "-c", "cat; touch /gone"], "stdin: true stdout: true");
    stream.write(b"before\n");
    stream.read_until("before", "");
    drop(stream);
    // protobuf's text leaves zeros out.
    wait_for("the end of input", || !pod.exec(&id, "test -e /gone").contains("exit_code"));

    // On a terminal both outputs are one.
    let script = "until stty size | grep -q '40 100'; do sleep 0.2; done; tty; \
                  until stty size | grep -q '31 91'; do sleep 0.2; done; echo smaller >&2; \
                  read line; echo got $line; exit 6";
    let mut stream = exec(&["sh", "-c", script], "stdin: true stdout: true tty: true");
    stream.resize(40, 100);
    stream.read_until("/dev/", "");
    stream.resize(31, 91);
    stream.read_until("smaller", "");
    stream.write(b"hello\r");
    let end = stream.end();
    assert!(String::from_utf8_lossy(&end.stdout).ends_with("hello\r\ngot hello\r\n"), "{end:?}");
    assert_eq!(end.code(), Ok(6));

    let why = exec(&["/no/such/program"], outputs).end().code().unwrap_err();
    assert!(why.contains("OCI runtime exec failed"), "{why}");
    assert!(why.contains("no such file or directory"), "{why}");
}

fn streams_attach(pod: &Pod) {
    let exit_code = |id: &str| {
        wait_for("its end", || field(&pod.status(id), "state") == "CONTAINER_EXITED");
        field(&pod.status(id), "exit_code")
    };
    // A client hears nothing of what was said before it came: so the container says something on both until it is told.
    let script = "{ until test -e /go; do echo beat; echo beat >&2; sleep 0.2; done; } & \
                  read line; touch /go; wait; echo got $line; cat; echo err >&2; exit 9";
    let id = pod.start_with("plain", "stdin: true stdin_once: true", script);
    // Both with an input: one that asks for none counts as one whose input has ended.
    let all = "stdin: true stdout: true stderr: true";
    let (mut speaker, mut listener) =
        (pod.stream("Attach", &id, all), pod.stream("Attach", &id, all));
    speaker.read_until("beat", "beat");
    listener.read_until("beat", "beat");
    speaker.write(b"hello\nmore\n");
    speaker.read_until("got hello\nmore\n", "");
    // The end of the input, which is given once.
    drop(speaker);
    let end = listener.end();
    assert!(end.stdout.ends_with(b"beat\ngot hello\nmore\n"), "{end:?}");
    assert!(end.stderr.ends_with(b"beat\nerr\n"), "{end:?}");
    assert_eq!(end.code(), Ok(0), "that of the container is not told");
    assert_eq!(exit_code(&id), "9");

    let script = "until stty size | grep -q '40 100'; do echo beat; sleep 0.2; done; tty >&2; \
                  read line; echo got $line; exit 6";
    let id = pod.start_with("terminal", "stdin: true tty: true", script);
    let mut stream = pod.stream("Attach", &id, "stdin: true stdout: true tty: true");
    stream.read_until("beat", "");
    stream.resize(40, 100);
    stream.read_until("/dev/", "");
    stream.write(b"hello\r");
    let end = stream.end();
    assert!(end.stdout.ends_with(b"hello\r\ngot hello\r\n"), "{end:?}");
    assert_eq!(exit_code(&id), "6");
}

fn says_out_of_memory(pod: &Pod) {
    let tries = std::cell::Cell::new(0);
    assert!(is_heard(|| {
        tries.set(tries.get() + 1);
        let name = format!("greedy{}", tries.get());
        let id = pod.start(&name, "memory_limit_in_bytes: 25165824", GREEDY);
        let _ = pod.exec(&id, "touch /go");
        wait_for("its end", || field(&pod.status(&id), "state") == "CONTAINER_EXITED");
        let status = pod.status(&id);
        assert_eq!(field(&status, "exit_code"), "137");
        field(&status, "reason") == "OOMKilled"
    }));
}

fn runs_fifty_at_once(pod: &Pod) {
    let ids = (0..50)
        .map(|i| pod.start(&format!("c{i}"), "memory_limit_in_bytes: 16777216", "exec sleep 1000"))
        .collect::<Vec<_>>();
    let running = pod.call("ListContainers", "filter { state { state: CONTAINER_RUNNING } }");
    assert!(ids.iter().all(|id| running.contains(id.as_str())), "all fifty run");
    for id in &ids {
        let events = std::fs::read_to_string(format!("{}/cgroup.events", pod.cgroup(id))).unwrap();
        assert!(events.contains("populated 1"));
    }
    let _ = pod.call("StopPodSandbox", &format!("pod_sandbox_id: \"{}\"", pod.id));
    let running = pod.call("ListContainers", "filter { state { state: CONTAINER_RUNNING } }");
    assert!(ids.iter().all(|id| !running.contains(id.as_str())), "none is left");
    assert!(ids.iter().all(|id| !Path::new(&pod.cgroup(id)).exists()));
}
