//! Rules to a program: first the architecture, then a binary search for the call's number, then its
//! arguments.

use super::bpf::{Assembler, Instruction, Target, Word, op};
use super::names::X32_BIT;
use super::rules::{AbiPolicy, BAD_ARCH, Condition, ENOSYS, Policy, Rule, Test, Verdict};
use oci_spec::runtime::Arch;

/// Writes the program of a policy.
pub(super) fn program(policy: &Policy) -> Vec<Instruction> {
    let mut audits: Vec<u32> = policy.abis.iter().map(|abi| abi.abi.audit).collect();
    audits.sort_unstable();
    audits.dedup();

    let mut writer = Writer { program: Assembler::default(), default: policy.default };
    let searches: Vec<(u32, Target)> = audits
        .into_iter()
        .map(|audit| {
            let search = writer.search(&Steps::of(policy, audit).0);
            (audit, writer.program.load(Word::Number, search))
        })
        .collect();
    let mut entry = Target::Answer(BAD_ARCH);
    for (audit, search) in searches {
        entry = writer.program.branch(op::IF_EQUAL, audit, search, entry);
    }
    writer.program.load(Word::Arch, entry);
    writer.program.finish()
}

/// What becomes of all calls from a number up to the next step's.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    from: u32,
    outcome: Outcome<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome<'a> {
    Answer(u32),
    Check(&'a [Rule]),
}

/// The whole range of call numbers of an architecture, by ascending number; equal neighbours are
/// one step.
#[derive(Debug)]
struct Steps<'a>(Vec<Step<'a>>);

impl<'a> Steps<'a> {
    fn of(policy: &'a Policy, audit: u32) -> Self {
        let find = |x32| {
            let mut abis = policy.abis.iter();
            abis.find(|a| a.abi.audit == audit && (a.abi.arch == Arch::ScmpArchX32) == x32)
        };
        let (plain, x32) = (find(false), find(true));
        let mut steps = Self(Vec::new());
        steps.abi(0, plain, policy.default);
        if plain.or(x32).is_some_and(|abi| shares_numbers_with_x32(abi.abi.arch)) {
            steps.x32(plain, x32, policy.default);
        }
        steps
    }

    /// Appends the calls of an ABI, the numbers of which start at `from`.
    fn abi(&mut self, from: u32, abi: Option<&'a AbiPolicy>, default: u32) {
        let Some(abi) = abi else { return self.step(from, Outcome::Answer(BAD_ARCH)) };
        self.step(from, Outcome::Answer(default));
        for (number, verdict) in &abi.calls {
            self.step(
                *number,
                match verdict {
                    Verdict::Answer(answer) => Outcome::Answer(*answer),
                    Verdict::Check(rules) => Outcome::Check(rules),
                },
            );
            self.step(number + 1, Outcome::Answer(default));
        }
        if let Some(newest) = abi.newest {
            self.step(newest + 1, Outcome::Answer(ENOSYS));
        }
    }

    /// Appends the three quarters of the numbers of `x86_64` above its own calls. x32 has the second,
    /// the others are junk; runc's filters go by bit 30 alone, so they belong to an ABI as well.
    fn x32(&mut self, plain: Option<&AbiPolicy>, x32: Option<&'a AbiPolicy>, default: u32) {
        let beyond = |abi: Option<&AbiPolicy>| match abi {
            Some(abi) if abi.newest.is_some() => Outcome::Answer(ENOSYS),
            _ if x32.is_some() => Outcome::Answer(default),
            _ => Outcome::Answer(BAD_ARCH),
        };
        self.abi(X32_BIT, x32, default);
        self.step(2 * X32_BIT, beyond(plain));
        self.step(3 * X32_BIT, beyond(x32));
        if x32.is_none() {
            // A tracer makes a call -1 to have it skipped; that is not a call of x32.
            self.step(u32::MAX, Outcome::Answer(default));
        }
    }

    /// Begins a step; what began at the same number gives way to it.
    fn step(&mut self, from: u32, outcome: Outcome<'a>) {
        self.0.pop_if(|last| last.from == from);
        if self.0.last().is_none_or(|last| last.outcome != outcome) {
            self.0.push(Step { from, outcome });
        }
    }
}

fn shares_numbers_with_x32(arch: Arch) -> bool {
    matches!(arch, Arch::ScmpArchX86_64 | Arch::ScmpArchX32)
}

struct Writer {
    program: Assembler,
    default: u32,
}

impl Writer {
    /// Writes the search for the loaded number among the steps.
    fn search(&mut self, steps: &[Step]) -> Target {
        match steps {
            [] => Target::Answer(BAD_ARCH),
            [step] => self.outcome(step.outcome),
            [around, one, rest]
                if around.outcome == rest.outcome && one.from.checked_add(1) == Some(rest.from) =>
            {
                let around = self.outcome(around.outcome);
                let here = self.outcome(one.outcome);
                self.program.branch(op::IF_EQUAL, one.from, here, around)
            }
            _ => {
                let (below, above) = steps.split_at(steps.len() / 2);
                let from = above.first().map_or(0, |step| step.from);
                let above = self.search(above);
                let below = self.search(below);
                self.program.branch(op::IF_GREATER_OR_EQUAL, from, above, below)
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Target {
        match outcome {
            Outcome::Answer(answer) => Target::Answer(answer),
            Outcome::Check(rules) => {
                let default = Target::Answer(self.default);
                rules.iter().rev().fold(default, |next, rule| self.rule(rule, next))
            }
        }
    }

    /// Writes a rule; where it does not match, the program goes on at `next`.
    fn rule(&mut self, rule: &Rule, next: Target) -> Target {
        let matched = Target::Answer(rule.answer);
        let conditions = rule.conditions.iter().rev();
        conditions.fold(matched, |yes, condition| self.condition(condition, yes, next))
    }

    /// Writes a comparison of 64 bits by their halves, and of 32 bits where only those count.
    fn condition(&mut self, condition: &Condition, yes: Target, no: Target) -> Target {
        let (yes, no) = if condition.negated { (no, yes) } else { (yes, no) };
        let (high, low) = (Word::High(condition.index), Word::Low(condition.index));
        let (value_high, value_low) = halves(condition.value);
        let (mask_high, mask_low) = halves(condition.mask);
        let greater_low = match condition.test {
            Test::Equal => {
                let then = self.equal(low, mask_low, value_low, yes, no);
                return self.equal(high, mask_high, value_high, then, no);
            }
            Test::Greater => op::IF_GREATER,
            Test::GreaterOrEqual => op::IF_GREATER_OR_EQUAL,
        };
        let then = self.program.branch(greater_low, value_low, yes, no);
        let then = self.program.load(low, then);
        if mask_high == 0 {
            return then;
        }
        let then = self.program.branch(op::IF_EQUAL, value_high, then, no);
        let then = self.program.branch(op::IF_GREATER, value_high, yes, then);
        self.program.load(high, then)
    }

    fn equal(&mut self, word: Word, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        if mask == 0 {
            return yes;
        }
        let mut then = self.program.branch(op::IF_EQUAL, value, yes, no);
        if mask != u32::MAX {
            then = self.program.and(mask, then);
        }
        self.program.load(word, then)
    }
}

/// The more and the less significant half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
