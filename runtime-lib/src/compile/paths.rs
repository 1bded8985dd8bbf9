//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::collections::HashSet;
use std::path::Path;

use orlop_init::plan::Op;

use super::{Columns, Config, clean, kernel_path};
use crate::error::{Error, Result};
use crate::plan::Bytes;

pub(super) fn masked(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let list = config.linux.and_then(|linux| linux.masked_paths().as_deref());
    each(list, "linux.maskedPaths", |path| Op::MaskPath { path }, out)
}

pub(super) fn readonly(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let list = config.linux.and_then(|linux| linux.readonly_paths().as_deref());
    each(list, "linux.readonlyPaths", |path| Op::ReadonlyPath { path }, out)
}

/// One operation for each path; engines list some twice, and once is enough.
fn each(
    list: Option<&[String]>,
    field: &str,
    op: impl Fn(Bytes) -> Op<Bytes>,
    out: &mut Columns,
) -> Result<()> {
    let mut seen = HashSet::new();
    for (index, text) in list.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}[{index}]");
        if !text.starts_with('/') {
            return Err(Error::config(field, format!("{text:?} is not absolute")));
        }
        let path = clean(Path::new(text));
        if path == Path::new("/") {
            return Err(Error::config(field, "is the root of the container"));
        }
        let bytes = kernel_path(&path, &field)?;
        if seen.insert(path) {
            out.child(field, op(bytes));
        }
    }
    Ok(())
}
