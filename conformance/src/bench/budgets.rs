//! What Orlop promises of itself, and whether it was kept: for the runtime that is judged.

use super::measure::Subject;

/// One promise.
#[derive(Debug, PartialEq)]
pub(super) struct Budget {
    pub(super) what: &'static str,
    /// The most that it may be, with its unit.
    pub(super) most: String,
    /// What was measured, if it could be.
    pub(super) measured: Option<f64>,
    pub(super) kept: Option<bool>,
}

/// What a column is compared with: a subject's, or a number.
enum Of<'a> {
    Subject(Option<&'a Subject>, &'static str),
    Number(&'static str),
}

/// The budgets of the first subject, against a crun and the kernel's share if they were measured too.
pub(super) fn of(subjects: &[Subject]) -> Vec<Budget> {
    let Some(own) = subjects.first() else { return Vec::new() };
    let floor = subjects.iter().find(|s| s.is_floor());
    let crun = subjects.iter().skip(1).find(|s| s.version.starts_with("crun "));
    let from = |column| own.median(0, column);
    [
        ("run", from("run"), 1.3, Of::Subject(floor, "the kernel floor")),
        ("system calls of run", from("system calls of run"), 250.0, Of::Number("")),
        (
            "create + start + delete",
            from("create + start + delete"),
            0.5,
            Of::Subject(crun, "crun"),
        ),
        ("exec", from("exec"), 0.5, Of::Subject(crun, "crun")),
        (
            "held by a created container (PSS)",
            from("held by a created container (PSS)"),
            0.2,
            Of::Number(" MiB"),
        ),
        ("peak RSS of run", from("peak RSS of run"), 2.0, Of::Number(" MiB")),
        ("least memory", from("least memory"), 256.0, Of::Number(" KiB")),
        ("binary", own.size(), 3.0, Of::Number(" MiB")),
    ]
    .into_iter()
    .map(|(what, value, limit, of)| {
        let (most, measured) = match of {
            Of::Subject(other, name) => {
                let other = other.and_then(|o| o.median(0, what)).filter(|v| *v > 0.0);
                (format!("{limit} x {name}"), value.zip(other).map(|(v, o)| v / o))
            }
            Of::Number(unit) => (format!("{limit}{unit}"), value),
        };
        Budget { what, most, measured, kept: measured.map(|m| m <= limit) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_ratios_to_crun_and_the_floor_or_numbers() {
        let mut own = Subject::made_up("own", false);
        let mut crun = Subject::made_up("peer", false);
        crun.version = "crun 1.28".into();
        let mut floor = Subject::made_up("kernel floor", true);
        own.put(0, "run", 8.0);
        floor.put(0, "run", 4.0);
        own.put(0, "exec", 2.0);
        crun.put(0, "exec", 5.0);
        own.put(0, "system calls of run", 251.0);
        let found = of(&[own, crun, floor]);
        let about = |what| found.iter().find(|b| b.what == what).expect("a budget");
        assert_eq!((about("run").measured, about("run").kept), (Some(2.0), Some(false)));
        assert_eq!((about("exec").measured, about("exec").kept), (Some(0.4), Some(true)));
        assert_eq!(about("system calls of run").kept, Some(false));
        // Not measured is neither kept nor broken.
        assert_eq!(about("least memory").kept, None);
        assert_eq!(about("exec").most, "0.5 x crun");
    }
}
