//! `root` and `linux.rootfsPropagation`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use orlop_init::plan::{Op, propagation};

use super::{Columns, Config, kernel_path};
use crate::error::{Error, Result};

const PROPAGATION: &str = "linux.rootfsPropagation";

/// `root.path`, absolute.
pub(super) fn path(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let Some(root) = spec.root() else { return Err(Error::config("root", "is missing")) };
    if root.path().as_os_str().is_empty() {
        return Err(Error::config("root.path", "is empty"));
    }
    let path = bundle.join(root.path());
    if !path.is_absolute() {
        return Err(Error::bug("the bundle's path is not absolute"));
    }
    kernel_path(&path, "root.path")?;
    Ok(path)
}

/// A change of propagation, of its name without the `r`.
fn change(config: &Config<'_>) -> Result<Option<u8>> {
    let text = config.linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match super::mount_options::propagation_of(text) {
        Some(change) => Ok(Some(change)),
        None => Err(Error::config(PROPAGATION, format!("{text:?} is not a kind of propagation"))),
    }
}

/// What the mounts that came with the new namespace do with the container's mounts and the host's.
///
/// Only `shared` keeps the container's mounts visible to the host, as asked. `slave` and `private`
/// go for the whole tree even without `r`: a mount that stayed shared would carry the container's
/// mounts out. `unbindable` would forbid cloning the root; it is set on the root alone, at the end.
pub(super) fn host_propagation(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if !has_mounts(config) {
        return Ok(());
    }
    let asked = change(config)?;
    let change = match asked.map(|change| (change & !propagation::RECURSIVE, change)) {
        None => propagation::SLAVE | propagation::RECURSIVE,
        Some((propagation::SHARED, change)) => change,
        Some((propagation::SLAVE, _)) => propagation::SLAVE | propagation::RECURSIVE,
        Some(_) => propagation::PRIVATE | propagation::RECURSIVE,
    };
    if config.request.no_pivot
        && asked.is_some_and(|change| change & !propagation::RECURSIVE == propagation::PRIVATE)
    {
        return Err(Error::config(PROPAGATION, "a private root cannot be combined with no-pivot"));
    }
    out.child(PROPAGATION, Op::HostPropagation { change });
    Ok(())
}

/// Whether the container has a mount namespace; without one it is only given another root.
fn has_mounts(config: &Config<'_>) -> bool {
    config.namespaces.separate(LinuxNamespaceType::Mount)
}

pub(super) fn open(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let isolate =
        change(config)?.is_some_and(|c| c & !propagation::RECURSIVE == propagation::SHARED);
    let path = kernel_path(&config.rootfs, "root.path")?;
    let in_place = !has_mounts(config);
    let op = if in_place { Op::OpenRootInPlace { path } } else { Op::OpenRoot { path, isolate } };
    out.child("root.path", op);
    Ok(())
}

pub(super) fn pivot(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let op = match config.request.no_pivot {
        _ if !has_mounts(config) => Op::EnterRoot,
        true => Op::MoveRoot,
        false => Op::PivotRoot,
    };
    if matches!(op, Op::MoveRoot) {
        for path in &config.facts.whole_pseudo_filesystems {
            // What lies in the root is the container's.
            if !path.starts_with(&config.rootfs) {
                out.child("root", Op::HideMount { path: kernel_path(path, "root")? });
            }
        }
    }
    out.child("root", op);
    Ok(())
}

/// `linux.rootfsPropagation` of the root itself. Only now: a shared root could not be pivoted into,
/// and an unbindable one not be cloned. A private one is private since [`host_propagation`].
pub(super) fn propagation(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    match change(config)? {
        Some(change) if change & !propagation::RECURSIVE != propagation::PRIVATE => {
            out.child(PROPAGATION, Op::RootPropagation { change });
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn seal(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let readonly = config.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
    if readonly == Some(true) {
        out.child("root.readonly", Op::SealRoot);
    }
    Ok(())
}
