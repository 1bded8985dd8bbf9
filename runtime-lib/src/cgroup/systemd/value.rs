//! The values that properties of units have: D-Bus types, with their signatures and their text.

use std::fmt;

/// A value of a D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`: the bits of an f64.
    Double(u64),
    /// `s`; without NUL.
    Text(String),
    /// `o`; without NUL.
    ObjectPath(String),
    /// `g`; at most 255 bytes.
    Signature(String),
    /// `a`: the signature of an element, and the elements, all of that signature.
    Array(String, Vec<Value>),
    /// `(...)`
    Tuple(Vec<Value>),
    /// `{..}`: only in arrays.
    Entry(Box<(Value, Value)>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of strings.
    pub(crate) fn texts(list: &[&str]) -> Self {
        Self::Array("s".to_owned(), list.iter().map(|text| Self::text(*text)).collect())
    }

    /// A list of bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".to_owned(), bytes.iter().map(|byte| Self::Byte(*byte)).collect())
    }

    /// The signature of its type.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Array(element, _) => format!("a{element}"),
            Self::Tuple(members) => {
                let members: String = members.iter().map(Self::signature).collect();
                format!("({members})")
            }
            Self::Entry(entry) => format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
            simple => simple.code().to_owned(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Byte(_) => "y",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::ObjectPath(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(..) => "a",
            Self::Tuple(_) => "(",
            Self::Entry(_) => "{",
        }
    }
}

/// As the text format of `GVariant` has it, with the types of numbers.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Value]| {
            for (index, value) in all.iter().enumerate() {
                write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
            }
            Ok(())
        };
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Byte(value) => write!(f, "byte {value}"),
            Self::I16(value) => write!(f, "int16 {value}"),
            Self::U16(value) => write!(f, "uint16 {value}"),
            Self::I32(value) => write!(f, "{value}"),
            Self::U32(value) => write!(f, "uint32 {value}"),
            Self::I64(value) => write!(f, "int64 {value}"),
            Self::U64(value) => write!(f, "uint64 {value}"),
            Self::Double(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::ObjectPath(path) => write!(f, "objectpath {path:?}"),
            Self::Signature(signature) => write!(f, "signature {signature:?}"),
            Self::Array(element, all) if all.is_empty() => write!(f, "@a{element} []"),
            Self::Array(_, all) => {
                f.write_str("[")?;
                list(f, all)?;
                f.write_str("]")
            }
            Self::Tuple(all) => {
                f.write_str("(")?;
                list(f, all)?;
                f.write_str(if all.len() == 1 { ",)" } else { ")" })
            }
            Self::Entry(entry) => write!(f, "{{{}: {}}}", entry.0, entry.1),
            Self::Variant(value) => write!(f, "<{value}>"),
        }
    }
}
