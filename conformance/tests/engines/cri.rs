//! containerd's CRI plugin, which is what Kubernetes calls. crictl is not in Debian: protoc writes the messages and curl
//! carries them, since gRPC is HTTP/2 with five bytes before a message.

use std::path::Path;

use orlop_conformance::Run;
use orlop_conformance::run::wait_for;
use orlop_conformance::tmp::{TempDir, unique};

use crate::cli::GREEDY;
use crate::{Driver, Runtime, check, daemons, is_heard};

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
fn cri_systemd_runs_fifty_at_once() {
    check(|runtime| runs_fifty_at_once(&Pod::run(Driver::Systemd, runtime)));
}

/// Calls a method with a message in protobuf's text form; the answer has the same.
#[track_caller]
fn call(dir: &Path, method: &str, request: &str) -> Result<String, String> {
    let file = |name: &str| dir.join(name);
    std::fs::write(file("text"), request).unwrap();
    let protoc = |how: &str, input: &str, output: &str| {
        let run = Run::new("protoc", dir).arg(how).args(["-I", "/opt", "cri.proto"]);
        let run = run.stdin(std::fs::File::open(file(input)).unwrap());
        let _ = run.stdout(std::fs::File::create(file(output)).unwrap()).done().ok();
    };
    protoc(&format!("--encode=runtime.v1.{method}Request"), "text", "message");
    let message = std::fs::read(file("message")).unwrap();
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
    let _ = curl.arg(format!("http://localhost/runtime.v1.RuntimeService/{method}")).done().ok();
    let headers = std::fs::read_to_string(file("headers")).unwrap();
    if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
        return Err(headers);
    }
    let answer = std::fs::read(file("answer")).unwrap();
    std::fs::write(file("message"), &answer[5..]).unwrap();
    protoc(&format!("--decode=runtime.v1.{method}Response"), "message", "text");
    Ok(std::fs::read_to_string(file("text")).unwrap())
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
        let config = format!(
            r#"{{ metadata {{ name: "{name}" }} image {{ image: "localhost/busybox:latest" }} log_path: "{name}.log"
                command: "sh" args: "-c" args: "{script}" linux {{ resources {{ {resources} }} }} }}"#
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
        let request =
            format!("container_id: \"{id}\" cmd: \"sh\" cmd: \"-c\" cmd: \"{script}\" timeout: 60");
        self.call("ExecSync", &request)
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
    let script = "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
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
    let other = pod.start(
        "two",
        "",
        "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; exit 4",
    );
    wait_for("its end", || field(&pod.status(&other), "state") == "CONTAINER_EXITED");
    let status = pod.status(&other);
    assert_eq!(
        (field(&status, "exit_code").as_str(), field(&status, "reason").as_str()),
        ("4", "Error")
    );
    let seen = pod.exec(&id, "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts");
    let log = std::fs::read_to_string(pod.dir.path().join("two.log")).unwrap();
    for line in log.lines() {
        let namespace = line.split_whitespace().last().unwrap();
        assert!(seen.contains(namespace), "{namespace} in {seen}");
    }

    let request = format!("container_id: \"{id}\"");
    let _ = pod.call("StopContainer", &format!("{request} timeout: 60"));
    assert_eq!(field(&pod.status(&id), "exit_code"), "3");
    assert!(std::fs::read_to_string(pod.dir.path().join("one.log")).unwrap().contains("term"));
    let _ = pod.call("RemoveContainer", &request);
    assert!(!Path::new(&pod.cgroup(&id)).exists());
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
