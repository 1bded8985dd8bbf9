//! Runs filters in the kernel, and compares them with those of `seccompiler` where that crate can
//! express the profile: one architecture, one action.

#![cfg(target_arch = "x86_64")]
// The lints know only functions marked #[test]; what those call may fail by panicking as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxSeccomp;
use orlop::seccomp::{Filter, SeccompData, compile, simulate};
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use serde_json::json;

const X86_64: u32 = 0xc000_003e;

fn filter(profile: serde_json::Value) -> Filter {
    let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
    compile(&profile, "linux.seccomp").unwrap()
}

/// Runs `body` in a thread under the filter; the kernel keeps filters by thread.
fn under(filter: &Filter, body: impl FnOnce() + Send + 'static) {
    let program: BpfProgram = filter
        .instructions
        .iter()
        .map(|i| sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        body();
    });
    thread.join().unwrap();
}

#[test]
fn the_kernel_loads_real_profiles() {
    for json in [include_str!("data/seccomp-docker.json"), include_str!("data/seccomp-podman.json")]
    {
        under(&filter(serde_json::from_str(json).unwrap()), || {
            rustix::fs::stat("/").unwrap();
        });
    }
}

#[test]
fn the_kernel_answers_as_the_simulator() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
         "args": [{"index": 1, "value": 0x7fff_fff0, "op": "SCMP_CMP_GE"}]},
    ]}));
    under(&filter, || {
        let mkdir = rustix::fs::mkdir("/orlop-no-such/directory", rustix::fs::Mode::RWXU);
        assert_eq!(mkdir, Err(Errno::OPNOTSUPP));
        let priority =
            |pid| rustix::process::getpriority_process(rustix::process::Pid::from_raw(pid));
        assert_eq!(priority(0x7fff_fff1), Err(Errno::IO));
        assert_eq!(priority(0x7fff_ffe1), Err(Errno::SRCH));
    });
}

#[test]
fn seccompiler_agrees_on_every_operator() {
    let operators: [(&str, SeccompCmpOp); 7] = [
        ("SCMP_CMP_NE", SeccompCmpOp::Ne),
        ("SCMP_CMP_LT", SeccompCmpOp::Lt),
        ("SCMP_CMP_LE", SeccompCmpOp::Le),
        ("SCMP_CMP_EQ", SeccompCmpOp::Eq),
        ("SCMP_CMP_GE", SeccompCmpOp::Ge),
        ("SCMP_CMP_GT", SeccompCmpOp::Gt),
        ("SCMP_CMP_MASKED_EQ", SeccompCmpOp::MaskedEq(0xff_0000_00ff)),
    ];
    let values = [0, 1, 0xff, 0xffff_ffff, 1 << 32, (7 << 32) + 7, u64::MAX];
    for (word, operator) in &operators {
        for value in values {
            let masked = *word == "SCMP_CMP_MASKED_EQ";
            let (first, second) = if masked { (0xff_0000_00ff, value) } else { (value, 0) };
            let ours = filter(json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": [
                {"names": ["read", "kill"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 1, "value": first, "valueTwo": second, "op": word},
                    {"index": 3, "value": 4, "op": "SCMP_CMP_NE"},
                ]},
            ]}));
            let theirs = seccompiler_allows(operator.clone(), value);
            for number in [0, 1, 62, 63] {
                for arg in
                    values.into_iter().flat_map(|v| [v.wrapping_sub(1), v, v.wrapping_add(1)])
                {
                    for other in [4, 5] {
                        let args = [0, arg, 0, other, 0, 0];
                        let call =
                            SeccompData { number, arch: X86_64, instruction_pointer: 0, args };
                        assert_eq!(
                            simulate(&ours.instructions, &call),
                            simulate(&theirs, &call),
                            "{word} {value:#x}: {call:x?}"
                        );
                    }
                }
            }
        }
    }
}

fn seccompiler_allows(operator: SeccompCmpOp, value: u64) -> Vec<orlop::seccomp::Instruction> {
    let conditions = vec![
        SeccompCondition::new(1, SeccompCmpArgLen::Qword, operator, value).unwrap(),
        SeccompCondition::new(3, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 4).unwrap(),
    ];
    let rule = SeccompRule::new(conditions).unwrap();
    let rules = BTreeMap::from([(0, vec![rule.clone()]), (62, vec![rule])]);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Log, SeccompAction::Allow, TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let instruction =
        |i: &sock_filter| orlop::seccomp::Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    program.iter().map(instruction).collect()
}
