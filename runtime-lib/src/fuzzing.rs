//! What a fuzzer throws bytes at: all that reads what others have written.
//!
//! Each function takes any bytes, and panics where a promise is broken: reading never does anything but succeed or
//! name what is wrong. The tests below run them on mutations of the seeds in `fuzz/seeds`.

#![allow(clippy::panic, reason = "a broken promise is a finding")]

pub mod mutate;

use std::sync::LazyLock;

use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use orlop_init::plan::{Header, Op, VERSION};
use orlop_init::wire::Str;

use crate::compile::exec::{self, Join};
use crate::compile::sample::{self, facts};
use crate::compile::{Request, compile};
use crate::error::{Error, ErrorKind};
use crate::plan::{Bytes, Plan};
use crate::seccomp::{self, SeccompData, simulate};
use crate::state::Record;

fn request(process: Option<&Process>) -> Request {
    let console_socket = process.and_then(Process::terminal).unwrap_or(false);
    Request { null_streams: 1, console_socket, ..sample::request() }
}

/// An error says what is wrong, and is not ours.
fn check(error: &Error) {
    let text = error.to_string();
    assert!(error.kind() != ErrorKind::Bug, "{text}");
    assert!(text.len() > 5, "{text:?}");
}

/// A plan can be told, and comes through to the init.
fn check_plan(plan: &Plan) -> Vec<u8> {
    assert!(plan.to_text().lines().count() > plan.child.len());
    assert!(plan.to_json().is_object() || plan.to_json().is_array());
    let bytes = wire(plan);
    let (header, ops) = decode(&bytes).unwrap_or_else(|| panic!("the init cannot read {plan:?}"));
    assert_eq!((header.ops as usize, ops.len()), (plan.child.len(), plan.child.len()));
    for (op, step) in ops.iter().zip(&plan.child) {
        let again = postcard::to_allocvec(&step.op).unwrap_or_default();
        assert_eq!(
            postcard::take_from_bytes::<Op<Str<'_>>>(&again).ok().map(|(op, _)| op).as_ref(),
            Some(op)
        );
    }
    bytes
}

fn wire(plan: &Plan) -> Vec<u8> {
    let header = Header {
        version: VERSION,
        ops: u32::try_from(plan.child.len()).unwrap_or(u32::MAX),
        control_fd: 3,
        progress_fd: 4,
        start_fd: 5,
        slots: Bytes::blob([]),
        ignored_signals: 0,
        sealed_mounts: plan.sealed_mounts(),
        strings: plan.strings(),
        preserve_fds: plan.preserve_fds,
        admission: plan.admission(),
        session: plan.session(),
    };
    crate::supervise::encode(&header, plan).unwrap_or_else(|error| panic!("{error}"))
}

/// As `run.rs` of the init does it, to the first operation that it does not understand.
fn decode(bytes: &[u8]) -> Option<(Header<Str<'_>>, Vec<Op<Str<'_>>>)> {
    let (header, mut rest) = postcard::take_from_bytes::<Header<Str<'_>>>(bytes).ok()?;
    let mut ops = Vec::new();
    for _ in 0..header.ops {
        let (op, after) = postcard::take_from_bytes::<Op<Str<'_>>>(rest).ok()?;
        rest = after;
        ops.push(op);
    }
    Some((header, ops))
}

/// config.json, from its bytes to the plan as the init gets it.
pub fn config(bytes: &[u8]) {
    let spec = match crate::bundle::parse(bytes) {
        Ok((spec, _)) => spec,
        Err(error) => return check(&error),
    };
    match compile(&spec, &request(spec.process().as_ref()), &facts()) {
        Ok(plan) => drop(check_plan(&plan)),
        Err(error) => check(&error),
    }
}

/// The container that processes come to.
static CONTAINER: LazyLock<(Spec, Plan)> = LazyLock::new(|| {
    let config = include_bytes!("../../fuzz/seeds/config/docker.json");
    let compiled = || {
        let (spec, _) = crate::bundle::parse(config)?;
        let plan = compile(&spec, &request(spec.process().as_ref()), &facts())?;
        Ok::<_, Error>((spec, plan))
    };
    compiled().unwrap_or_else(|error| panic!("the container is wrong: {error}"))
});

/// process.json of `exec`.
pub fn process(bytes: &[u8]) {
    let process = match crate::bundle::parse_process(bytes) {
        Ok(process) => process,
        Err(error) => return check(&error),
    };
    let (spec, plan) = &*CONTAINER;
    let request = Request { joins: true, joins_pid: true, ..request(Some(&process)) };
    let join = Join::of(spec, plan, &request).unwrap_or_else(|| panic!("no process"));
    match exec::compile(&join, &process, None, None, &request, &facts()) {
        Ok(plan) => drop(check_plan(&plan)),
        Err(error) => check(&error),
    }
}

/// state.json: what is read is what was written.
pub fn state(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let written = serde_json::to_vec(&record).unwrap_or_default();
    let again: Record = serde_json::from_slice(&written).unwrap_or_else(|error| panic!("{error}"));
    assert!(again == record);
}

/// The plan's wire form, as the init reads it: every string lies in what was handed over.
pub fn plan(bytes: &[u8]) {
    let Some((header, ops)) = decode(bytes) else { return };
    let inside = |text: Str<'_>| {
        let range = bytes.as_ptr_range();
        text.0.is_empty() || range.contains(&text.0.as_ptr())
    };
    assert!(inside(header.slots));
    for op in &ops {
        // Debug shows every field of every kind.
        assert!(!format!("{op:?}").is_empty());
        if let Op::Exec { args, env } = op {
            assert!(inside(*args) && inside(*env));
            let total: usize = args.list().map(|arg| arg.count_bytes() + 1).sum();
            assert!(total <= args.0.len());
        }
    }
}

/// A seccomp profile: it is refused, or a program that ends for every call with an answer that the profile gives.
pub fn seccomp(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) else { return };
    let filter = match seccomp::compile(&profile, "linux.seccomp") {
        Ok(filter) => filter,
        Err(error) => return check(&error),
    };
    assert!(filter.instructions.len() <= 4096);
    let answers: Vec<u32> =
        filter.instructions.iter().filter(|i| i.code == 0x06).map(|i| i.k).collect();
    let seed = u64::try_from(bytes.len()).unwrap_or(0);
    for number in (0..470).chain([u32::MAX, 0x4000_0000, 0x4000_0001]) {
        for arch in [0xc000_003e, 0x4000_0003, 0] {
            let args = [u64::from(number), seed, u64::MAX, 0, 1 << 31, 1 << 32];
            let call = SeccompData { number, arch, instruction_pointer: 0, args };
            assert!(answers.contains(&simulate(&filter.instructions, &call)));
        }
    }
    let again = seccomp::Filter::from_bytes(&filter.to_bytes(), filter.flags);
    assert_eq!(again.instructions, filter.instructions);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::mutate::Random;
    use super::*;

    /// How long each target runs; `ORLOP_FUZZ_SECONDS` says otherwise.
    const TIME: Duration = Duration::from_secs(3);

    fn directory(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> =
            fs::read_dir(directory(target)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn fuzz(target: &str, run: fn(&[u8])) {
        let seeds = seeds(target);
        assert!(!seeds.is_empty());
        seeds.iter().for_each(|seed| run(seed));
        let seconds = std::env::var("ORLOP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let end = Instant::now() + seconds.map_or(TIME, Duration::from_secs);
        let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
        let mut count = 0_u64;
        while Instant::now() < end {
            let mut bytes = seeds[random.next(seeds.len())].clone();
            match random.json(&bytes) {
                Some(json) if random.next(8) != 0 => bytes = json,
                _ => random.bytes(&mut bytes),
            }
            let last = directory("..").join("..").join("artifacts").join(format!("{target}.last"));
            let result = std::panic::catch_unwind(|| run(&bytes));
            if let Err(panic) = result {
                let _: std::io::Result<()> = fs::create_dir_all(last.parent().unwrap());
                fs::write(&last, &bytes).unwrap();
                eprintln!("the input is in {}", last.display());
                std::panic::resume_unwind(panic);
            }
            count += 1;
        }
        eprintln!("{target}: {count} inputs");
    }

    /// Seeds that this crate's own code writes: `UPDATE_GOLDEN=1` writes them anew.
    #[test]
    fn seeds_of_plans_and_states_are_there() {
        for (name, seed) in ["a", "b", "c", "d", "e", "f"].iter().zip(seeds("config")) {
            let (spec, _) = crate::bundle::parse(&seed).unwrap();
            let plan = compile(&spec, &request(spec.process().as_ref()), &facts()).unwrap();
            let bytes = check_plan(&plan);
            let mut record = crate::create::intent(&plan);
            record.join = Join::of(&spec, &plan, &request(None)).map(Box::new);
            record.resources = crate::update::saved(&spec);
            let state = serde_json::to_vec_pretty(&record).unwrap();
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                for (target, bytes) in [("plan", &bytes), ("state", &state)] {
                    fs::create_dir_all(directory(target)).unwrap();
                    fs::write(directory(target).join(name), bytes).unwrap();
                }
            }
            super::plan(&bytes);
            super::state(&state);
        }
        assert!(!seeds("plan").is_empty() && !seeds("state").is_empty());
    }

    #[test]
    fn no_config_makes_the_compiler_panic() {
        fuzz("config", config);
    }

    #[test]
    fn no_process_makes_the_compiler_panic() {
        fuzz("process", process);
    }

    #[test]
    fn no_state_makes_its_reader_panic() {
        fuzz("state", state);
    }

    #[test]
    fn no_plan_makes_the_init_read_beside_it() {
        fuzz("plan", plan);
    }

    #[test]
    fn no_profile_makes_a_program_that_does_not_end() {
        fuzz("seccomp", seccomp);
    }
}
