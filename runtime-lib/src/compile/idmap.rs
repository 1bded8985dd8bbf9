//! Id-mapped mounts: `uidMappings` and `gidMappings` of a mount, and its options `idmap` and `ridmap`.

use oci_spec::runtime::Mount;
use orlop_init::plan::IdMap as Map;

use super::ids::{IdMap, IdMaps};
use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::Slot;

/// The ids of a mount: those of its own maps or, where it has the option alone, of the container's
/// user namespace. `option` is the option's index, and whether it is for the tree.
pub(super) fn of(
    config: &Config<'_>,
    field: &str,
    mount: &Mount,
    option: Option<(usize, bool)>,
    out: &mut Columns,
) -> Result<Option<Map>> {
    let (uids, gids) = (format!("{field}.uidMappings"), format!("{field}.gidMappings"));
    let users = IdMap::new(mount.uid_mappings().as_deref().unwrap_or_default(), &uids)?;
    let groups = IdMap::new(mount.gid_mappings().as_deref().unwrap_or_default(), &gids)?;
    let tree = option.is_some_and(|(_, tree)| tree);
    let bind = super::mount_options::is_bind(mount);
    let slot = match (users.0.is_empty(), groups.0.is_empty(), option) {
        (true, true, None) => return Ok(None),
        (true, true, Some((index, _))) => {
            let field = format!("{field}.options[{index}]");
            check_namespace(config, &field, bind)?;
            None
        }
        (true, false, _) => return Err(Error::config(uids, "is missing beside gidMappings")),
        (false, true, _) => return Err(Error::config(gids, "is missing beside uidMappings")),
        (false, false, _) => Some(slot(uids.clone(), IdMaps { users, groups }, out)?),
    };
    if config.facts.unprivileged {
        let text = "id-mapped mounts are not supported for rootless containers";
        return Err(Error::unsupported(uids, text));
    }
    Ok(Some(Map { slot, tree, by_creator: bind && config.user.is_some() }))
}

/// One user namespace for all mounts with the same maps.
fn slot(field: String, maps: IdMaps, out: &mut Columns) -> Result<u16> {
    let slot = Slot::UserNamespace(maps);
    match out.slots.iter().position(|step| step.op == slot) {
        Some(place) => u16::try_from(place).map_err(|_| Error::bug("too many descriptors")),
        None => out.slot(field, slot),
    }
}

/// Whether the container has a user namespace to take the maps of.
fn check_namespace(config: &Config<'_>, field: &str, bind: bool) -> Result<()> {
    if !config.user.is_some() {
        let text = "ids are mapped by uidMappings and gidMappings of the mount, or by the \
            container's user namespace, and there is neither";
        return Err(Error::config(field.to_owned(), text));
    }
    if !bind {
        let text =
            "a filesystem that is made in the container's user namespace has its ids already";
        return Err(Error::config(field.to_owned(), text));
    }
    Ok(())
}
