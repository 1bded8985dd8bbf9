//! Makes containers and further processes for a long time, and shows that nothing of them stays in this process:
//! `cargo run -p orlop-examples --bin soak 10000 1000`.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use orlop::{Bundle, Container};
use orlop_examples::{Home, Result};

/// What the allocator may keep, in KiB: a hundredth of this lost by each of ten thousand containers would be seen.
const KEPT: u64 = 512;

fn main() -> ExitCode {
    orlop_examples::main(outside, inside)
}

fn outside(arguments: &[String]) -> Result {
    let number = |place: usize, default| {
        arguments.get(place).map_or(Ok(default), |argument| argument.parse::<u32>())
    };
    let (cycles, execs) = (number(0, 150)?, number(1, 50)?);
    let home = Home::new()?;
    // Caches fill, and the heap gets as large as it has to be.
    rounds(&home, 30, 10)?;
    let before = Figures::read(&home)?;
    println!("before          {before}");
    rounds(&home, cycles, execs)?;
    let after = Figures::read(&home)?;
    println!("after {cycles:>6} {execs:>4} {after}");
    let same = Figures { memory: before.memory, ..after } == before;
    if !same || after.memory > before.memory + KEPT {
        return Err("something stays".into());
    }
    println!("nothing stays");
    Ok(())
}

fn rounds(home: &Home, cycles: u32, execs: u32) -> Result {
    let bundle = home.bundle(&["end"])?;
    for number in 0..cycles {
        cycle(home, &bundle, number)?;
    }
    let bundle = home.bundle(&["stay"])?;
    let mut process = bundle.spec().process().clone().ok_or("no process")?;
    let mut args = process.args().clone().unwrap_or_default();
    args.pop();
    args.push("end".to_owned());
    process.set_args(Some(args));
    let mut container = Container::builder("soak-stays", bundle).state_root(home.state()).run()?;
    for _ in 0..execs {
        let mut exec = container.exec(process.clone()).spawn()?;
        let status = exec.wait()?;
        if status.code() != 0 {
            return Err(format!("exec: {status:?}").into());
        }
    }
    container.delete(true)?;
    Ok(())
}

/// A container to its end, one that is deleted before it was started, one that cannot be made.
fn cycle(home: &Home, bundle: &Bundle, number: u32) -> Result {
    let builder = || Container::builder("soak", bundle.clone()).state_root(home.state());
    let mut container = builder().create()?;
    if number % 8 == 5 && builder().create().is_ok() {
        return Err("two containers of one id".into());
    }
    if number % 4 == 3 {
        return Ok(container.delete(true)?);
    }
    container.start()?;
    let status = container.wait()?;
    if status.code() != 0 {
        return Err(format!("run: {status:?}").into());
    }
    Ok(container.delete(false)?)
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    descriptors: usize,
    threads: usize,
    children: usize,
    mounts: usize,
    files: usize,
    /// Resident, in KiB.
    memory: u64,
}

impl Figures {
    fn read(home: &Home) -> Result<Self> {
        let entries = |path: &str| Ok::<_, std::io::Error>(fs::read_dir(path)?.count());
        let mut children = 0;
        for thread in fs::read_dir("/proc/self/task")? {
            let list = fs::read_to_string(thread?.path().join("children"))?;
            children += list.split_ascii_whitespace().count();
        }
        let directory = home.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_ascii_whitespace().next());
        Ok(Self {
            descriptors: entries("/proc/self/fd")?,
            threads: entries("/proc/self/task")?,
            children,
            mounts: mounts.lines().filter(|line| line.contains(&directory)).count(),
            files: entries(&home.state().to_string_lossy())?,
            memory: resident.ok_or("no VmRSS")?.parse()?,
        })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} children, {} mounts, {} files, {} KiB",
            self.descriptors, self.threads, self.children, self.mounts, self.files, self.memory
        )
    }
}

/// Ends, or stays until it is killed.
fn inside(arguments: &[String]) -> Result<u8> {
    if arguments.first().is_some_and(|word| word == "stay") {
        std::thread::sleep(Duration::from_secs(100_000));
    }
    Ok(0)
}
