//! The least `memory.max` with which a container still starts, runs /bin/true and ends well.

use super::measure::Subject;

/// Steps of the search, in KiB.
const STEP: u64 = 32;
/// Where it ends: a runtime that needs more has no value.
const MOST: u64 = 64 << 10;
/// A limit that is enough has to be enough this many times.
const TIMES: usize = 3;

/// Searches by halving, and keeps the limit in KiB. Without the memory controller, or for no runtime, nothing.
pub(super) fn find(subject: &mut Subject) -> Result<(), String> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let has = controllers.is_ok_and(|all| all.split_whitespace().any(|c| c == "memory"));
    if !has || subject.is_floor() {
        return Ok(());
    }
    let enough = |steps: u64| -> Result<bool, String> {
        for _ in 0..TIMES {
            if !subject.starts_within(steps * STEP * 1024)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if let Some(steps) = least(MOST / STEP, enough)? {
        let kib = u32::try_from(steps * STEP).unwrap_or(u32::MAX);
        subject.put(0, "least memory", f64::from(kib));
    }
    Ok(())
}

/// The least number from 1 to `most` that is enough, if what is enough stays so for more.
fn least<E>(most: u64, mut enough: impl FnMut(u64) -> Result<bool, E>) -> Result<Option<u64>, E> {
    let (mut few, mut many) = (0, most);
    if !enough(many)? {
        return Ok(None);
    }
    while many - few > 1 {
        let middle = u64::midpoint(few, many);
        if enough(middle)? {
            many = middle;
        } else {
            few = middle;
        }
    }
    Ok(Some(many))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_is_enough_is_found() {
        for want in [1, 2, 7, 2047, 2048] {
            assert_eq!(least::<()>(2048, |n| Ok(n >= want)), Ok(Some(want)));
        }
        assert_eq!(least::<()>(2048, |_| Ok(false)), Ok(None));
    }
}
