//! A bundle: a directory with config.json and a root filesystem (runtime-spec, bundle.md).

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::error::{Error, Result};

/// A bundle and its configuration.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) spec: Spec,
}

impl Bundle {
    /// Reads `config.json` of a bundle's directory.
    ///
    /// # Errors
    /// The file is missing or malformed, naming the field.
    pub fn load(_directory: impl AsRef<Path>) -> Result<Self> {
        Err(Error::bug("not built"))
    }

    /// A bundle whose configuration the caller made; relative paths in it are relative to `directory` (absolute).
    #[must_use]
    pub fn from_spec(directory: impl Into<PathBuf>, spec: Spec) -> Self {
        Self { directory: directory.into(), spec }
    }

    /// Its configuration.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
