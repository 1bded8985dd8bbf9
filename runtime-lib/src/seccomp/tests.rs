//! What profiles mean, tried in the simulator.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::known::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, check_words, ret};
use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;
const EPERM: u32 = ret::ERRNO | 1;
const ENOSYS: u32 = ret::ERRNO | 38;

/// A number that is newer than every call of the profiles here.
const FUTURE: u32 = 500;

fn parse(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap()
}

fn filter(profile: Value) -> Filter {
    compile(&parse(profile), "linux.seccomp").unwrap()
}

fn error(profile: Value) -> String {
    compile(&parse(profile), "linux.seccomp").unwrap_err().to_string()
}

fn answer(filter: &Filter, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut call = SeccompData { number, arch, ..SeccompData::default() };
    call.args[..args.len()].copy_from_slice(args);
    simulate(&filter.instructions, &call)
}

/// The filter of a profile with one rule for read(2), which denies what the rule does not match.
fn read_if(args: Value) -> Filter {
    filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["read", "close"], "action": "SCMP_ACT_ALLOW", "args": args}],
    }))
}

#[test]
fn every_action_answers_as_the_kernel_wants_it() {
    for (word, data, expected) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", Some(7), 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", Some(7), 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(38), 0x0005_0026),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", Some(7), 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", None, 0x7fff_0000),
    ] {
        let rule = json!({"names": ["read"], "action": word, "errnoRet": data});
        let default = if word == "SCMP_ACT_ALLOW" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" };
        let ruled = filter(json!({"defaultAction": default, "syscalls": [rule]}));
        assert_eq!(answer(&ruled, X86_64, 0, &[]), expected, "{word} in a rule");
        let default = filter(json!({"defaultAction": word, "defaultErrnoRet": data}));
        assert_eq!(answer(&default, X86_64, 0, &[]), expected, "{word} as default");
    }
}

#[test]
fn operators_compare_64_bits() {
    const HIGH: u64 = 1 << 32;
    let value = 5 * HIGH + 7;
    let around = [0, 7, value - HIGH, value - 1, value, value + 1, value + HIGH, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let holds: [(&str, Holds); 6] = [
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_GT", |a, b| a > b),
    ];
    for (word, holds) in holds {
        let filter = read_if(json!([{"index": 5, "value": value, "op": word}]));
        for arg in around {
            let expected = if holds(arg, value) { ret::ALLOW } else { EPERM };
            let answer = answer(&filter, X86_64, 0, &[0, 0, 0, 0, 0, arg]);
            assert_eq!(answer, expected, "{arg:#x} {word} {value:#x}");
        }
    }
}

#[test]
fn masked_eq_takes_the_mask_first() {
    let mask = 0xff00_0000_00f0_u64;
    let condition = json!([{"index": 0, "value": mask, "valueTwo": 0x1100_0000_0020_u64, "op": "SCMP_CMP_MASKED_EQ"}]);
    let filter = read_if(condition);
    assert_eq!(answer(&filter, X86_64, 0, &[0x1100_0000_0020]), ret::ALLOW);
    assert_eq!(answer(&filter, X86_64, 0, &[0x0011_110f_0f0f_0f2f]), ret::ALLOW);
    assert_eq!(answer(&filter, X86_64, 0, &[0x0000_0000_0020]), EPERM);
    assert_eq!(answer(&filter, X86_64, 0, &[0x1100_0000_0030]), EPERM);
}

#[test]
fn a_condition_on_no_bits_always_holds() {
    let condition = json!([{"index": 0, "value": 0xff_0000_0000_u64, "valueTwo": 0x1_0000_0000_u64,
                            "op": "SCMP_CMP_MASKED_EQ"}]);
    let filter = read_if(condition);
    assert_eq!(answer(&filter, X86_64, 0, &[0]), EPERM);
    assert_eq!(answer(&filter, X86, 3, &[0]), ret::ALLOW);
}

#[test]
fn x86_and_x32_compare_the_low_half_of_arguments() {
    let filter = read_if(json!([{"index": 0, "value": 0x1_0000_0005_u64, "op": "SCMP_CMP_EQ"}]));
    for arg in [5, 0x1_0000_0005, 0xffff_0000_0005] {
        assert_eq!(answer(&filter, X86, 3, &[arg]), ret::ALLOW);
        assert_eq!(answer(&filter, X86_64, X32_BIT, &[arg]), ret::ALLOW);
    }
    assert_eq!(answer(&filter, X86_64, 0, &[5]), EPERM);
    assert_eq!(answer(&filter, X86_64, 0, &[0x1_0000_0005]), ret::ALLOW);
}

#[test]
fn all_conditions_of_a_rule_have_to_hold() {
    let filter = read_if(json!([
        {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
    ]));
    assert_eq!(answer(&filter, X86_64, 0, &[1, 2]), ret::ALLOW);
    assert_eq!(answer(&filter, X86_64, 0, &[1, 3]), EPERM);
    assert_eq!(answer(&filter, X86_64, 0, &[0, 2]), EPERM);
}

#[test]
fn of_two_conditions_on_one_argument_one_suffices() {
    let filter = read_if(json!([
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"},
    ]));
    for args in [[1, 0], [8, 0], [0, 3]] {
        assert_eq!(answer(&filter, X86_64, 0, &args), ret::ALLOW);
    }
    assert_eq!(answer(&filter, X86_64, 0, &[0, 0]), EPERM);
}

#[test]
fn a_rule_without_arguments_goes_before_those_with_arguments() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_TRAP",
         "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["read"], "action": "SCMP_ACT_KILL"},
    ]}));
    assert_eq!(answer(&filter, X86_64, 0, &[1]), ret::ALLOW);
}

#[test]
fn a_rule_that_repeats_the_default_hides_no_other() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
    ]}));
    assert_eq!(answer(&filter, X86_64, 0, &[1]), ret::ALLOW);
    assert_eq!(answer(&filter, X86_64, 0, &[2]), EPERM);
}

#[test]
fn of_overlapping_rules_the_more_special_one_counts() {
    let rule = |action: &str, op: &str, value: u64| {
        json!({"names": ["read"], "action": action,
               "args": [{"index": 0, "value": value, "op": op}]})
    };
    let filter = filter(json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": [
        rule("SCMP_ACT_ALLOW", "SCMP_CMP_GT", 10),
        rule("SCMP_ACT_TRAP", "SCMP_CMP_GT", 20),
        rule("SCMP_ACT_KILL", "SCMP_CMP_EQ", 30),
    ]}));
    for (arg, expected) in
        [(10, ret::LOG), (11, ret::ALLOW), (21, ret::TRAP), (30, ret::KILL_THREAD)]
    {
        assert_eq!(answer(&filter, X86_64, 0, &[arg]), expected);
    }
}

#[test]
fn unknown_names_are_ignored() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["no_such_call", "read", "close"], "action": "SCMP_ACT_ALLOW"},
    ]}));
    assert_eq!(answer(&filter, X86_64, 0, &[]), ret::ALLOW);
}

#[test]
fn calls_of_unlisted_architectures_are_killed() {
    let native = filter(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(answer(&native, X86_64, 39, &[]), ret::ALLOW);
    assert_eq!(answer(&native, X86, 39, &[]), ret::KILL_THREAD);
    assert_eq!(answer(&native, X86_64, X32_BIT | 39, &[]), ret::KILL_THREAD);
    assert_eq!(answer(&native, X86_64, u32::MAX, &[]), ret::ALLOW, "a tracer skips a call");

    let listed = filter(json!({"defaultAction": "SCMP_ACT_ALLOW",
                               "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}));
    for (arch, number) in [(X86_64, 39), (X86, 39), (X86_64, X32_BIT | 39)] {
        assert_eq!(answer(&listed, arch, number, &[]), ret::ALLOW);
    }
    assert_eq!(answer(&listed, 0xc000_00b7, 39, &[]), ret::KILL_THREAD);
}

#[test]
fn x32_has_numbers_of_its_own_and_lacks_some_calls() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_LOG",
        "architectures": ["SCMP_ARCH_X32"],
        "syscalls": [{"names": ["execve", "read", "uselib"], "action": "SCMP_ACT_TRAP"}],
    }));
    for number in [0, 59, 134, X32_BIT, X32_BIT | 520] {
        assert_eq!(answer(&filter, X86_64, number, &[]), ret::TRAP);
    }
    for number in [X32_BIT | 59, X32_BIT | 134] {
        assert_eq!(answer(&filter, X86_64, number, &[]), ret::LOG);
    }
}

#[test]
fn sockets_and_ipc_are_watched_at_both_doors() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["socket", "recv", "shmat"], "action": "SCMP_ACT_TRAP"}],
    }));
    assert_eq!(answer(&filter, X86_64, 41, &[]), ret::TRAP);
    for (number, operation) in [(359, 0), (397, 0), (102, 1), (102, 10), (117, 21)] {
        assert_eq!(answer(&filter, X86, number, &[operation]), ret::TRAP);
    }
    for (number, operation) in [(102, 2), (117, 1)] {
        assert_eq!(answer(&filter, X86, number, &[operation]), ret::ALLOW);
    }
}

#[test]
fn calls_newer_than_the_profile_get_enosys_where_they_would_be_denied() {
    let profile = |default: &str| {
        filter(json!({
            "defaultAction": default,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["clone3", "umount"], "action": "SCMP_ACT_LOG"}],
        }))
    };
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let filter = profile(default);
        assert_eq!(answer(&filter, X86_64, 435, &[]), ret::LOG);
        assert_eq!(answer(&filter, X86_64, 436, &[]), ENOSYS);
        assert_eq!(answer(&filter, X86, FUTURE, &[]), ENOSYS);
        assert_ne!(answer(&filter, X86_64, 434, &[]), ENOSYS);
    }
    for (default, expected) in [
        ("SCMP_ACT_ALLOW", ret::ALLOW),
        ("SCMP_ACT_LOG", ret::LOG),
        ("SCMP_ACT_TRACE", ret::TRACE | 1),
    ] {
        assert_eq!(answer(&profile(default), X86_64, FUTURE, &[]), expected);
    }
}

#[test]
fn a_rule_that_repeats_the_default_still_dates_the_profile() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO"},
    ]}));
    assert_eq!(answer(&filter, X86_64, 435, &[]), EPERM);
    assert_eq!(answer(&filter, X86_64, 436, &[]), ENOSYS);
}

#[test]
fn flags_are_spec_allow_unless_the_profile_lists_some() {
    let flags = |flags: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile["flags"] = flags;
        filter(profile).flags
    };
    assert_eq!(filter(json!({"defaultAction": "SCMP_ACT_ALLOW"})).flags, 4);
    assert_eq!(flags(json!([])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])), 6);
    // Nothing waits where there is no listener.
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])), 0);
}

#[test]
fn a_filter_that_asks_an_agent_has_a_listener() {
    let with_rule = |name: &str, flags: Value| {
        filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
            "syscalls": [{"names": [name], "action": "SCMP_ACT_NOTIFY"}]}))
    };
    let asking = with_rule("mkdir", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
    assert!(asking.notifies());
    assert_eq!(asking.flags, 8 | 32);
    let mkdir = Call { name: "mkdir", number: 83, args: [0; 6] };
    let read = Call { name: "read", number: 0, args: [0; 6] };
    assert_eq!(asking.asked_of_agent(&[read, mkdir]).unwrap(), Some(&mkdir));
    assert_eq!(asking.asked_of_agent(&[read]).unwrap(), None);
    // The agent may let it pass.
    assert!(asking.check_allows(&[read, mkdir], "linux.seccomp").is_ok());
    let nobody = with_rule("no_such_call", json!([]));
    assert!(!nobody.notifies());
    assert_eq!(nobody.flags, 0);
}

#[test]
fn an_agent_cannot_be_asked_for_what_tells_of_it() {
    let block = |action: &str| json!({"names": ["read", "write"], "action": action});
    let profile = |default: &str, action: &str| json!({"defaultAction": default, "syscalls": [block(action)]});
    assert_eq!(
        error(profile("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW")),
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"
    );
    assert_eq!(
        error(profile("SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY")),
        "linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
}

#[test]
fn errors_name_the_field() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let arg = json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]);
    for (profile, expected) in [
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_TRAP", "args": arg})),
            "linux.seccomp.syscalls[0].args[0].index: system calls have arguments 0 to 5 only",
        ),
        (
            rule(json!({"names": ["read", ""], "action": "SCMP_ACT_TRAP"})),
            "linux.seccomp.syscalls[0].names[1]: must not be empty",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536})),
            "linux.seccomp.syscalls[0].errnoRet: 65536 is more than 16 bits",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}),
            "linux.seccomp.defaultErrnoRet: 65536 is more than 16 bits",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_M68K"]}),
            "linux.seccomp.architectures[1]: no seccomp rules can be made for the architecture \
             SCMP_ARCH_M68K",
        ),
    ] {
        assert_eq!(error(profile), expected);
    }
}

#[test]
fn unknown_words_are_named_with_their_place() {
    let profile = |field: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [], "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_TRAP",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
        ]});
        *profile.pointer_mut(field).unwrap() = value;
        check_words(&profile, "linux.seccomp").map_err(|error| error.to_string())
    };
    assert_eq!(profile("/defaultAction", json!("SCMP_ACT_LOG")), Ok(()));
    for (field, value, expected) in [
        (
            "/defaultAction",
            json!("X"),
            "linux.seccomp.defaultAction: seccomp action \"X\" is not known",
        ),
        (
            "/flags",
            json!(["SECCOMP_FILTER_FLAG_LOG", "X"]),
            "linux.seccomp.flags[1]: seccomp flag \"X\" is not known",
        ),
        (
            "/syscalls/0/args/0/op",
            json!("X"),
            "linux.seccomp.syscalls[0].args[0].op: seccomp operator \"X\" is not known",
        ),
    ] {
        assert_eq!(profile(field, value), Err(expected.to_owned()));
    }
}

#[test]
fn every_known_word_is_the_spec_s_own() {
    for (word, value, _) in ACTIONS {
        assert_eq!(json!(value), word);
    }
    for (word, value) in OPERATORS {
        assert_eq!(json!(value), word);
    }
    for (word, value) in ARCHITECTURES {
        // The crate derives SCMP_ARCH_MIPS64N32 and the like from its own spelling.
        assert_eq!(json!(value), word);
    }
    for (word, value, _) in FLAGS {
        assert_eq!(json!(value), word);
    }
}

/// A profile that traps each of `count` calls on `values` arguments of its own.
fn long(count: usize, values: u64) -> LinuxSeccomp {
    let calls = syscalls::x86_64::Sysno::iter().take(count);
    let rules = calls.flat_map(|call| {
        (0..values).map(move |value| {
            json!({"names": [call.name()], "action": "SCMP_ACT_TRAP",
                   "args": [{"index": 1, "value": 16 * u64::try_from(call.id()).unwrap() + value, "op": "SCMP_CMP_EQ"}]})
        })
    });
    parse(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules.collect::<Vec<_>>()}))
}

#[test]
fn long_programs_jump_over_stepping_stones() {
    let filter = compile(&long(200, 4), "linux.seccomp").unwrap();
    assert!(filter.instructions.len() > 3000);
    for number in 0..250 {
        for value in 0..6 {
            let arg = 16 * u64::from(number) + value;
            let expected = if number < 200 && value < 4 { ret::TRAP } else { ret::ALLOW };
            assert_eq!(answer(&filter, X86_64, number, &[0, arg]), expected, "{number} {value}");
        }
    }
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let error = compile(&long(300, 9), "linux.seccomp").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("linux.seccomp: the filter has "), "{error}");
}

#[test]
fn docker_s_profile_stays_small_and_means_what_it_says() {
    let docker = include_str!("../../tests/data/seccomp-docker.json");
    let filter = filter(serde_json::from_str(docker).unwrap());
    assert!(filter.instructions.len() < 400, "{}", filter.instructions.len());
    assert_eq!(answer(&filter, X86_64, 435, &[]), ENOSYS, "clone3");
    assert_eq!(answer(&filter, X86_64, 41, &[40]), EPERM, "an AF_VSOCK socket");
    assert_eq!(answer(&filter, X86_64, 41, &[2]), ret::ALLOW, "an AF_INET socket");
    assert_eq!(answer(&filter, X86_64, FUTURE, &[]), ENOSYS);
}

#[test]
fn a_profile_that_denies_what_the_init_needs_is_refused() {
    let execve = [Call { name: "execve", number: 59, args: [0; 6] }];
    let check = |action: &str| {
        let rule = json!({"names": ["execve"], "action": action});
        let filter = filter(json!({"defaultAction": "SCMP_ACT_TRAP", "syscalls": [rule]}));
        filter.check_allows(&execve, "linux.seccomp").map_err(|error| error.to_string())
    };
    assert_eq!(check("SCMP_ACT_ALLOW"), Ok(()));
    assert_eq!(check("SCMP_ACT_LOG"), Ok(()));
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE"] {
        let message = check(action).unwrap_err();
        assert!(message.starts_with("linux.seccomp: the profile denies execve(2)"), "{message}");
    }
}

#[test]
fn instructions_go_to_the_kernel_in_eight_bytes() {
    let filter =
        Filter { instructions: vec![Instruction { code: 0x15, jt: 1, jf: 2, k: 3 }], flags: 0 };
    let mut expected = 0x15_u16.to_ne_bytes().to_vec();
    expected.extend([1, 2]);
    expected.extend(3_u32.to_ne_bytes());
    assert_eq!(filter.to_bytes(), expected);
}

#[test]
fn programs_that_the_kernel_would_not_load_kill_in_the_simulator() {
    let call = SeccompData::default();
    let jump = Instruction { code: 0x05, jt: 0, jf: 0, k: 9 };
    let odd = Instruction { code: 0x20, jt: 0, jf: 0, k: 2 };
    let strange = Instruction { code: 0x87, jt: 0, jf: 0, k: 0 };
    for program in [&[][..], &[jump], &[odd], &[strange]] {
        assert_eq!(simulate(program, &call), ret::KILL_PROCESS);
    }
}

#[cfg(feature = "seccomp-all-architectures")]
#[test]
fn foreign_architectures_have_rules_too() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_LOG",
        "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS64", "SCMP_ARCH_S390X",
                          "SCMP_ARCH_RISCV64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_LOONGARCH64"],
        "syscalls": [{"names": ["openat", "newfstatat", "cacheflush", "listns"],
                      "action": "SCMP_ACT_TRAP"}],
    }));
    for (arch, number) in [
        (0xc000_00b7, 56),
        (0xc000_00b7, 79),
        (0xc000_00b7, 470),
        (0x4000_0028, 322),
        (0x4000_0028, 0x000f_0002),
        (0x8000_0008, 5247),
        (0x8000_0008, 5470),
        (0x8000_0016, 288),
        (0xc000_00f3, 56),
        (0xc000_0015, 286),
        (0xc000_0102, 56),
    ] {
        assert_eq!(answer(&filter, arch, number, &[]), ret::TRAP, "{arch:#x} {number}");
        assert_eq!(answer(&filter, arch, number + 1, &[]), ret::LOG, "{arch:#x} {number}");
    }
}
