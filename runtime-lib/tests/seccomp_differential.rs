//! Compiles profiles with orlop and, as runc does, with libseccomp, and runs both programs in the
//! simulator on the same system calls.
//!
//! The differences that are allowed:
//!
//! 1. libseccomp does not know names newer than itself, and its versions disagree about
//!    map_shadow_stack on x32; [`known_to_libseccomp`] takes such names out.
//! 2. It answers nothing for calls newer than the profile: runc puts a program in front of it that
//!    answers ENOSYS. [`Oracle::newest`] does what that program does.
//!    runc takes a call with two doors for nameless there (libseccomp gives it a number below 0);
//!    for us its own number counts. The generator's pool has a newer call in every profile.
//! 3. Where several rules with conditions are for one call, libseccomp merges them into a tree. Which
//!    of two rules with different answers wins then depends on the order in which they were added,
//!    on how their high and low words sort and on which nodes they share; some rules get lost (LT 0
//!    hides LE 1 << 32, for one), and some profiles are refused. There orlop's answer has to be that
//!    of a rule that matches, or the default where none does: see [`Reference`].
//! 4. libseccomp 2.5.4 writes no instruction that loads the number if the call that it tests first
//!    is one that the architecture does not have. [`PIVOT`] is tested first.

#![cfg(target_arch = "x86_64")]
// The lints know only functions marked #[test]; what those call may fail by panicking as well.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator as Operator, LinuxSyscall, LinuxSyscallBuilder,
};
use orlop::seccomp::{Filter, Instruction, SeccompData, compile, simulate};

const X32_BIT: u32 = 0x4000_0000;
/// A call that all architectures have, with a rule in every generated profile; no other call there
/// is newer.
const PIVOT: &str = "faccessat2";
const ENOSYS: u32 = 0x0005_0000 | 38;

// ---------------------------------------------------------------------------------------------
// libseccomp, driven as runc drives it
// ---------------------------------------------------------------------------------------------

struct Oracle {
    program: Vec<Instruction>,
    /// For x86_64, x86 and x32: the newest call that the profile names, where runc's rule applies.
    newest: [Option<u32>; 3],
}

impl Oracle {
    /// `Err` where libseccomp refuses the profile.
    fn new(profile: &LinuxSeccomp) -> Result<Self, libseccomp::error::SeccompError> {
        let default = scmp_action(profile.default_action(), profile.default_errno_ret());
        let mut filter = ScmpFilterContext::new(default)?;
        for arch in profile.architectures().iter().flatten() {
            filter.add_arch(scmp_arch(*arch))?;
        }
        for block in profile.syscalls().iter().flatten() {
            let action = scmp_action(block.action(), block.errno_ret());
            for name in block.names().iter().filter(|_| action != default) {
                let call = ScmpSyscall::from_name(name)?;
                for conditions in rules_of(block) {
                    if conditions.is_empty() {
                        filter.add_rule(action, call)?;
                    } else {
                        let conditions: Vec<_> = conditions.iter().map(scmp_condition).collect();
                        filter.add_rule_conditional(action, call, &conditions)?;
                    }
                }
            }
        }
        if let Ok(pivot) = ScmpSyscall::from_name(PIVOT) {
            filter.set_syscall_priority(pivot, u8::MAX)?;
        }
        let program = exported(&filter);
        let newest = [ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32].map(|arch| {
            let permissive =
                matches!(default, ScmpAction::Allow | ScmpAction::Log | ScmpAction::Trace(_));
            let listed = filter.is_arch_present(arch).unwrap();
            let names = profile.syscalls().iter().flatten().flat_map(|block| block.names());
            let numbers = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
            let newest = numbers.map(ScmpSyscall::as_raw_syscall).max();
            newest
                .filter(|nr| listed && !permissive && *nr > 0)
                .map(|nr| u32::try_from(nr).unwrap())
        });
        Ok(Self { program, newest })
    }

    fn answer(&self, call: &SeccompData) -> u32 {
        let newest = match (call.arch, call.number & X32_BIT) {
            (X86_64, 0) => self.newest[0],
            (X86, _) => self.newest[1],
            (X86_64, _) => self.newest[2],
            _ => None,
        };
        match newest {
            Some(newest) if call.number > newest => ENOSYS,
            _ => simulate(&self.program, call),
        }
    }
}

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

fn exported(filter: &ScmpFilterContext) -> Vec<Instruction> {
    use std::io::{Read, Seek};
    let name = c"filter";
    let memory = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    filter.export_bpf(&memory).unwrap();
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(memory);
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|[a, b, jt, jf, k @ ..]| Instruction {
            code: u16::from_ne_bytes([*a, *b]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes(*k),
        })
        .collect()
}

/// The lists of conditions that runc makes of an entry: one, or one for each condition where two
/// of them look at the same argument.
fn rules_of(block: &LinuxSyscall) -> Vec<Vec<LinuxSeccompArg>> {
    let args = block.args().clone().unwrap_or_default();
    let distinct: BTreeSet<usize> = args.iter().map(LinuxSeccompArg::index).collect();
    if distinct.len() < args.len() {
        args.into_iter().map(|arg| vec![arg]).collect()
    } else {
        vec![args]
    }
}

fn scmp_action(action: Action, data: Option<u32>) -> ScmpAction {
    let data = data.unwrap_or(1);
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(i32::try_from(data).unwrap()),
        Action::ScmpActTrace => ScmpAction::Trace(u16::try_from(data).unwrap()),
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
        Action::ScmpActNotify => ScmpAction::Notify,
    }
}

fn scmp_arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX32 => ScmpArch::X32,
        other => panic!("the test has no {other}"),
    }
}

fn scmp_condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (op, value) = match arg.op() {
        Operator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Operator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Operator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Operator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Operator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Operator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        Operator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    ScmpArgCompare::new(u32::try_from(arg.index()).unwrap(), op, value)
}

/// The profile without the names that this libseccomp does not know, and those names.
fn known_to_libseccomp(profile: LinuxSeccomp) -> (LinuxSeccomp, Vec<String>) {
    let mut unknown = Vec::new();
    let mut blocks = profile.syscalls().clone().unwrap_or_default();
    for block in &mut blocks {
        let known =
            |name: &String| name != "map_shadow_stack" && ScmpSyscall::from_name(name).is_ok();
        let (known, newer) = block.names().iter().cloned().partition(known);
        block.set_names(known);
        unknown.extend::<Vec<String>>(newer);
    }
    let mut profile = profile;
    profile.set_syscalls(Some(blocks));
    (profile, unknown)
}

// ---------------------------------------------------------------------------------------------
// What a profile means, spelled out as plainly as possible
// ---------------------------------------------------------------------------------------------

/// The rules of a profile by architecture and number, without those that answer what the default
/// does anyway.
#[derive(Default)]
struct Reference(BTreeMap<(u32, u32), Vec<Rule>>);

/// Conditions and the answer where they all hold.
type Rule = (Vec<LinuxSeccompArg>, u32);

impl Reference {
    fn new(profile: &LinuxSeccomp) -> Self {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut reference = Self::default();
        for block in profile.syscalls().iter().flatten() {
            let answer = block.action().as_u32(block.errno_ret());
            for name in block.names().iter().filter(|_| answer != default) {
                for door in doors(name) {
                    for mut conditions in rules_of(block) {
                        if let Some(operation) = door.operation {
                            conditions.retain(|condition| condition.index() != 0);
                            conditions.push(equal(0, operation));
                        }
                        let rules = reference.0.entry((door.audit, door.number)).or_default();
                        rules.push((conditions, answer));
                    }
                }
            }
        }
        reference
    }

    /// How many rules with conditions there are for a call.
    fn rules(&self, call: &SeccompData) -> usize {
        self.0.get(&(call.arch, call.number)).map_or(0, Vec::len)
    }

    /// The answers of all rules that match a call.
    fn answers(&self, call: &SeccompData) -> BTreeSet<u32> {
        let narrow = call.arch == X86 || call.number & X32_BIT != 0;
        let bits = if narrow { u64::from(u32::MAX) } else { u64::MAX };
        let holds = |condition: &LinuxSeccompArg| {
            let arg = call.args[condition.index()] & bits;
            let value = condition.value() & bits;
            match condition.op() {
                Operator::ScmpCmpNe => arg != value,
                Operator::ScmpCmpLt => arg < value,
                Operator::ScmpCmpLe => arg <= value,
                Operator::ScmpCmpEq => arg == value,
                Operator::ScmpCmpGe => arg >= value,
                Operator::ScmpCmpGt => arg > value,
                Operator::ScmpCmpMaskedEq => {
                    arg & value == condition.value_two().unwrap_or(0) & value
                }
            }
        };
        let rules = self.0.get(&(call.arch, call.number)).into_iter().flatten();
        let matching = rules.filter(|(conditions, _)| conditions.iter().all(holds));
        matching.map(|(_, answer)| *answer).collect()
    }
}

fn equal(index: usize, value: u64) -> LinuxSeccompArg {
    let arg = LinuxSeccompArgBuilder::default().index(index).value(value);
    arg.op(Operator::ScmpCmpEq).build().unwrap()
}

/// A way to make a call.
struct Door {
    audit: u32,
    number: u32,
    /// The first argument that socketcall(2) or ipc(2) do it by.
    operation: Option<u64>,
}

fn doors(name: &str) -> Vec<Door> {
    let archs = [(ScmpArch::X8664, X86_64), (ScmpArch::X86, X86), (ScmpArch::X32, X86_64)];
    let named = archs.into_iter().filter_map(|(arch, audit)| {
        let number = ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall();
        Some(Door { audit, number: u32::try_from(number).ok()?, operation: None })
    });
    // libseccomp keeps these to itself; the generator uses no others.
    let x86: &[(u32, Option<u64>)] = match name {
        "socket" => &[(102, Some(1)), (359, None)],
        "connect" => &[(102, Some(3)), (362, None)],
        "recv" => &[(102, Some(10))],
        "semget" => &[(117, Some(2)), (393, None)],
        "shmat" => &[(117, Some(21)), (397, None)],
        _ => &[],
    };
    let x86 = x86.iter().map(|(number, operation)| Door {
        audit: X86,
        number: *number,
        operation: *operation,
    });
    named.chain(x86).collect()
}

// ---------------------------------------------------------------------------------------------
// The comparison
// ---------------------------------------------------------------------------------------------

/// What a comparison saw.
#[derive(Debug, Default)]
struct Tally {
    profiles: usize,
    refused: usize,
    calls: usize,
    /// Calls that rules with different answers match, and those of them where we differ.
    contested: usize,
    other_order: usize,
    /// Calls where libseccomp does not do what the only matching rule says.
    lost_rule: usize,
}

fn compare(profile: &LinuxSeccomp, tally: &mut Tally) {
    tally.profiles += 1;
    let Filter { instructions, .. } = compile(profile, "linux.seccomp").unwrap();
    let Ok(oracle) = Oracle::new(profile) else {
        tally.refused += 1;
        return;
    };
    let reference = Reference::new(profile);
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    for call in calls(profile) {
        tally.calls += 1;
        let (ours, theirs) = (simulate(&instructions, &call), oracle.answer(&call));
        let possible = reference.answers(&call);
        tally.contested += usize::from(possible.len() > 1);
        if ours == theirs {
            continue;
        }
        let right = if possible.is_empty() { ours == default } else { possible.contains(&ours) };
        assert!(
            right && reference.rules(&call) > 1,
            "{call:x?}: orlop says {ours:#x}, libseccomp {theirs:#x}, the rules {possible:x?}\n\
             {}",
            serde_json::to_string(profile).unwrap()
        );
        if possible.len() > 1 {
            tally.other_order += 1;
        } else {
            tally.lost_rule += 1;
        }
    }
}

/// All numbers of every architecture, and around the values of the rules all arguments of interest.
fn calls(profile: &LinuxSeccomp) -> Vec<SeccompData> {
    let mut calls = Vec::new();
    let call = |arch, number, args| SeccompData { number, arch, instruction_pointer: 0, args };
    let junk = [0x3fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, 0xffff_fffe, u32::MAX];
    for arch in [X86_64, X86, 0xc000_00b7, 0] {
        for number in (0..600).chain(X32_BIT..X32_BIT + 600).chain(junk) {
            calls.push(call(arch, number, [0; 6]));
        }
    }
    for block in profile.syscalls().iter().flatten() {
        for arg in block.args().iter().flatten() {
            for name in block.names() {
                for Door { audit, number, operation } in doors(name) {
                    for mut args in sampled(arg, profile) {
                        args[0] = operation.unwrap_or(args[0]);
                        calls.push(call(audit, number, args));
                    }
                }
            }
        }
    }
    calls
}

/// Arguments around the value of a condition, with those of the others of the profile beside it.
fn sampled(arg: &LinuxSeccompArg, profile: &LinuxSeccomp) -> Vec<[u64; 6]> {
    let around = |value: u64| {
        let high = 1 << 32;
        [
            value,
            value.wrapping_sub(1),
            value.wrapping_add(1),
            value.wrapping_add(high),
            value.wrapping_sub(high),
            value & 0xffff_ffff,
            value >> 32,
            !value,
            value | 0xf0,
            u64::MAX,
        ]
    };
    let values = [arg.value(), arg.value_two().unwrap_or(0)];
    let others: Vec<(usize, u64)> = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|block| block.args().iter().flatten())
        .map(|other| (other.index(), other.value_two().unwrap_or(other.value())))
        .filter(|(index, _)| *index != arg.index())
        .take(4)
        .collect();
    let mut sampled = Vec::new();
    for value in values.into_iter().flat_map(around) {
        let mut args = [0; 6];
        args[arg.index()] = value;
        sampled.push(args);
        for (index, other) in &others {
            args[*index] = *other;
            sampled.push(args);
        }
    }
    sampled
}

#[test]
fn real_profiles_answer_as_under_runc() {
    for (json, at_most_unknown) in [
        (include_str!("data/seccomp-docker.json"), 20),
        (include_str!("data/seccomp-podman.json"), 40),
    ] {
        let profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
        let (profile, unknown) = known_to_libseccomp(profile);
        assert!(unknown.len() <= at_most_unknown, "libseccomp lacks {unknown:?}");
        let mut tally = Tally::default();
        compare(&profile, &mut tally);
        assert_eq!((tally.refused, tally.other_order), (0, 0));
    }
}

#[test]
fn generated_profiles_answer_as_under_runc() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut tally = Tally::default();
    for _ in 0..400 {
        compare(&random.profile(), &mut tally);
    }
    eprintln!("{tally:?}");
    assert!(tally.refused * 4 < tally.profiles, "{tally:?}");
    assert!(tally.other_order * 100 < tally.calls, "{tally:?}");
}

// ---------------------------------------------------------------------------------------------
// Profiles at random
// ---------------------------------------------------------------------------------------------

/// Marsaglia's xorshift, for the same profiles on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn action(&mut self) -> (Action, Option<u32>) {
        let action = self.one(&[
            Action::ScmpActKill,
            Action::ScmpActKillProcess,
            Action::ScmpActKillThread,
            Action::ScmpActTrap,
            Action::ScmpActErrno,
            Action::ScmpActErrno,
            Action::ScmpActTrace,
            Action::ScmpActLog,
            Action::ScmpActAllow,
            Action::ScmpActAllow,
        ]);
        (action, self.one(&[None, Some(1), Some(38), Some(95)]))
    }

    fn arg(&mut self) -> LinuxSeccompArg {
        let value = self.one(&[
            0,
            1,
            2,
            40,
            0xff,
            0x7e02_0000,
            0xffff_ffff,
            1 << 32,
            (1 << 32) + 5,
            u64::MAX,
            0xff << 36,
        ]);
        let arg =
            LinuxSeccompArgBuilder::default().index(self.below(6)).value(value).op(self.one(&[
                Operator::ScmpCmpNe,
                Operator::ScmpCmpLt,
                Operator::ScmpCmpLe,
                Operator::ScmpCmpEq,
                Operator::ScmpCmpGe,
                Operator::ScmpCmpGt,
                Operator::ScmpCmpMaskedEq,
            ]));
        let value_two = self.one(&[None, Some(0_u64), Some(3), Some(0x0200_0000), Some(1 << 36)]);
        let arg = match value_two {
            Some(value_two) => arg.value_two(value_two),
            None => arg,
        };
        arg.build().unwrap()
    }

    fn block(&mut self) -> LinuxSyscall {
        const POOL: [&str; 24] = [
            "read",
            "write",
            "openat",
            "close",
            "ioctl",
            "clone",
            "personality",
            "socket",
            "connect",
            "semget",
            "shmat",
            "ptrace",
            "execve",
            "mount",
            "unshare",
            "kill",
            "waitpid",
            "recv",
            "rt_sigaction",
            "set_thread_area",
            "preadv2",
            "clone3",
            "no_such_call",
            "getuid32",
        ];
        let names: Vec<String> = (0..=self.below(5)).map(|_| self.one(&POOL).to_owned()).collect();
        let (action, data) = self.action();
        let mut block = LinuxSyscallBuilder::default().names(names).action(action);
        if let Some(data) = data {
            block = block.errno_ret(data);
        }
        let args: Vec<LinuxSeccompArg> =
            (0..self.one(&[0, 0, 1, 1, 2, 3])).map(|_| self.arg()).collect();
        block.args(args).build().unwrap()
    }

    fn profile(&mut self) -> LinuxSeccomp {
        let (action, data) = self.action();
        let mut blocks: Vec<LinuxSyscall> = (0..self.below(8)).map(|_| self.block()).collect();
        // Differences 2 and 4.
        let pivot = LinuxSyscallBuilder::default().names([PIVOT.to_owned()]).action(
            if action == Action::ScmpActAllow { Action::ScmpActTrap } else { Action::ScmpActAllow },
        );
        blocks.push(pivot.build().unwrap());
        let archs: &[&[Arch]] = &[
            &[],
            &[Arch::ScmpArchX86_64],
            &[Arch::ScmpArchX86],
            &[Arch::ScmpArchX32],
            &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        ];
        let mut profile = LinuxSeccompBuilder::default()
            .default_action(action)
            .architectures(self.one(archs))
            .syscalls(blocks);
        if let Some(data) = data {
            profile = profile.default_errno_ret(data);
        }
        known_to_libseccomp(profile.build().unwrap()).0
    }
}
