//! A profile as rules by number: names resolved, words translated, conditions in the order of trial.

use std::cmp::{Ordering, Reverse};

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::known::{ACTIONS, ARCHITECTURES, FLAGS, ret};
use super::names::{self, Abi};
use crate::error::{Error, Result};

/// What calls of an ABI that the profile does not list get: libseccomp's default for them.
pub(super) const BAD_ARCH: u32 = ret::KILL_THREAD;

/// Where the kernel does not know a call it says ENOSYS, and so do we for calls of the future.
pub(super) const ENOSYS: u32 = ret::ERRNO | libc::ENOSYS as u32;

const EPERM: u32 = libc::EPERM as u32;

/// A profile, ready to be turned into a program.
#[derive(Debug)]
pub(super) struct Policy {
    /// What a call gets that no rule matches.
    pub(super) default: u32,
    /// One for each architecture of the profile, the native one first.
    pub(super) abis: Vec<AbiPolicy>,
}

/// The rules for the system calls of one ABI.
#[derive(Debug)]
pub(super) struct AbiPolicy {
    pub(super) abi: &'static Abi,
    /// By ascending number; a number stands here once.
    pub(super) calls: Vec<(u32, Verdict)>,
    /// Calls with a greater number than this are newer than the profile and get [`ENOSYS`].
    pub(super) newest: Option<u32>,
}

/// What becomes of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This, whatever its arguments.
    Answer(u32),
    /// What the first rule says that matches; the default where none does.
    Check(Vec<Rule>),
}

/// Conditions that must all hold, and the answer where they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) answer: u32,
}

/// A comparison of one argument; the profile's operators come down to these by `negated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0.
    pub(super) index: u32,
    pub(super) test: Test,
    /// Whether the condition holds where the test fails.
    pub(super) negated: bool,
    /// The bits of the argument that count.
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// What a condition compares, the argument on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

impl Policy {
    /// Reads a profile. `field` is its place in config.json.
    pub(super) fn read(profile: &LinuxSeccomp, field: &str) -> Result<Self> {
        check_notify(profile, field)?;
        let place = |name: &str| match name {
            "action" => format!("{field}.defaultAction"),
            _ => format!("{field}.defaultErrnoRet"),
        };
        let default = answer(profile.default_action(), profile.default_errno_ret(), &place)?;
        let blocks = profile.syscalls().as_deref().unwrap_or_default();
        let blocks = blocks.iter().enumerate();
        let blocks: Vec<Block> = blocks
            .map(|(i, block)| Block::read(block, &format!("{field}.syscalls[{i}]")))
            .collect::<Result<_>>()?;
        let abis = architectures(profile, field)?.into_iter();
        Ok(Self { default, abis: abis.map(|abi| AbiPolicy::new(abi, &blocks, default)).collect() })
    }
}

/// The flags for seccomp(2). Without a list in the profile it is SPEC_ALLOW, as in runc.
pub(super) fn flags(profile: &LinuxSeccomp, field: &str) -> Result<u32> {
    let spec_allow = [LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow];
    let listed = profile.flags().as_deref().unwrap_or(&spec_allow);
    listed.iter().enumerate().try_fold(0, |bits, (i, flag)| {
        let known = FLAGS.iter().find(|known| known.1 == *flag);
        let known = known.ok_or_else(|| {
            Error::config(
                format!("{field}.flags[{i}]"),
                format!("seccomp flag {flag} is not known"),
            )
        })?;
        Ok(bits | known.2)
    })
}

/// What could not start if an agent had to be asked (the refusals and their words are runc's): the
/// container's process tells its creator of the listener by write(2).
fn check_notify(profile: &LinuxSeccomp, field: &str) -> Result<()> {
    const NOTIFY: LinuxSeccompAction = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == NOTIFY {
        let text = "SCMP_ACT_NOTIFY cannot be used as default action";
        return Err(Error::config(format!("{field}.defaultAction"), text));
    }
    for (i, block) in profile.syscalls().iter().flatten().enumerate() {
        let write = block.names().iter().position(|name| name == "write");
        if let Some(j) = write.filter(|_| block.action() == NOTIFY) {
            let text = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
            return Err(Error::config(format!("{field}.syscalls[{i}].names[{j}]"), text));
        }
    }
    Ok(())
}

/// The ABIs that the profile is for: the native one always, and those it lists.
fn architectures(profile: &LinuxSeccomp, field: &str) -> Result<Vec<&'static Abi>> {
    let mut abis = vec![names::native()?];
    for (i, arch) in profile.architectures().iter().flatten().enumerate() {
        let known = *arch == Arch::ScmpArchNative || ARCHITECTURES.iter().any(|k| k.1 == *arch);
        if !known {
            let message = format!("no seccomp rules can be made for the architecture {arch}");
            return Err(Error::unsupported(format!("{field}.architectures[{i}]"), message));
        }
        let new = names::abi(*arch).filter(|abi| abis.iter().all(|a| a.arch != abi.arch));
        abis.extend(new);
    }
    Ok(abis)
}

/// An action with its data, as the kernel reads it from the filter.
///
/// Only ERRNO and TRACE carry data, EPERM unless the profile says other; runc ignores it elsewhere.
fn answer(
    action: LinuxSeccompAction,
    data: Option<u32>,
    place: &dyn Fn(&str) -> String,
) -> Result<u32> {
    let known = ACTIONS.iter().find(|known| known.1 == action);
    let known = known.ok_or_else(|| {
        Error::config(place("action"), format!("seccomp action {action} is not known"))
    })?;
    match known.2 {
        action @ (ret::ERRNO | ret::TRACE) => match data.unwrap_or(EPERM) {
            data if data <= ret::DATA => Ok(action | data),
            data => Err(Error::config(place("errnoRet"), format!("{data} is more than 16 bits"))),
        },
        action => Ok(action),
    }
}

/// An entry of `syscalls`: what each of its names gets.
struct Block<'a> {
    names: &'a [String],
    /// One of them has to match.
    rules: Vec<Rule>,
}

impl<'a> Block<'a> {
    fn read(block: &'a LinuxSyscall, field: &str) -> Result<Self> {
        let place = |name: &str| format!("{field}.{name}");
        let answer = answer(block.action(), block.errno_ret(), &place)?;
        if let Some(i) = block.names().iter().position(String::is_empty) {
            return Err(Error::config(place(&format!("names[{i}]")), "must not be empty"));
        }
        let args = block.args().as_deref().unwrap_or_default();
        let mut conditions = args
            .iter()
            .enumerate()
            .map(|(i, arg)| Condition::read(arg, &format!("{field}.args[{i}]")))
            .collect::<Result<Vec<_>>>()?;
        conditions.sort_by_key(|condition| condition.index);

        // Two conditions on one argument: runc takes each condition of the entry for a rule of its
        // own, so that one of them suffices. Old Docker profiles count on that.
        let twice = conditions.windows(2).any(|pair| match pair {
            [a, b] => a.index == b.index,
            _ => false,
        });
        let rules = if twice {
            let alone = |condition| Rule { conditions: vec![condition], answer };
            conditions.into_iter().map(alone).collect()
        } else {
            vec![Rule { conditions, answer }]
        };
        Ok(Self { names: block.names(), rules })
    }
}

impl Condition {
    fn read(arg: &LinuxSeccompArg, field: &str) -> Result<Self> {
        let index =
            u32::try_from(arg.index()).ok().filter(|index| *index < 6).ok_or_else(|| {
                Error::config(format!("{field}.index"), "system calls have arguments 0 to 5 only")
            })?;
        let (test, negated) = match arg.op() {
            Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (Test::Equal, false),
            Operator::ScmpCmpNe => (Test::Equal, true),
            Operator::ScmpCmpGt => (Test::Greater, false),
            Operator::ScmpCmpLe => (Test::Greater, true),
            Operator::ScmpCmpGe => (Test::GreaterOrEqual, false),
            Operator::ScmpCmpLt => (Test::GreaterOrEqual, true),
        };
        let (mask, value) = match arg.op() {
            Operator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
            _ => (u64::MAX, arg.value()),
        };
        Ok(Self { index, test, negated, mask, value: value & mask })
    }

    /// The condition on those bits that an ABI's arguments have, or `None` where it always holds.
    fn within(mut self, bits: u64) -> Option<Self> {
        self.mask &= bits;
        self.value &= bits;
        (self.mask != 0).then_some(self)
    }

    /// Sorts conditions into the order in which libseccomp tries them, so that profiles whose rules
    /// overlap mean what they mean there: later arguments first, then equality, then upper bounds
    /// (the least first), then lower bounds (the greatest first).
    fn precedence(&self) -> (Reverse<u32>, u8, u64) {
        let (rank, value) = match (self.test, self.negated) {
            (Test::Equal, _) => (0, !self.value),
            (_, true) => (1, self.value),
            (_, false) => (2, !self.value),
        };
        (Reverse(self.index), rank, value)
    }
}

impl Rule {
    fn within(&self, bits: u64) -> Self {
        let conditions = self.conditions.iter().filter_map(|condition| condition.within(bits));
        Self { conditions: conditions.collect(), answer: self.answer }
    }

    /// The rule for the call's second door, whose first argument says which call is meant.
    ///
    /// The other conditions stay although the door's arguments are others, as in libseccomp; what a
    /// pointer leads to is out of a filter's reach anyway.
    fn through(&self, operation: u64) -> Self {
        let mask = u64::from(u32::MAX);
        let first =
            Condition { index: 0, test: Test::Equal, negated: false, mask, value: operation };
        let rest = self.conditions.iter().copied().filter(|condition| condition.index != 0);
        Self { conditions: std::iter::once(first).chain(rest).collect(), answer: self.answer }
    }

    fn precedence(&self, other: &Self) -> Ordering {
        self.conditions
            .iter()
            .map(Condition::precedence)
            .cmp(other.conditions.iter().map(Condition::precedence))
    }
}

impl AbiPolicy {
    fn new(abi: &'static Abi, blocks: &[Block], default: u32) -> Self {
        let names = blocks.iter().map(|block| block.names.len()).sum();
        let mut rules: Vec<(u32, Rule)> = Vec::with_capacity(names);
        let mut newest = None;
        for block in blocks {
            let narrowed: Vec<Rule> =
                block.rules.iter().map(|r| r.within(abi.argument_bits)).collect();
            // A rule that says what happens anyway must not hide one that says something else.
            let matters = |rule: &&Rule| rule.answer != default;
            for name in block.names {
                if let Some(number) = abi.number(name) {
                    newest = newest.max(Some(number));
                    rules.extend(narrowed.iter().filter(matters).map(|r| (number, r.clone())));
                }
                if let Some((number, operation)) = abi.multiplexed(name) {
                    let doors = narrowed.iter().filter(matters).map(|r| r.through(operation));
                    rules.extend(doors.map(|rule| (number, rule)));
                }
            }
        }
        rules.sort_by_key(|(number, _)| *number);
        let mut calls: Vec<(u32, Verdict)> =
            rules.chunk_by(|a, b| a.0 == b.0).filter_map(verdict).collect();

        // A default that lets calls pass needs no ENOSYS; TRACE counts, as the tracer may know better.
        // To runc the number 0 is "none", so a profile that names only that call has none either.
        let permissive = matches!(default & ret::ACTION, ret::ALLOW | ret::LOG | ret::TRACE);
        let newest = newest.filter(|newest| *newest > 0 && !permissive);
        if newest.is_some() && abi.arch == Arch::ScmpArchS390x {
            // Entry code there turns calls that the kernel does not know into setup(2), number 0.
            calls.retain(|(number, _)| *number != 0);
            calls.insert(0, (0, Verdict::Answer(ENOSYS)));
        }
        Self { abi, calls, newest }
    }
}

/// What the rules for one number come to. A rule without conditions wins, wherever it stands; where
/// there are several, the first.
fn verdict(rules: &[(u32, Rule)]) -> Option<(u32, Verdict)> {
    let (number, _) = rules.first()?;
    if let Some((_, always)) = rules.iter().find(|(_, rule)| rule.conditions.is_empty()) {
        return Some((*number, Verdict::Answer(always.answer)));
    }
    let mut rules: Vec<Rule> = rules.iter().map(|(_, rule)| rule.clone()).collect();
    rules.sort_by(Rule::precedence);
    Some((*number, Verdict::Check(rules)))
}
