//! `linux.uidMappings` and `linux.gidMappings`: which ids of a user namespace are which outside.

use std::fmt;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::plan::Bytes;

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

    /// Reads a map of procfs: `inside outside count` in each line.
    pub(crate) fn read(text: &str) -> Self {
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some(IdRange { inside, outside, count })
        };
        Self(text.lines().filter_map(range).collect())
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

    /// The id outside of one inside.
    pub(crate) fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
            range.outside.checked_add(offset)
        })
    }

    /// The plan's form: three little-endian u32 for each range.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let words = self.0.iter().flat_map(|range| [range.inside, range.outside, range.count]);
        Bytes::blob(words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
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

/// The user namespace that the container runs in, where it is not the runtime's.
pub(super) enum UserNamespace {
    /// The runtime's.
    None,
    /// A new one, with these maps.
    New(IdMaps),
    /// One that is there; the maps are known only if config.json has them too.
    Joined(Option<IdMaps>),
}

impl UserNamespace {
    /// What config.json asks for.
    pub(super) fn new(linux: Option<&Linux>, namespaces: &Namespaces<'_>) -> Result<Self> {
        let list = |list: Option<&Vec<LinuxIdMapping>>| list.cloned().unwrap_or_default();
        let users = list(linux.and_then(|linux| linux.uid_mappings().as_ref()));
        let groups = list(linux.and_then(|linux| linux.gid_mappings().as_ref()));
        let users = IdMap::new(&users, "linux.uidMappings")?;
        let groups = IdMap::new(&groups, "linux.gidMappings")?;
        let none = users.0.is_empty() && groups.0.is_empty();
        let missing = |field: &'static str, text: &'static str| Err(Error::config(field, text));
        let one = if users.0.is_empty() { "linux.uidMappings" } else { "linux.gidMappings" };
        let other = if users.0.is_empty() { "linux.gidMappings" } else { "linux.uidMappings" };
        if !namespaces.separate(LinuxNamespaceType::User) {
            if none {
                return Ok(Self::None);
            }
            return missing(
                other,
                "user namespace mappings specified, but user namespace isn't enabled in the config",
            );
        }
        if none {
            if namespaces.is_new(LinuxNamespaceType::User) {
                return missing(
                    "linux.uidMappings",
                    "user namespaces enabled, but no namespace path or mappings specified",
                );
            }
            return Ok(Self::Joined(None));
        }
        if users.0.is_empty() || groups.0.is_empty() {
            return missing(one, "a user namespace needs maps of users and of groups");
        }
        let maps = IdMaps { users, groups };
        if namespaces.is_new(LinuxNamespaceType::User) {
            Ok(Self::New(maps))
        } else {
            Ok(Self::Joined(Some(maps)))
        }
    }

    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }

    /// The maps, where they are known.
    pub(super) fn maps(&self) -> Option<&IdMaps> {
        match self {
            Self::New(maps) | Self::Joined(Some(maps)) => Some(maps),
            Self::None | Self::Joined(None) => None,
        }
    }

    /// Refuses a user that the namespace does not have.
    pub(super) fn check_user(&self, uid: u32, field: &str) -> Result<()> {
        let unmapped = self.maps().is_some_and(|maps| maps.users.outside(uid).is_none());
        if unmapped { Err(not_mapped("user", uid, field)) } else { Ok(()) }
    }

    /// Refuses a group that the namespace does not have.
    pub(super) fn check_group(&self, gid: u32, field: &str) -> Result<()> {
        let unmapped = self.maps().is_some_and(|maps| maps.groups.outside(gid).is_none());
        if unmapped { Err(not_mapped("group", gid, field)) } else { Ok(()) }
    }
}

fn not_mapped(what: &str, id: u32, field: &str) -> Error {
    let text = format!("{what} {id} is not mapped in the container's user namespace");
    Error::config(field.to_owned(), text)
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
    fn an_id_is_found_in_the_range_that_has_it() {
        let map = IdMap::new(&[range(0, 1000, 1), range(1, 100_000, 10)], "m").unwrap();
        for (inside, outside) in [(0, Some(1000)), (1, Some(100_000)), (10, Some(100_009))] {
            assert_eq!(map.outside(inside), outside, "{inside}");
        }
        assert_eq!(map.outside(11), None);
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 10\n");
        assert_eq!(IdMap::read("         0       1000          1\n 1 100000 10\n"), map);
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
        assert_eq!(IdMap::new(&most, "m").unwrap().outside(339), Some(1339));
    }
}
