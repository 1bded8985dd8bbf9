//! Id maps: which ids of a user namespace, or of a filesystem, are which outside.

use std::fmt;

use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Error, Result};

/// As many ranges as the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
const MOST_RANGES: usize = 340;

/// It takes a map in one write, of less than a page.
const MOST_BYTES: usize = 4096;

/// Ids in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    /// The first, in the namespace.
    pub(crate) inside: u32,
    /// The first, in the parent namespace.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) count: u32,
}

/// The ids of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMap(pub(crate) Vec<IdRange>);

/// Users and groups of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: IdMap,
    pub(crate) groups: IdMap,
}

impl IdMap {
    /// Checks a map as the kernel would, but with a name for what is wrong.
    ///
    /// # Errors
    /// `field[i]`.
    pub(crate) fn new(list: &[LinuxIdMapping], field: &str) -> Result<Self> {
        if list.len() > MOST_RANGES {
            let text = format!("{} ranges; the kernel takes {MOST_RANGES}", list.len());
            return Err(Error::config(field.to_owned(), text));
        }
        let range = |mapping: &LinuxIdMapping| IdRange {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            count: mapping.size(),
        };
        let map = Self(list.iter().map(range).collect());
        for (index, range) in map.0.iter().enumerate() {
            range.check(&format!("{field}[{index}]"))?;
        }
        map.check_overlaps(field, |range| range.inside)?;
        map.check_overlaps(field, |range| range.outside)?;
        let bytes = map.to_string().len();
        if bytes >= MOST_BYTES {
            let text = format!("{bytes} bytes of text are more than the kernel takes (4095)");
            return Err(Error::config(field.to_owned(), text));
        }
        Ok(map)
    }

    fn check_overlaps(&self, field: &str, first: impl Fn(&IdRange) -> u32) -> Result<()> {
        let mut sorted: Vec<(usize, &IdRange)> = self.0.iter().enumerate().collect();
        sorted.sort_by_key(|(_, range)| first(range));
        for pair in sorted.windows(2) {
            let [(one, low), (other, high)] = pair else { continue };
            if first(high) - first(low) < low.count {
                let text = format!("overlaps with {field}[{}]", one.min(other));
                return Err(Error::config(format!("{field}[{}]", one.max(other)), text));
            }
        }
        Ok(())
    }
}

impl fmt::Display for IdMap {
    /// The form of `/proc/PID/uid_map`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for IdRange { inside, outside, count } in &self.0 {
            writeln!(f, "{inside} {outside} {count}")?;
        }
        Ok(())
    }
}

impl IdRange {
    fn check(&self, field: &str) -> Result<()> {
        if self.count == 0 {
            return Err(Error::config(format!("{field}.size"), "is 0"));
        }
        for (first, leaf) in [(self.inside, "containerID"), (self.outside, "hostID")] {
            // 4294967295 is no id.
            if first.checked_add(self.count).is_none() {
                let text = format!("{first} and {} more are beyond the last id", self.count - 1);
                return Err(Error::config(format!("{field}.{leaf}"), text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxIdMappingBuilder;

    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> LinuxIdMapping {
        let builder = LinuxIdMappingBuilder::default();
        builder.container_id(inside).host_id(outside).size(count).build().unwrap()
    }

    #[test]
    fn a_map_is_written_as_the_kernel_reads_it() {
        let map = IdMap::new(&[range(0, 1000, 1), range(1, 100_000, 10)], "m").unwrap();
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 10\n");
    }

    #[test]
    fn maps_that_the_kernel_refuses_are_refused_by_name() {
        for (list, field) in [
            (vec![range(0, 1, 0)], "m[0].size"),
            (vec![range(u32::MAX, 1, 1)], "m[0].containerID"),
            (vec![range(0, u32::MAX - 1, 2)], "m[0].hostID"),
            (vec![range(10, 0, 5), range(0, 100, 11)], "m[1]"),
            (vec![range(0, 0, 5), range(10, 4, 1)], "m[1]"),
            (vec![range(0, 0, 1); 341], "m"),
        ] {
            assert_eq!(IdMap::new(&list, "m").unwrap_err().field(), Some(field), "{list:?}");
        }
        let most: Vec<_> = (0..340).map(|i| range(i, 1000 + i, 1)).collect();
        assert_eq!(IdMap::new(&most, "m").unwrap().0.len(), 340);
    }
}
