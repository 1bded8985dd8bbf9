//! The plan as the init reads it: strings borrowed from its map.

use core::ffi::{CStr, FromBytesWithNulError};
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The bytes of a string, list or blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Str<'a>(pub &'a [u8]);

impl<'a> Str<'a> {
    /// The string for the kernel.
    ///
    /// # Errors
    /// It has no NUL at its end, or one before.
    pub fn c_str(self) -> Result<&'a CStr, FromBytesWithNulError> {
        CStr::from_bytes_with_nul(self.0)
    }

    /// The strings of a list.
    #[must_use]
    pub fn list(self) -> List<'a> {
        List(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = &'de [u8];
            fn expecting(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Ok(())
            }
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_bytes(Borrow).map(Str)
    }
}

/// The strings of a list, in order.
#[derive(Debug, Clone)]
pub struct List<'a>(&'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        let item = CStr::from_bytes_until_nul(self.0).ok()?;
        self.0 = self.0.get(item.count_bytes() + 1..)?;
        Some(item)
    }
}
