//! `orlop-conformance vm`: the other commands in a virtual machine, by the scripts of a checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use orlop_conformance::run::in_path;
use orlop_conformance::tmp::TempDir;

/// A virtual machine that a script boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// A kernel and the job: seconds.
    Small,
    /// A whole Debian, which has runc, crun and strace of its own: a minute.
    Debian,
}

impl Machine {
    fn script(self) -> &'static str {
        match self {
            Self::Small => "vm.sh",
            Self::Debian => "machine.sh",
        }
    }

    /// Programs that its script runs, and Debian's packages of them.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Small => &[
                ("cargo", "rustup"),
                ("qemu-system-x86_64", "qemu-system-x86"),
                ("busybox", "busybox-static"),
                ("apt-get", "apt"),
            ],
            Self::Debian => &[
                ("cargo", "rustup"),
                ("qemu-system-x86_64", "qemu-system-x86"),
                ("mmdebstrap", "mmdebstrap"),
                ("mkfs.ext4", "e2fsprogs"),
            ],
        }
    }
}

/// What is to be done in a machine.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    machine: Machine,
    /// The arguments, as they are in the machine.
    args: Vec<String>,
    /// Files that are copied into it, and their names in the job.
    into: Vec<(PathBuf, String)>,
    /// Files that it makes, by their names in the job's `out`, and where they go.
    out: Vec<(String, PathBuf)>,
}

impl Job {
    /// Rewrites a command line for the machine.
    ///
    /// A runtime that is a file here is copied into the machine; any other is the machine's own, which takes Debian.
    /// Without `--runtime` it is the checkout's orlop.
    fn new(args: &[String], exists: impl Fn(&Path) -> bool) -> Result<Self, String> {
        let mut job =
            Self { machine: Machine::Small, args: Vec::new(), into: Vec::new(), out: Vec::new() };
        let mut runtime = false;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            if !["--runtime", "--compare", "--payload", "--output", "--chart"].contains(&name) {
                job.args.push(arg.clone());
                continue;
            }
            let value = value.or_else(|| rest.next().cloned());
            let value = value.ok_or_else(|| format!("{name} wants a value"))?;
            runtime |= name == "--runtime";
            let inside = match name {
                "--output" | "--chart" => {
                    let inside = name.trim_start_matches('-').to_owned();
                    job.out.push((inside.clone(), PathBuf::from(value)));
                    format!("out/{inside}")
                }
                _ => job.program(name, &value, &exists),
            };
            job.args.extend([name.to_owned(), inside]);
        }
        if !runtime && !job.args.iter().any(|arg| arg == "--list") {
            job.args.extend(["--runtime".into(), "./orlop".into()]);
        }
        Ok(job)
    }

    /// The name in the machine of a program, which may stand behind `NAME=`.
    fn program(&mut self, option: &str, value: &str, exists: impl Fn(&Path) -> bool) -> String {
        let (label, path) = match value.split_once('=') {
            Some((label, path)) if option == "--compare" => (format!("{label}="), path),
            _ => (String::new(), value),
        };
        if !path.contains('/') || !exists(Path::new(path)) {
            self.machine = Machine::Debian;
            return format!("{label}{path}");
        }
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inside = format!("programs/{}/{name}", self.into.len());
        self.into.push((PathBuf::from(path), inside.clone()));
        format!("{label}./{inside}")
    }

    /// What the machine's shell runs. Standard error is no terminal there: progress is for those who watch.
    fn script(&self) -> String {
        let quoted = self.args.iter().map(|arg| format!(" '{}'", arg.replace('\'', r"'\''")));
        format!(
            "#!/bin/sh\nexport ORLOP_TEST_SECONDS=180\n\
             {{ ./orlop-conformance{}; echo $? >status; }} 2>&1 | cat\nexit $(cat status)\n",
            quoted.collect::<String>()
        )
    }
}

/// Where the scripts are: above the working directory, or where this program was built.
fn scripts() -> Result<PathBuf, String> {
    let here = std::env::current_dir().map_err(|e| format!("working directory: {e}"))?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let above = here.ancestors().map(|dir| dir.join("conformance"));
    above.chain([built.to_owned()]).find(|dir| dir.join("vm.sh").exists()).ok_or_else(|| {
        format!(
            "needs a checkout of Orlop, whose scripts make the machine: there is none at {} or above {}",
            built.parent().unwrap_or(built).display(),
            here.display()
        )
    })
}

/// Says what is missing on this host for a machine.
fn complete(machine: Machine) -> Result<(), String> {
    let lacks = |program: &&(&str, &str)| in_path(program.0).is_none();
    let missing: Vec<String> = machine
        .programs()
        .iter()
        .filter(lacks)
        .map(|(program, package)| format!("{program} (Debian: {package})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("{} needs {}", machine.script(), missing.join(", ")))
}

/// Whether a program can run where none of this host's libraries are: an ELF file that names no interpreter.
fn is_static(file: &[u8]) -> bool {
    let word = |at: usize, size: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    // Elf64_Ehdr has e_phoff at 32, e_phentsize at 54, e_phnum at 56; Elf64_Phdr begins with p_type, 3 is PT_INTERP.
    let headers = || {
        let (offset, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        (0..count).map(|i| word(offset.checked_add(i * size)?, 4)).collect::<Option<Vec<_>>>()
    };
    file.starts_with(b"\x7fELF\x02") && headers().is_some_and(|types| !types.contains(&3))
}

fn copy(job: &Job, dir: &Path) -> Result<(), String> {
    for (path, name) in &job.into {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        if !is_static(&std::fs::read(path).map_err(failed)?) {
            return Err(format!(
                "{}: no static program, so it would lack its libraries in the machine (the machine's own is meant by a name without a slash)",
                path.display()
            ));
        }
        let to = dir.join(name);
        std::fs::create_dir_all(to.parent().unwrap_or(dir)).map_err(failed)?;
        std::fs::copy(path, to).map_err(failed)?;
    }
    let run = dir.join("run");
    let made = std::fs::write(&run, job.script());
    made.and_then(|()| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755))
    })
    .map_err(|e| format!("{}: {e}", run.display()))
}

/// Runs a script to its end; gives its exit code.
fn script(path: &Path, args: &[&std::ffi::OsStr]) -> Result<i32, String> {
    let status =
        Command::new(path).args(args).status().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(status.code().unwrap_or(125))
}

/// Runs a command of this program in a machine; gives its exit code.
///
/// `accepts` says whether it is one, before a minute is spent on it.
pub(crate) fn run(
    args: &[String],
    accepts: impl Fn(&[String]) -> Result<(), String>,
) -> Result<i32, String> {
    let job = Job::new(args, Path::exists)?;
    accepts(&job.args)?;
    let scripts = scripts()?;
    complete(job.machine)?;
    let dir = TempDir::new("orlop-vm");
    let (work, out) = (dir.path().join("job"), dir.path().join("out"));
    std::fs::create_dir(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    copy(&job, &work)?;
    if script(&scripts.join("static.sh"), &[work.as_os_str(), "--suite".as_ref()])? != 0 {
        return Err("what runs in the machine could not be built".into());
    }
    let code = script(
        &scripts.join(job.machine.script()),
        &["run".as_ref(), work.as_os_str(), out.as_os_str()],
    )?;
    for (name, path) in &job.out {
        let from = out.join(name);
        // A command that failed has none.
        if from.exists() {
            std::fs::copy(from, path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str) -> Job {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Job::new(&args, |path| path.starts_with("/here")).expect("a job")
    }

    #[test]
    fn runtimes_of_this_host_are_copied_and_the_machine_is_the_small_one() {
        let found = job("run --runtime /here/a/orlop --compare old=/here/b/orlop --filter x=y");
        assert_eq!(found.machine, Machine::Small);
        let want = "run --runtime ./programs/0/orlop --compare old=./programs/1/orlop --filter x=y";
        assert_eq!(found.args.join(" "), want);
        assert_eq!(found.into.len(), 2);
    }

    #[test]
    fn runtimes_that_this_host_lacks_are_those_of_debian() {
        for peer in ["runc", "crun=/usr/bin/crun", "/only/there"] {
            let found = job(&format!("attack --compare={peer}"));
            assert_eq!(found.machine, Machine::Debian, "{peer}");
            assert_eq!(found.args.join(" "), format!("attack --compare {peer} --runtime ./orlop"));
        }
    }

    #[test]
    fn reports_come_back_to_where_they_were_wanted() {
        let found = job("bench --output /tmp/table.md --chart=chart.svg");
        assert_eq!(
            found.args.join(" "),
            "bench --output out/output --chart out/chart --runtime ./orlop"
        );
        assert_eq!(
            found.out,
            [("output".into(), "/tmp/table.md".into()), ("chart".into(), "chart.svg".into())]
        );
    }

    #[test]
    fn arguments_keep_their_quotes_and_spaces_in_the_machines_shell() {
        let found = Job::new(&["run".into(), "it's a \"name\"".into()], |_| false).expect("a job");
        assert!(found.script().contains(r#" 'run' 'it'\''s a "name"'"#), "{}", found.script());
    }

    #[test]
    fn static_programs_are_told_from_others() {
        let own = std::fs::read("/proc/self/exe").expect("this program");
        assert_eq!(is_static(&own), cfg!(target_feature = "crt-static"));
        assert!(!is_static(b"#!/bin/sh\n") && !is_static(b"\x7fELF\x02"));
    }
}
