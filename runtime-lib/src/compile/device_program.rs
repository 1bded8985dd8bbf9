//! `linux.resources.devices` -> an eBPF program for the cgroup's device hook.
//!
//! The rules count in order, the last one that speaks of a device and an access decides, and what
//! no rule speaks of is denied. A request for several accesses at once (`O_RDWR`) is allowed if
//! each of them is: a rule that denies writing denies opening for reading and writing too.
//!
//! The program goes through the rules from the last to the first, with the accesses that are not
//! decided yet in a register. What an earlier-tried rule decides already is dropped from the
//! others, so that Docker's 20 rules become some 25 instructions. A device is of type block or
//! character and nothing else, so the two are compiled apart.
//! Sources: Linux, include/uapi/linux/bpf.h (`bpf_cgroup_dev_ctx`), security/device_cgroup.c.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::cgroup::DeviceProgram;
use crate::error::{Error, Result};

/// `BPF_DEVCG_DEV_*`: the low half of `access_type`, one bit for a type.
const BLOCK: u8 = 1;
const CHAR: u8 = 2;
/// `BPF_DEVCG_ACC_*`: the high half of `access_type`.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// A rule of `linux.resources.devices`, checked. `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `BLOCK`, `CHAR`, or both for type "a".
    types: u8,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

const fn allow(types: u8, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, types, major, minor, access }
}

/// What every container may do, as in runc: appended to the rules of the configuration, so that
/// these cannot deny it. A device of the same path in `linux.devices` takes the entry's place.
const DEFAULTS: [(Option<&str>, Rule); 11] = [
    (None, allow(CHAR, None, None, MKNOD)),
    (None, allow(BLOCK, None, None, MKNOD)),
    (Some("/dev/null"), allow(CHAR, Some(1), Some(3), ALL)),
    (Some("/dev/random"), allow(CHAR, Some(1), Some(8), ALL)),
    (Some("/dev/full"), allow(CHAR, Some(1), Some(7), ALL)),
    (Some("/dev/tty"), allow(CHAR, Some(5), Some(0), ALL)),
    (Some("/dev/zero"), allow(CHAR, Some(1), Some(5), ALL)),
    (Some("/dev/urandom"), allow(CHAR, Some(1), Some(9), ALL)),
    (None, allow(CHAR, Some(136), None, ALL)), // /dev/pts/*
    (None, allow(CHAR, Some(5), Some(2), ALL)), // /dev/ptmx
    (None, allow(CHAR, Some(10), Some(200), ALL)), // /dev/net/tun
];

/// Compiles the rules, with the defaults appended.
///
/// # Errors
/// `linux.resources.devices[i].type`, `.major`, `.minor` or `.access` is invalid.
pub(crate) fn compile(
    rules: &[LinuxDeviceCgroup],
    devices: &[LinuxDevice],
) -> Result<DeviceProgram> {
    let mut checked = Vec::with_capacity(rules.len() + DEFAULTS.len());
    for (index, rule) in rules.iter().enumerate() {
        checked.push(check(index, rule)?);
    }
    let is_replaced = |path: &Option<&str>| {
        path.is_some_and(|path| devices.iter().any(|device| device.path().as_os_str() == path))
    };
    checked.extend(DEFAULTS.iter().filter(|(path, _)| !is_replaced(path)).map(|(_, rule)| *rule));
    generate(&checked)
}

fn check(index: usize, rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let types = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => BLOCK | CHAR,
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::C => CHAR,
        other => {
            let message = format!("invalid cgroup device type {:?}", other.as_str());
            return Err(Error::config(field("type"), message));
        }
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| {
            Error::config(field(name), format!("{value} is neither a device number nor -1 (any)"))
        }),
    };
    let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
    let mut access = 0;
    for letter in rule.access().iter().flat_map(|access| access.chars()) {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                let message = format!("unknown device access {letter:?}");
                return Err(Error::config(field("access"), message));
            }
        };
    }
    if access == 0 {
        return Err(Error::config(field("access"), "device access cannot be empty"));
    }
    if types == BLOCK | CHAR {
        // Type "a" is every access to every device, whatever else the rule says (cgroup v1's
        // devices.allow reads no further than the "a", and runc follows it).
        return Ok(Rule { allow: rule.allow(), types, major: None, minor: None, access: ALL });
    }
    Ok(Rule { allow: rule.allow(), types, major, minor, access })
}

/// One decision on devices of one type: if the numbers match, `access` is allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Decision {
    major: Option<u32>,
    minor: Option<u32>,
    allow: bool,
    access: u8,
}

impl Decision {
    fn covers(&self, other: &Self) -> bool {
        let within = |wide: Option<u32>, narrow| wide.is_none() || wide == narrow;
        within(self.major, other.major) && within(self.minor, other.minor)
    }

    fn same_devices(&self, other: &Self) -> bool {
        self.major == other.major && self.minor == other.minor
    }

    fn is_for_all_devices(&self) -> bool {
        self.major.is_none() && self.minor.is_none()
    }
}

/// The decisions for one type in the order in which they are tried. The last is for all devices.
fn decisions(rules: &[Rule], device_type: u8) -> Vec<Decision> {
    let rest = Rule { allow: false, types: BLOCK | CHAR, major: None, minor: None, access: ALL };
    let rules = rules.iter().rev().filter(|rule| rule.types & device_type != 0).chain([&rest]);
    let mut tried: Vec<Decision> = Vec::new();
    for rule in rules {
        let &Rule { allow, major, minor, access, .. } = rule;
        let mut decision = Decision { major, minor, allow, access };
        // What a rule tried before decides for all of these devices is decided.
        for earlier in &tried {
            if earlier.covers(&decision) {
                decision.access &= !earlier.access;
            }
        }
        if decision.access != 0 {
            tried.push(decision);
        }
    }
    merge_runs(&tried)
}

/// Within a run of rules of one action the order does not matter: drops from each what another of
/// its run says for more devices, joins those for the same devices, and sorts, so that what is for
/// all devices comes first.
fn merge_runs(tried: &[Decision]) -> Vec<Decision> {
    let mut merged = Vec::with_capacity(tried.len());
    for run in tried.chunk_by(|a, b| a.allow == b.allow) {
        let mut joined: Vec<Decision> = Vec::with_capacity(run.len());
        for decision in run {
            match joined.iter_mut().find(|other| other.same_devices(decision)) {
                Some(other) => other.access |= decision.access,
                None => joined.push(*decision),
            }
        }
        let wide = joined.clone();
        for decision in &mut joined {
            for other in &wide {
                if other.covers(decision) && !other.same_devices(decision) {
                    decision.access &= !other.access;
                }
            }
        }
        joined.retain(|decision| decision.access != 0);
        joined.sort_unstable();
        merged.append(&mut joined);
    }
    merged
}

fn generate(rules: &[Rule]) -> Result<DeviceProgram> {
    let (mut block, mut char) = (decisions(rules, BLOCK), decisions(rules, CHAR));
    let mut code = Code::default();
    let mut undecided = ALL;
    // What is the same for all devices of both types needs no look at the type.
    while let (Some(first), Some(other)) = (block.first().copied(), char.first()) {
        if first != *other || !first.is_for_all_devices() {
            break;
        }
        code.decide(&first, &mut undecided);
        block.remove(0);
        char.remove(0);
    }
    if block == char {
        code.decide_all(&char, undecided);
    } else if let [only] = block.as_slice() {
        code.jump_to(JSET, TYPE, u32::from(BLOCK), Target::verdict(only.allow));
        code.decide_all(&char, undecided);
    } else {
        let of_char = code.label();
        code.jump_to(JSET, TYPE, u32::from(CHAR), of_char);
        code.decide_all(&block, undecided);
        code.place(of_char);
        code.decide_all(&char, undecided);
    }
    code.finish()
}

/// The registers: the context, the undecided accesses, the raw type, the device's numbers.
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operations. The jumps are JMP32 (since Linux 5.1): a number above 2^31 is not sign-extended.
const LOAD_U32: u8 = 0x61;
const MOVE: u8 = 0xbc;
const SHIFT_RIGHT: u8 = 0x74;
const AND: u8 = 0x54;
const RETURN_VALUE: u8 = 0xb7;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const JEQ: u8 = 0x16;
const JNE: u8 = 0x56;
const JSET: u8 = 0x46;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Allow,
    Deny,
    Label(usize),
}

impl Target {
    fn verdict(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Deny }
    }
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    operation: u8,
    register: u8,
    source: u8,
    offset: i16,
    value: u32,
    target: Option<Target>,
}

/// Instructions whose jumps are not resolved yet.
#[derive(Debug, Default)]
struct Code {
    instructions: Vec<Instruction>,
    /// The position of each label, once placed.
    labels: Vec<Option<usize>>,
}

impl Code {
    fn label(&mut self) -> Target {
        self.labels.push(None);
        Target::Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Target) {
        let here = self.instructions.len();
        if let Target::Label(index) = label
            && let Some(position) = self.labels.get_mut(index)
        {
            *position = Some(here);
        }
    }

    fn jump_to(&mut self, operation: u8, register: u8, value: u32, target: Target) {
        let target = Some(target);
        self.instructions.push(Instruction {
            operation,
            register,
            source: 0,
            offset: 0,
            value,
            target,
        });
    }

    fn compute(&mut self, operation: u8, register: u8, value: u32) {
        self.instructions.push(instruction(operation, register, 0, 0, value));
    }

    /// Emits the decisions of one type, to the one that is for all devices and all that is left.
    fn decide_all(&mut self, decisions: &[Decision], mut undecided: u8) {
        let same_block = |a: &Decision, b: &Decision| a.allow == b.allow && a.major == b.major;
        for group in decisions.chunk_by(same_block) {
            let Some(major) = group.first().and_then(|first| first.major) else {
                group.iter().for_each(|decision| self.decide(decision, &mut undecided));
                continue;
            };
            if let [only] = group
                && only.minor.is_none()
                && undecided & !only.access == 0
            {
                self.jump_to(JEQ, MAJOR, major, Target::verdict(only.allow));
                continue;
            }
            let other_major = self.label();
            self.jump_to(JNE, MAJOR, major, other_major);
            group.iter().for_each(|decision| self.decide(decision, &mut undecided));
            self.place(other_major);
        }
    }

    /// Emits one decision for a device whose major number matches already.
    fn decide(&mut self, decision: &Decision, undecided: &mut u8) {
        let verdict = Target::verdict(decision.allow);
        let decides_all = *undecided & !decision.access == 0;
        match decision.minor {
            None if decides_all => self.jump_to(JUMP, 0, 0, verdict),
            None => self.decide_part(decision),
            Some(minor) if decides_all => self.jump_to(JEQ, MINOR, minor, verdict),
            Some(minor) => {
                let other_minor = self.label();
                self.jump_to(JNE, MINOR, minor, other_minor);
                self.decide_part(decision);
                self.place(other_minor);
            }
        }
        if decision.is_for_all_devices() {
            *undecided &= !decision.access;
        }
    }

    fn decide_part(&mut self, decision: &Decision) {
        if decision.allow {
            self.compute(AND, ACCESS, u32::from(ALL & !decision.access));
            self.jump_to(JEQ, ACCESS, 0, Target::Allow);
        } else {
            self.jump_to(JSET, ACCESS, u32::from(decision.access), Target::Deny);
        }
    }

    /// Adds the loads that the code needs and the two ends, and resolves the jumps.
    fn finish(mut self) -> Result<DeviceProgram> {
        let last = self.instructions.pop_if(|last| last.operation == JUMP);
        let falls_to = last.and_then(|last| last.target).unwrap_or(Target::Deny);
        let other = if falls_to == Target::Allow { Target::Deny } else { Target::Allow };
        let body = self.instructions.len();
        let is_used = self.instructions.iter().any(|i| i.target == Some(other));
        for end in [Some(falls_to), is_used.then_some(other)].into_iter().flatten() {
            self.compute(RETURN_VALUE, 0, u32::from(end == Target::Allow));
            self.compute(EXIT, 0, 0);
        }
        let mut program = prologue(&self.instructions);
        for (index, mut instruction) in self.instructions.into_iter().enumerate() {
            if let Some(target) = instruction.target {
                let position = match target {
                    Target::Label(label) => self.labels.get(label).copied().flatten(),
                    end => Some(if end == falls_to { body } else { body + 2 }),
                };
                instruction.offset = position
                    .and_then(|position| position.checked_sub(index + 1))
                    .and_then(|distance| i16::try_from(distance).ok())
                    .ok_or_else(|| {
                        let message = "too many rules for one device program";
                        Error::config("linux.resources.devices", message)
                    })?;
            }
            program.push(instruction);
        }
        Ok(DeviceProgram::new(program.iter().map(encode).collect()))
    }
}

/// Loads what the instructions read.
fn prologue(instructions: &[Instruction]) -> Vec<Instruction> {
    let reads = |register| instructions.iter().any(|i| i.register == register);
    let mut loads = Vec::new();
    if reads(ACCESS) || reads(TYPE) {
        loads.push(instruction(LOAD_U32, ACCESS, CONTEXT, 0, 0));
    }
    if reads(TYPE) {
        // The accesses stay in the upper half; only the type's bits are tested.
        loads.push(instruction(MOVE, TYPE, ACCESS, 0, 0));
    }
    if reads(ACCESS) {
        loads.push(instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16));
    }
    for (register, offset) in [(MAJOR, 4), (MINOR, 8)] {
        if reads(register) {
            loads.push(instruction(LOAD_U32, register, CONTEXT, offset, 0));
        }
    }
    loads
}

fn instruction(operation: u8, register: u8, source: u8, offset: i16, value: u32) -> Instruction {
    Instruction { operation, register, source, offset, value, target: None }
}

/// Encodes a `struct bpf_insn`; which half of the second byte is the target depends on the order
/// of bytes.
fn encode(instruction: &Instruction) -> [u8; 8] {
    let &Instruction { operation, register, source, offset, value, .. } = instruction;
    let registers = if cfg!(target_endian = "little") {
        register | source << 4
    } else {
        source | register << 4
    };
    let [o0, o1] = offset.to_ne_bytes();
    let [v0, v1, v2, v3] = value.to_ne_bytes();
    [operation, registers, o0, o1, v0, v1, v2, v3]
}

#[cfg(test)]
mod tests;
