//! Classic BPF: its instructions, and an assembler that writes programs from their end.
//!
//! All jumps of classic BPF go forward. Written backwards, the target of every jump is there before
//! the jump is, so one pass suffices, and a jump that is too long gets its stepping stone at once.

/// An instruction, laid out as the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions a conditional jump skips where its condition holds.
    pub jt: u8,
    /// How many it skips where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// The operations that filters use: `BPF_LD | BPF_W | BPF_ABS` and so on (linux/bpf_common.h).
pub(super) mod op {
    pub(in super::super) const LOAD: u16 = 0x20;
    pub(in super::super) const AND: u16 = 0x54;
    pub(in super::super) const JUMP: u16 = 0x05;
    pub(in super::super) const IF_EQUAL: u16 = 0x15;
    pub(in super::super) const IF_GREATER: u16 = 0x25;
    pub(in super::super) const IF_GREATER_OR_EQUAL: u16 = 0x35;
    pub(in super::super) const IF_BITS: u16 = 0x45;
    pub(in super::super) const RETURN: u16 = 0x06;
}

/// The words of the kernel's `struct seccomp_data`, as offsets in bytes (linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Number,
    Arch,
    /// The less significant half of an argument.
    Low(u32),
    /// The more significant half of an argument.
    High(u32),
}

impl Word {
    fn offset(self) -> u32 {
        let (first, second) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
        match self {
            Self::Number => 0,
            Self::Arch => 4,
            Self::Low(index) => 16 + 8 * index + first,
            Self::High(index) => 16 + 8 * index + second,
        }
    }
}

/// Where a program goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// It ends with this answer.
    Answer(u32),
    /// At an instruction that is written already, by its distance from the program's end.
    At(usize),
}

/// A program under construction, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// Where each answer was last written.
    answers: Vec<(u32, usize)>,
}

impl Assembler {
    /// The program, in the order of execution.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// Puts "load `word`" in front of `then`, which is written next to it.
    pub(super) fn load(&mut self, word: Word, then: Target) -> Target {
        self.before(op::LOAD, word.offset(), then)
    }

    /// Puts "keep the bits of `mask`" in front of `then`.
    pub(super) fn and(&mut self, mask: u32, then: Target) -> Target {
        self.before(op::AND, mask, then)
    }

    /// Puts "if the loaded word stands in the relation `code` to `k`, go to `yes`, else to `no`" in
    /// front of the program.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // A stepping stone for one may push the other out of reach, hence the margin of one.
        let no = self.within_reach(no, 1);
        let yes = self.within_reach(yes, 0);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(Instruction { code, jt, jf, k })
    }

    /// Puts an instruction that does not jump in front of `then`.
    fn before(&mut self, code: u16, k: u32, then: Target) -> Target {
        let next = match then {
            Target::At(at) if at + 1 == self.reversed.len() => at,
            _ => self.stepping_stone(then),
        };
        debug_assert_eq!(next + 1, self.reversed.len());
        self.push(Instruction { code, jt: 0, jf: 0, k })
    }

    /// An instruction that a conditional jump, written after at most `margin` others, can reach.
    fn within_reach(&mut self, target: Target, margin: usize) -> usize {
        let at = match target {
            Target::At(at) => Some(at),
            Target::Answer(answer) => {
                self.answers.iter().find(|(known, _)| *known == answer).map(|(_, at)| *at)
            }
        };
        match at {
            Some(at) if self.reversed.len() + margin - at <= 1 + usize::from(u8::MAX) => at,
            _ => self.stepping_stone(target),
        }
    }

    /// Writes an instruction that leads to `target` from anywhere near.
    fn stepping_stone(&mut self, target: Target) -> usize {
        let at = self.reversed.len();
        let (code, k) = match target {
            Target::Answer(answer) => {
                self.answers.retain(|(known, _)| *known != answer);
                self.answers.push((answer, at));
                (op::RETURN, answer)
            }
            // Programs end at 4096 instructions; a longer one is refused when it is complete.
            Target::At(to) => (op::JUMP, u32::try_from(at - to - 1).unwrap_or(u32::MAX)),
        };
        self.reversed.push(Instruction { code, jt: 0, jf: 0, k });
        at
    }

    fn distance(&self, at: usize) -> u8 {
        u8::try_from(self.reversed.len() - at - 1).unwrap_or(u8::MAX)
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }
}
