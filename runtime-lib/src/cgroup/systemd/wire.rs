//! D-Bus's encoding of values (D-Bus specification, Type System), and decoding that trusts nothing.

use super::value::Value;

/// How deep containers may lie in each other: the specification's 32 arrays and 32 structs.
const DEPTH: usize = 64;

/// What is wrong with bytes from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Alignment of the type that begins with this code.
fn alignment(code: u8) -> Result<usize> {
    Ok(match code {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => return Err(Malformed("an unknown type")),
    })
}

/// Puts values one after the other, each aligned.
///
/// Alignment counts from the beginning of what is written, as that of a message's body does from
/// the beginning of the body: a body begins at a multiple of 8.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(signature.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(&value.signature());
        self.value(value);
    }

    /// An array of elements with this alignment, which `fill` writes.
    pub(super) fn array(&mut self, element: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_ends = self.bytes.len();
        self.align(element);
        let begin = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        let place = length_ends - 4..length_ends;
        if let Some(place) = self.bytes.get_mut(place) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.u32(u32::from(*value)),
            Value::Byte(value) => self.bytes.push(*value),
            Value::I16(value) => self.number(&value.to_ne_bytes()),
            Value::U16(value) => self.number(&value.to_ne_bytes()),
            Value::I32(value) => self.number(&value.to_ne_bytes()),
            Value::U32(value) => self.number(&value.to_ne_bytes()),
            Value::I64(value) => self.number(&value.to_ne_bytes()),
            Value::U64(value) | Value::Double(value) => self.number(&value.to_ne_bytes()),
            Value::Text(text) | Value::ObjectPath(text) => self.text(text),
            Value::Signature(signature) => self.signature(signature),
            Value::Array(element, all) => {
                let code = element.bytes().next().unwrap_or_default();
                self.array(alignment(code).unwrap_or(1), |writer| {
                    all.iter().for_each(|value| writer.value(value));
                });
            }
            Value::Tuple(members) => {
                self.align(8);
                members.iter().for_each(|member| self.value(member));
            }
            Value::Entry(entry) => {
                self.align(8);
                self.value(&entry.0);
                self.value(&entry.1);
            }
            Value::Variant(value) => self.variant(value),
        }
    }

    fn number(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }
}

/// Takes values off bytes that anybody may have written.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Padding must be zero.
    pub(super) fn align(&mut self, to: usize) -> Result<()> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Malformed("padding that is not zero"))
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed("a length beyond all memory"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("an end before its time"))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed("an end before its time"))?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.u32()?).map_err(|_| Malformed("a length beyond all memory"))
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let length = self.length()?;
        self.terminated(length)
    }

    pub(super) fn signature(&mut self) -> Result<&'a str> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str> {
        let bytes = self.take(length)?;
        if bytes.contains(&0) || self.byte()? != 0 {
            return Err(Malformed("a string with a NUL inside, or without one behind"));
        }
        std::str::from_utf8(bytes).map_err(|_| Malformed("a string that is not UTF-8"))
    }

    /// Passes over a value of the one complete type that `signature` begins with; gives the rest.
    pub(super) fn skip<'s>(&mut self, signature: &'s str, depth: usize) -> Result<&'s str> {
        let code = signature.bytes().next().ok_or(Malformed("an incomplete type"))?;
        let rest = signature.get(1..).ok_or(Malformed("an unknown type"))?;
        if depth > DEPTH {
            return Err(Malformed("a value nested too deep"));
        }
        self.align(alignment(code)?)?;
        match code {
            b'y' => _ = self.byte()?,
            b'n' | b'q' => _ = self.take(2)?,
            b'b' | b'i' | b'u' | b'h' => _ = self.take(4)?,
            b'x' | b't' | b'd' => _ = self.take(8)?,
            b's' | b'o' => _ = self.text()?,
            b'g' => _ = self.signature()?,
            b'v' => {
                let inner = self.signature()?;
                if !self.skip(inner, depth + 1)?.is_empty() {
                    return Err(Malformed("a variant of more than one type"));
                }
            }
            b'a' => return self.skip_array(rest),
            _ => return self.skip_members(rest, if code == b'(' { b')' } else { b'}' }, depth),
        }
        Ok(rest)
    }

    /// An array says how many bytes it has: what they are does not matter here.
    fn skip_array<'s>(&mut self, element: &'s str) -> Result<&'s str> {
        let length = self.length()?;
        self.align(alignment(element.bytes().next().unwrap_or_default())?)?;
        self.take(length)?;
        skip_type(element, 0)
    }

    fn skip_members<'s>(
        &mut self,
        mut signature: &'s str,
        end: u8,
        depth: usize,
    ) -> Result<&'s str> {
        loop {
            signature = self.skip(signature, depth + 1)?;
            if signature.bytes().next() == Some(end) {
                return signature.get(1..).ok_or(Malformed("an incomplete type"));
            }
        }
    }
}

/// The one complete type that `signature` begins with, and the rest.
pub(crate) fn split_type(signature: &str) -> Option<(&str, &str)> {
    let rest = skip_type(signature, 0).ok()?;
    signature.split_at_checked(signature.len() - rest.len())
}

fn skip_type(signature: &str, depth: usize) -> Result<&str> {
    let code = signature.bytes().next().ok_or(Malformed("an incomplete type"))?;
    let mut rest = signature.get(1..).ok_or(Malformed("an unknown type"))?;
    if depth > DEPTH {
        return Err(Malformed("a type nested too deep"));
    }
    let end = match code {
        b'a' => return skip_type(rest, depth + 1),
        b'(' => b')',
        b'{' => b'}',
        _ => return alignment(code).map(|_| rest),
    };
    loop {
        rest = skip_type(rest, depth + 1)?;
        if rest.bytes().next() == Some(end) {
            return rest.get(1..).ok_or(Malformed("an incomplete type"));
        }
    }
}
