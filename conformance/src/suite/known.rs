//! Known deviations: where a case is right and a runtime is wrong, and why that is known.
//!
//! Such a failure is shown as expected, with its reason; it does not make the run fail. Orlop has no place here.

/// A case that some versions of a runtime fail.
#[derive(Debug)]
pub struct Known {
    /// The first word of the runtime's `--version`.
    pub runtime: &'static str,
    /// The first version that does not deviate; all do where there is none.
    pub before: Option<[u32; 3]>,
    /// The case's title, or several: `*` stands for anything.
    pub case: &'static str,
    /// Why the case is right: a section of the specification, or an advisory.
    pub reason: &'static str,
}

const fn known(
    runtime: &'static str,
    before: Option<[u32; 3]>,
    case: &'static str,
    reason: &'static str,
) -> Known {
    Known { runtime, before, case, reason }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    known(
        "runc",
        None,
        "mount options: * with defaults is *",
        "config.md#linux-mount-options: runtimes MUST implement the option defaults; runc hands it to the filesystem",
    ),
    known(
        "runc",
        None,
        "rlimits: limit that is named twice is refused",
        "config.md#posix-process: duplicated entries of rlimits MUST generate an error",
    ),
];

/// A version's numbers: `1.1.15+ds1` is 1, 1, 15.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Whether a title fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, title: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == title,
        Some((before, after)) => title.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().any(|(at, _)| matches(after, &rest[at..])) || matches(after, "")
        }),
    }
}

/// Why a failure of this case by this runtime (`runc 1.3.6`) is expected.
#[must_use]
pub fn reason(version: &str, title: &str) -> Option<&'static str> {
    let (name, number) = version.split_once(' ')?;
    let number = numbers(number);
    let fits = |k: &&Known| {
        k.runtime == name && matches(k.case, title) && k.before.is_none_or(|b| number < b)
    };
    KNOWN.iter().find(fits).map(|k| k.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("1.1.15+ds1"), [1, 1, 15]);
        assert_eq!(numbers("1.21"), [1, 21, 0]);
        assert!(numbers("1.9") < numbers("1.21"));
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("a: * b *", "a: x b y") && matches("a*", "a") && matches("a", "a"));
        assert!(!matches("a: * b", "a: x c") && !matches("a", "ab") && !matches("a*b", "a"));
    }

    #[test]
    fn each_known_deviation_names_a_case_and_a_reason() {
        let cases = crate::cases::all();
        for known in KNOWN {
            assert!(cases.iter().any(|c| matches(known.case, &c.title())), "{}", known.case);
            assert!(known.reason.len() > 20 && known.runtime != "orlop", "{}", known.case);
        }
    }
}
