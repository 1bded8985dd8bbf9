//! The programs are run by a small simulator and compared with a plain reading of the rules.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDeviceBuilder, LinuxDeviceCgroupBuilder};

use super::*;

/// Runs a program on one request, as the kernel would.
fn simulate(program: &DeviceProgram, device_type: u8, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(device_type) | u32::from(access) << 16, major, minor];
    let mut registers = [None; 11];
    let mut at = 0usize;
    loop {
        let [operation, names, o0, o1, v0, v1, v2, v3] = program.instructions()[at];
        let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
        let (to, from) = if cfg!(target_endian = "little") { (to, from) } else { (from, to) };
        let offset = i16::from_ne_bytes([o0, o1]);
        let value = u32::from_ne_bytes([v0, v1, v2, v3]);
        let read = |register: usize| -> u32 { registers[register].expect("an unset register") };
        at += 1;
        let taken = match operation {
            LOAD_U32 => {
                assert_eq!(from, usize::from(CONTEXT));
                registers[to] = Some(context[usize::try_from(offset).unwrap() / 4]);
                continue;
            }
            MOVE => {
                registers[to] = Some(read(from));
                continue;
            }
            SHIFT_RIGHT => {
                registers[to] = Some(read(to) >> value);
                continue;
            }
            AND => {
                registers[to] = Some(read(to) & value);
                continue;
            }
            RETURN_VALUE => {
                registers[to] = Some(value);
                continue;
            }
            EXIT => return read(0) == 1,
            JUMP => true,
            JEQ => read(to) == value,
            JNE => read(to) != value,
            JSET => read(to) & value != 0,
            other => panic!("unknown operation {other:#x}"),
        };
        if taken {
            at += usize::try_from(offset).unwrap();
        }
    }
}

/// The meaning of the rules: for each access that is asked for, the last rule that speaks of it.
fn plain(rules: &[Rule], device_type: u8, major: u32, minor: u32, access: u8) -> bool {
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let speaks = |rule: &&Rule| {
            rule.types & device_type != 0
                && rule.major.is_none_or(|number| number == major)
                && rule.minor.is_none_or(|number| number == minor)
                && rule.access & bit != 0
        };
        rules.iter().rev().find(speaks).is_some_and(|rule| rule.allow)
    })
}

/// Compares on every combination of the numbers that occur, some that do not, and all accesses.
fn agrees(rules: &[Rule]) -> DeviceProgram {
    let program = generate(rules).unwrap();
    let mut majors = vec![0, 77, u32::MAX];
    let mut minors = vec![1, 78, u32::MAX];
    majors.extend(rules.iter().filter_map(|rule| rule.major));
    minors.extend(rules.iter().filter_map(|rule| rule.minor));
    for numbers in [&mut majors, &mut minors] {
        numbers.sort_unstable();
        numbers.dedup();
    }
    for (&major, &minor) in majors.iter().flat_map(|a| minors.iter().map(move |b| (a, b))) {
        for (device_type, access) in
            [BLOCK, CHAR].into_iter().flat_map(|t| (1..=ALL).map(move |a| (t, a)))
        {
            assert_eq!(
                simulate(&program, device_type, major, minor, access),
                plain(rules, device_type, major, minor, access),
                "type {device_type} {major}:{minor} access {access} under {rules:#?}"
            );
        }
    }
    program
}

fn deny(types: u8, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: false, ..allow(types, major, minor, access) }
}

fn oci(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    numbers: [Option<i64>; 2],
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).access(access).build().unwrap();
    let [major, minor] = numbers;
    rule.set_typ(kind).set_major(major).set_minor(minor);
    rule
}

fn all_defaults() -> Vec<Rule> {
    DEFAULTS.iter().map(|(_, rule)| *rule).collect()
}

const ANY: u8 = BLOCK | CHAR;

#[test]
fn without_rules_everything_is_denied_in_two_instructions() {
    assert_eq!(agrees(&[]).instructions().len(), 2);
    assert_eq!(agrees(&[deny(ANY, None, None, ALL)]).instructions().len(), 2);
    assert_eq!(agrees(&[deny(CHAR, Some(1), None, READ)]).instructions().len(), 2);
}

#[test]
fn a_privileged_container_gets_two_instructions() {
    let mut rules = vec![allow(ANY, None, None, ALL)];
    rules.extend(all_defaults());
    let program = agrees(&rules);
    assert_eq!(program.instructions().len(), 2);
    assert!(program.allows_everything());
}

#[test]
fn docker_s_rules_are_small() {
    let mut rules = vec![deny(ANY, None, None, ALL)];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (10, 229)] {
        rules.push(allow(CHAR, Some(major), Some(minor), ALL));
    }
    rules.push(deny(CHAR, Some(10), Some(200), ALL));
    rules.extend(all_defaults());
    let program = agrees(&rules);
    assert!(program.instructions().len() <= 30, "{}", program.instructions().len());
    assert!(!program.allows_everything());
}

#[test]
fn the_defaults_alone_are_smaller() {
    let program = agrees(&all_defaults());
    assert!(program.instructions().len() <= 26, "{}", program.instructions().len());
}

#[test]
fn the_defaults_cannot_be_denied() {
    let rules = [
        oci(false, None, [None, None], "rwm"),
        oci(false, Some(LinuxDeviceType::C), [Some(1), Some(3)], "rwm"),
    ];
    let program = compile(&rules, &[]).unwrap();
    assert!(simulate(&program, CHAR, 1, 3, READ | WRITE));
    assert!(simulate(&program, BLOCK, 8, 0, MKNOD));
    assert!(!simulate(&program, BLOCK, 8, 0, READ));
}

#[test]
fn a_device_of_the_configuration_takes_the_place_of_the_default() {
    let null = LinuxDeviceBuilder::default().path(PathBuf::from("/dev/null")).build().unwrap();
    let program = compile(&[], &[null]).unwrap();
    assert!(!simulate(&program, CHAR, 1, 3, READ));
    assert!(simulate(&program, CHAR, 1, 5, READ));
}

#[test]
fn a_denied_access_is_denied_together_with_others() {
    let rules = [allow(ANY, None, None, ALL), deny(CHAR, Some(9), Some(9), WRITE)];
    let program = agrees(&rules);
    assert!(!simulate(&program, CHAR, 9, 9, READ | WRITE));
    assert!(simulate(&program, CHAR, 9, 9, READ));
}

#[test]
fn later_rules_win_over_earlier_ones_in_both_directions() {
    agrees(&[
        allow(CHAR, Some(4), None, READ | WRITE),
        deny(CHAR, Some(4), Some(1), WRITE),
        allow(CHAR, None, Some(1), MKNOD | WRITE),
        deny(BLOCK, Some(4), None, ALL),
        allow(BLOCK, None, Some(7), READ),
    ]);
    agrees(&[
        allow(BLOCK, None, None, READ),
        allow(CHAR, None, None, READ | WRITE),
        deny(ANY, None, None, ALL),
        allow(BLOCK, Some(8), Some(0), READ),
    ]);
}

#[test]
fn numbers_above_two_to_the_31_are_compared_unsigned() {
    agrees(&[allow(CHAR, Some(u32::MAX), Some(0x8000_0000), ALL)]);
}

#[test]
fn random_rules_agree_with_a_plain_reading() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |bound: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..1500 {
        let count = random(9);
        let mut rules: Vec<Rule> = (0..count)
            .map(|_| {
                let types = [CHAR, CHAR, BLOCK, BLOCK, ANY][random(5) as usize];
                let mut number = || (random(3) != 0).then(|| random(3));
                let (major, minor) = (number(), number());
                let access = u8::try_from(1 + random(7)).unwrap();
                let allow = random(2) == 0;
                if types == ANY {
                    Rule { allow, types, major: None, minor: None, access: ALL }
                } else {
                    Rule { allow, types, major, minor, access }
                }
            })
            .collect();
        if random(3) == 0 {
            rules.extend(all_defaults());
        }
        agrees(&rules);
    }
}

#[test]
fn type_a_ignores_the_numbers_and_the_access() {
    let rule = oci(true, Some(LinuxDeviceType::A), [Some(1), Some(3)], "r");
    assert!(compile(&[rule], &[]).unwrap().allows_everything());
}

#[test]
fn minus_one_is_any_number() {
    let rule = oci(true, Some(LinuxDeviceType::B), [Some(-1), None], "rwm");
    let program = compile(&[rule], &[]).unwrap();
    assert!(simulate(&program, BLOCK, 8, 1, READ));
}

#[test]
fn invalid_rules_are_named() {
    let wrong = [
        (oci(true, Some(LinuxDeviceType::P), [None, None], "r"), "type"),
        (oci(true, Some(LinuxDeviceType::U), [None, None], "r"), "type"),
        (oci(true, Some(LinuxDeviceType::C), [Some(-2), None], "r"), "major"),
        (oci(true, Some(LinuxDeviceType::C), [None, Some(1 << 32)], "r"), "minor"),
        (oci(true, Some(LinuxDeviceType::C), [None, None], "rx"), "access"),
        (oci(true, Some(LinuxDeviceType::C), [None, None], ""), "access"),
        (oci(true, None, [None, None], ""), "access"),
    ];
    for (rule, name) in wrong {
        let good = oci(true, None, [None, None], "rwm");
        let error = compile(&[good, rule], &[]).unwrap_err();
        assert_eq!(error.field(), Some(format!("linux.resources.devices[1].{name}").as_str()));
    }
}

#[test]
fn more_rules_than_jumps_can_span_are_refused() {
    let rules: Vec<Rule> = (0..40_000u32)
        .map(|n| allow(CHAR, Some(n % 2), Some(n), if n % 3 == 0 { READ } else { ALL }))
        .collect();
    // The merging is quadratic; the limit is tested on the code alone.
    let mut code = Code::default();
    let list: Vec<Decision> = rules
        .iter()
        .map(|rule| Decision {
            major: rule.major,
            minor: rule.minor,
            allow: true,
            access: rule.access,
        })
        .collect();
    code.decide_all(&list, ALL);
    assert_eq!(code.finish().unwrap_err().field(), Some("linux.resources.devices"));
}
