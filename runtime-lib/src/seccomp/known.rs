//! Every word that a seccomp profile may use: what `compile` translates by and what `features` prints.

use oci_spec::runtime::{
    Arch, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};
use serde_json::Value;

use crate::error::{Error, Result};

/// What a filter returns to the kernel (linux/seccomp.h). The low 16 bits carry the action's data.
pub mod ret {
    /// Ends the process with SIGSYS (since Linux 4.14).
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// Ends the calling thread with SIGSYS.
    pub const KILL_THREAD: u32 = 0;
    /// Sends SIGSYS, which the program may handle.
    pub const TRAP: u32 = 0x0003_0000;
    /// Fails the call with the errno in the data.
    pub const ERRNO: u32 = 0x0005_0000;
    /// Asks an agent over the filter's listener (since Linux 5.0).
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    /// Tells a tracer, with the data; fails with ENOSYS where there is none.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Logs the call and makes it (since Linux 4.14).
    pub const LOG: u32 = 0x7ffc_0000;
    /// Makes the call.
    pub const ALLOW: u32 = 0x7fff_0000;
    /// The action of an answer, without its data.
    pub const ACTION: u32 = 0xffff_0000;
    /// The data of an answer.
    pub const DATA: u32 = 0x0000_ffff;
}

/// Flags of seccomp(2) (`SECCOMP_FILTER_FLAG_*`, linux/seccomp.h).
pub mod flag {
    /// Logs what is not allowed (since Linux 4.14).
    pub const LOG: u32 = 1 << 1;
    /// Leaves speculation on (since Linux 4.17).
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// Gives a descriptor over which an agent answers (since Linux 5.0).
    pub const NEW_LISTENER: u32 = orlop_init::plan::NEW_LISTENER;
    /// Once the agent has a call, only fatal signals interrupt it (since Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}

/// The actions of the runtime-spec, and what each returns to the kernel.
pub const ACTIONS: [(&str, Action, u32); 9] = [
    ("SCMP_ACT_ALLOW", Action::ScmpActAllow, ret::ALLOW),
    ("SCMP_ACT_ERRNO", Action::ScmpActErrno, ret::ERRNO),
    ("SCMP_ACT_KILL", Action::ScmpActKill, ret::KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", Action::ScmpActKillProcess, ret::KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", Action::ScmpActKillThread, ret::KILL_THREAD),
    ("SCMP_ACT_LOG", Action::ScmpActLog, ret::LOG),
    ("SCMP_ACT_NOTIFY", Action::ScmpActNotify, ret::USER_NOTIF),
    ("SCMP_ACT_TRACE", Action::ScmpActTrace, ret::TRACE),
    ("SCMP_ACT_TRAP", Action::ScmpActTrap, ret::TRAP),
];

/// The operators of the runtime-spec.
pub const OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_EQ", Operator::ScmpCmpEq),
    ("SCMP_CMP_GE", Operator::ScmpCmpGe),
    ("SCMP_CMP_GT", Operator::ScmpCmpGt),
    ("SCMP_CMP_LE", Operator::ScmpCmpLe),
    ("SCMP_CMP_LT", Operator::ScmpCmpLt),
    ("SCMP_CMP_MASKED_EQ", Operator::ScmpCmpMaskedEq),
    ("SCMP_CMP_NE", Operator::ScmpCmpNe),
];

/// The architectures that profiles may list, as runc knows them.
pub const ARCHITECTURES: [(&str, Arch); 18] = [
    ("SCMP_ARCH_AARCH64", Arch::ScmpArchAarch64),
    ("SCMP_ARCH_ARM", Arch::ScmpArchArm),
    ("SCMP_ARCH_LOONGARCH64", Arch::ScmpArchLoongarch64),
    ("SCMP_ARCH_MIPS", Arch::ScmpArchMips),
    ("SCMP_ARCH_MIPS64", Arch::ScmpArchMips64),
    ("SCMP_ARCH_MIPS64N32", Arch::ScmpArchMips64n32),
    ("SCMP_ARCH_MIPSEL", Arch::ScmpArchMipsel),
    ("SCMP_ARCH_MIPSEL64", Arch::ScmpArchMipsel64),
    ("SCMP_ARCH_MIPSEL64N32", Arch::ScmpArchMipsel64n32),
    ("SCMP_ARCH_PPC", Arch::ScmpArchPpc),
    ("SCMP_ARCH_PPC64", Arch::ScmpArchPpc64),
    ("SCMP_ARCH_PPC64LE", Arch::ScmpArchPpc64le),
    ("SCMP_ARCH_RISCV64", Arch::ScmpArchRiscv64),
    ("SCMP_ARCH_S390", Arch::ScmpArchS390),
    ("SCMP_ARCH_S390X", Arch::ScmpArchS390x),
    ("SCMP_ARCH_X32", Arch::ScmpArchX32),
    ("SCMP_ARCH_X86", Arch::ScmpArchX86),
    ("SCMP_ARCH_X86_64", Arch::ScmpArchX86_64),
];

/// The flags that profiles may set, and the bit of seccomp(2) that each stands for.
///
/// TSYNC stands for none, as in runc: the process that loads the filter has one thread.
pub const FLAGS: [(&str, Flag, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", Flag::SeccompFilterFlagTsync, 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flag::SeccompFilterFlagSpecAllow, flag::SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", Flag::SeccompFilterFlagLog, flag::LOG),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        Flag::SeccompFilterFlagWaitKillableRecv,
        flag::WAIT_KILLABLE_RECV,
    ),
];

/// Checks the words of a profile that is still JSON, where the place of a wrong one is still known.
///
/// # Errors
/// Names the first action, operator, architecture or flag that is not in the tables above.
pub fn check_words(profile: &Value, field: &str) -> Result<()> {
    let action = |word: &str| ACTIONS.iter().any(|known| known.0 == word);
    let operator = |word: &str| OPERATORS.iter().any(|known| known.0 == word);
    let architecture = |word: &str| {
        word == "SCMP_ARCH_NATIVE" || ARCHITECTURES.iter().any(|known| known.0 == word)
    };
    let flag = |word: &str| FLAGS.iter().any(|known| known.0 == word);

    check(&profile["defaultAction"], "action", action, || format!("{field}.defaultAction"))?;
    for (i, value) in items(&profile["architectures"]) {
        check(value, "architecture", architecture, || format!("{field}.architectures[{i}]"))?;
    }
    for (i, value) in items(&profile["flags"]) {
        check(value, "flag", flag, || format!("{field}.flags[{i}]"))?;
    }
    for (i, block) in items(&profile["syscalls"]) {
        check(&block["action"], "action", action, || format!("{field}.syscalls[{i}].action"))?;
        for (j, arg) in items(&block["args"]) {
            let at = || format!("{field}.syscalls[{i}].args[{j}].op");
            check(&arg["op"], "operator", operator, at)?;
        }
    }
    Ok(())
}

fn check(
    value: &Value,
    what: &str,
    known: impl Fn(&str) -> bool,
    at: impl Fn() -> String,
) -> Result<()> {
    match value.as_str() {
        Some(word) if !known(word) => {
            Err(Error::config(at(), format!("seccomp {what} {word:?} is not known")))
        }
        _ => Ok(()),
    }
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}
