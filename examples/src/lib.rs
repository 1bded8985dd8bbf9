//! What the examples share: a bundle that needs no download, because the container runs a copy of
//! the example itself.
//!
//! Run one with `cargo run -p orlop-examples --bin hello`, as root, where `/sys/fs/cgroup` is
//! cgroup v2.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use orlop::spec::{
    Capabilities, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};
use orlop::{Bundle, ErrorKind};

/// The code in the README is compiled by this crate's tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What an example's functions return.
pub type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The first argument of an example that runs in a container.
const INSIDE: &str = "inside";

/// The `main` of every example: `inside` with its arguments in a container, `outside` elsewhere.
pub fn main(outside: fn(&[String]) -> Result, inside: fn(&[String]) -> Result<u8>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == INSIDE => inside(rest),
        _ => outside(&arguments).map(|()| 0),
    };
    result.map_or_else(
        |error| {
            eprintln!("{}", told(&*error));
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

/// The error in one line, with what helps on a machine where no container can run.
fn told(error: &(dyn Error + 'static)) -> String {
    let kind = error.downcast_ref::<orlop::Error>().map(orlop::Error::kind);
    if kind.is_some() && !rustix::process::geteuid().is_root() {
        return format!("error: {error} (containers need root)");
    }
    if kind == Some(ErrorKind::Unsupported) && !has_cgroup2() {
        return format!("error: {error}; or, to try it: conformance/in-cgroup2.sh COMMAND");
    }
    format!("error: {error}")
}

/// Whether cgroup v2 is mounted where containers need it.
#[must_use]
pub fn has_cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A temporary directory with a root filesystem that holds this program; removed when dropped.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    /// The beginning of a command that runs this program in the root filesystem.
    command: Vec<String>,
}

impl Home {
    /// Copies this program and the shared objects that it uses to a new root filesystem.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("orlop-example-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        let mut home = Self { directory, command: Vec::new() };
        let root = home.path().join("rootfs");
        fs::create_dir_all(root.join("lib"))?;
        // The loader is told where the rest is. A static program has neither.
        for object in shared_objects()? {
            let name = object.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("ld-") {
                home.command = vec![format!("/lib/{name}"), "--library-path".into(), "/lib".into()];
            }
            fs::copy(&object, root.join("lib").join(&*name))?;
        }
        fs::copy(std::env::current_exe()?, root.join("example"))?;
        home.command.extend(["/example".into(), INSIDE.into()]);
        Ok(home)
    }

    /// The directory: a bundle, once something names its configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Where the examples keep the state of their containers.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// A bundle whose program is this one's `inside` with these arguments.
    ///
    /// # Errors
    /// Something that the runtime-spec requires is missing.
    pub fn bundle(&self, arguments: &[&str]) -> Result<Bundle> {
        let command = self.command.iter().map(String::as_str).chain(arguments.iter().copied());
        let spec = spec(command.map(str::to_owned).collect())?;
        Ok(Bundle::from_spec(&self.directory, spec))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _left_to_the_system: std::io::Result<()> = fs::remove_dir_all(&self.directory);
    }
}

/// A configuration: a program in namespaces of its own, with `/proc` and `/dev`.
fn spec(args: Vec<String>) -> Result<Spec> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let namespaces = [Cgroup, Ipc, Mount, Network, Pid, Uts]
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let mount = |kind: &str, destination: &str| {
        let options = ["nosuid", "noexec"].map(str::to_owned);
        let mount = MountBuilder::default().typ(kind).source(kind).destination(destination);
        mount.options(options).build()
    };
    // Named, because the model's default gives some, inheritable ones too.
    let none = LinuxCapabilitiesBuilder::default()
        .bounding(Capabilities::new())
        .effective(Capabilities::new())
        .permitted(Capabilities::new())
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()?;
    let process = ProcessBuilder::default()
        .args(args)
        .cwd("/")
        .capabilities(none)
        .no_new_privileges(true)
        .build()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(["/proc/kcore".to_owned()])
        .readonly_paths(["/proc/sys".to_owned()])
        .build()?;
    let spec = SpecBuilder::default()
        .version("1.3.0")
        .root(RootBuilder::default().path("rootfs").readonly(true).build()?)
        .process(process)
        .hostname("lower-deck")
        .mounts([mount("proc", "/proc")?, mount("tmpfs", "/dev")?])
        .linux(linux)
        .build()?;
    Ok(spec)
}

/// The shared objects that are mapped into this process, the dynamic loader among them.
fn shared_objects() -> Result<Vec<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    // Address, permissions, offset, device, inode, path.
    let paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.starts_with('/') && path.contains(".so"))
        .map(Into::into)
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}
