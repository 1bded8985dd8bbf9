//! The text format of `GVariant`, in which annotations give properties of units.
//!
//! Numbers, booleans, strings, arrays, tuples, dictionaries and variants, with or without their
//! types; what has none is an int32, a double or a string.
//! Source: <https://docs.gtk.org/glib/gvariant-text-format.html>.

use std::iter::Peekable;
use std::str::Chars;

use crate::cgroup::systemd::{Value, split_type};

/// How deep containers may lie in each other.
const DEPTH: usize = 32;

/// Reads a value.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text.chars().peekable() };
    let node = parser.node(0)?;
    parser.blanks();
    match parser.rest.next() {
        None => node.typed(None),
        Some(c) => Err(format!("unexpected {c:?} behind the value")),
    }
}

/// A value whose type may not be known yet.
#[derive(Debug, Clone)]
enum Node {
    Bool(bool),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Variant(Box<Node>),
    Array(Vec<Node>),
    Tuple(Vec<Node>),
    Dictionary(Vec<(Node, Node)>),
    /// Of this signature.
    Typed(String, Box<Node>),
}

impl Node {
    /// The value, of the type with this signature where one is wanted.
    fn typed(&self, wanted: Option<&str>) -> Result<Value, String> {
        let value = match self {
            Self::Typed(signature, node) => node.typed(Some(signature))?,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => number(text, wanted)?,
            Self::Text(text) => match wanted {
                Some("o") => Value::ObjectPath(text.clone()),
                Some("g") => Value::Signature(text.clone()),
                _ => Value::Text(text.clone()),
            },
            Self::Bytes(bytes) => {
                Value::bytes(&bytes.iter().copied().chain([0]).collect::<Vec<_>>())
            }
            Self::Variant(node) => Value::Variant(Box::new(node.typed(None)?)),
            Self::Array(nodes) => {
                let element = wanted.and_then(|wanted| wanted.strip_prefix('a'));
                let element = element.map_or_else(|| element_type(nodes), |e| Ok(e.to_owned()))?;
                let all = nodes.iter().map(|node| node.typed(Some(&element)));
                Value::Array(element.clone(), all.collect::<Result<_, _>>()?)
            }
            Self::Tuple(nodes) => tuple(nodes, wanted)?,
            Self::Dictionary(entries) => dictionary(entries, wanted)?,
        };
        match wanted {
            Some(wanted) if value.signature() != wanted => {
                Err(format!("{value} is of type {}, not {wanted}", value.signature()))
            }
            _ => Ok(value),
        }
    }
}

/// The type of elements: that of the first that names one, or else of the first.
fn element_type(nodes: &[Node]) -> Result<String, String> {
    let explicit = nodes.iter().find(|node| matches!(node, Node::Typed(..)));
    let node = explicit.or(nodes.first());
    let node = node.ok_or("an empty array needs a type, as @as []")?;
    Ok(node.typed(None)?.signature())
}

fn tuple(nodes: &[Node], wanted: Option<&str>) -> Result<Value, String> {
    let mut types = wanted.and_then(|wanted| wanted.strip_prefix('(')?.strip_suffix(')'));
    let mut members = Vec::new();
    for node in nodes {
        let member = types.and_then(split_type);
        members.push(node.typed(member.map(|(first, _)| first))?);
        types = member.map(|(_, rest)| rest);
    }
    Ok(Value::Tuple(members))
}

fn dictionary(entries: &[(Node, Node)], wanted: Option<&str>) -> Result<Value, String> {
    let inner = wanted.and_then(|wanted| wanted.strip_prefix("a{")?.strip_suffix('}'));
    let types = match (inner.and_then(|inner| inner.split_at_checked(1)), entries.first()) {
        (Some((key, value)), _) => (key.to_owned(), value.to_owned()),
        (None, Some((key, value))) => {
            (key.typed(None)?.signature(), value.typed(None)?.signature())
        }
        (None, None) => return Err("an empty dictionary needs a type, as @a{ss} {}".to_owned()),
    };
    let entry = |(key, value): &(Node, Node)| {
        let pair = (key.typed(Some(&types.0))?, value.typed(Some(&types.1))?);
        Ok::<_, String>(Value::Entry(Box::new(pair)))
    };
    let all = entries.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Value::Array(format!("{{{}{}}}", types.0, types.1), all))
}

fn number(text: &str, wanted: Option<&str>) -> Result<Value, String> {
    let out_of_range = || format!("{text} does not fit its type");
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let is_real = hex.is_none() && text.contains(['.', 'e', 'E']);
    if wanted == Some("d") || wanted.is_none() && is_real {
        let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        return Ok(Value::Double(value.to_bits()));
    }
    let value = match hex {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.map_err(|_| format!("{text:?} is no number"))?;
    let value = match wanted {
        Some("y") => Value::Byte(value.try_into().map_err(|_| out_of_range())?),
        Some("n") => Value::I16(value.try_into().map_err(|_| out_of_range())?),
        Some("q") => Value::U16(value.try_into().map_err(|_| out_of_range())?),
        Some("u") => Value::U32(value.try_into().map_err(|_| out_of_range())?),
        Some("x") => Value::I64(value.try_into().map_err(|_| out_of_range())?),
        Some("t") => Value::U64(value.try_into().map_err(|_| out_of_range())?),
        _ => Value::I32(value.try_into().map_err(|_| out_of_range())?),
    };
    Ok(value)
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
    }

    /// The next character behind blanks, if it is this one.
    fn accept(&mut self, c: char) -> bool {
        self.blanks();
        self.rest.next_if_eq(&c).is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.accept(c) {
            return Ok(());
        }
        match self.rest.peek() {
            Some(other) => Err(format!("unexpected {other:?} where {c:?} should be")),
            None => Err(format!("{c:?} is missing at the end")),
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH {
            return Err("nested too deep".to_owned());
        }
        self.blanks();
        match self.rest.peek().copied() {
            None => Err("a value is missing".to_owned()),
            Some(quote @ ('\'' | '"')) => {
                self.rest.next();
                self.text(quote).map(Node::Text)
            }
            Some('[') => {
                self.rest.next();
                self.list(']', depth).map(Node::Array)
            }
            Some('(') => {
                self.rest.next();
                self.list(')', depth).map(Node::Tuple)
            }
            Some('{') => {
                self.rest.next();
                self.dictionary(depth)
            }
            Some('<') => {
                self.rest.next();
                let node = self.node(depth + 1)?;
                self.expect('>')?;
                Ok(Node::Variant(Box::new(node)))
            }
            Some('@') => {
                self.rest.next();
                let signature = self.signature()?;
                Ok(Node::Typed(signature, Box::new(self.node(depth + 1)?)))
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => {
                Ok(Node::Number(self.word()))
            }
            Some(_) => self.keyword(depth),
        }
    }

    fn keyword(&mut self, depth: usize) -> Result<Node, String> {
        let word = self.word();
        let signature = match word.as_str() {
            "true" | "false" => return Ok(Node::Bool(word == "true")),
            "b" => return self.byte_string(),
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            "" => {
                let c = self.rest.next().unwrap_or_default();
                return Err(format!("unexpected {c:?}"));
            }
            other => return Err(format!("unknown word {other:?}")),
        };
        Ok(Node::Typed(signature.to_owned(), Box::new(self.node(depth + 1)?)))
    }

    /// A number or a word.
    fn word(&mut self) -> String {
        let is_part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        std::iter::from_fn(|| self.rest.next_if(is_part)).collect()
    }

    fn signature(&mut self) -> Result<String, String> {
        let is_part = |c: &char| c.is_ascii_alphabetic() || matches!(c, '(' | ')' | '{' | '}');
        let signature: String = std::iter::from_fn(|| self.rest.next_if(is_part)).collect();
        match split_type(&signature) {
            Some((_, "")) if signature.len() <= 255 => Ok(signature),
            _ => Err(format!("{signature:?} is no type")),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Vec<Node>, String> {
        let mut all = Vec::new();
        while !self.accept(end) {
            all.push(self.node(depth + 1)?);
            if !self.accept(',') {
                self.expect(end)?;
                break;
            }
        }
        Ok(all)
    }

    fn dictionary(&mut self, depth: usize) -> Result<Node, String> {
        let mut entries = Vec::new();
        while !self.accept('}') {
            let key = self.node(depth + 1)?;
            self.expect(':')?;
            entries.push((key, self.node(depth + 1)?));
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(Node::Dictionary(entries))
    }

    /// A string up to its closing quote.
    fn text(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None => return Err("a string without an end".to_owned()),
                Some(c) if c == quote => break,
                Some('\\') => text.extend(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
        if text.contains('\0') { Err("a string with a NUL".to_owned()) } else { Ok(text) }
    }

    fn escaped(&mut self) -> Result<Option<char>, String> {
        let c = self.rest.next().ok_or("a string without an end")?;
        Ok(Some(match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\n' => return Ok(None),
            'u' | 'U' => {
                let count = if c == 'u' { 4 } else { 8 };
                let digits: String = self.rest.by_ref().take(count).collect();
                let number = u32::from_str_radix(&digits, 16).ok();
                let number = number.filter(|_| digits.len() == count);
                let known = number.and_then(char::from_u32);
                known.ok_or_else(|| format!("\\{c}{digits} is no character"))?
            }
            other => other,
        }))
    }

    /// `b'...'`: bytes, with a NUL behind, that may be given in octal.
    fn byte_string(&mut self) -> Result<Node, String> {
        let quote = self.rest.next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or("b without a string")?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4];
        loop {
            match self.rest.next() {
                None => return Err("a string without an end".to_owned()),
                Some(c) if c == quote => return Ok(Node::Bytes(bytes)),
                Some('\\') if self.rest.peek().is_some_and(|c| c.is_digit(8)) => {
                    let mut value = 0u32;
                    for _ in 0..3 {
                        let Some(digit) = self.rest.next_if(|c| c.is_digit(8)) else { break };
                        value = value * 8 + digit.to_digit(8).unwrap_or_default();
                    }
                    bytes.push(u8::try_from(value).map_err(|_| "a byte beyond \\377")?);
                }
                Some('\\') => {
                    let c = self.escaped()?;
                    if let Some(c) = c {
                        bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                    }
                }
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind_are_read() {
        for (text, signature, shown) in [
            ("true", "b", "true"),
            ("7", "i", "7"),
            (" -7 ", "i", "-7"),
            ("0x1F", "i", "31"),
            ("uint64 18446744073709551615", "t", "uint64 18446744073709551615"),
            ("@t 5", "t", "uint64 5"),
            ("byte 255", "y", "byte 255"),
            ("2.5", "d", "2.5"),
            ("double 2", "d", "2.0"),
            ("'it''", "", ""),
            (r"'it\'s \u00e9'", "s", "\"it's é\""),
            ("\"a\"", "s", "\"a\""),
            ("objectpath '/a'", "o", "objectpath \"/a\""),
            ("['a', 'b',]", "as", "[\"a\", \"b\"]"),
            ("[uint32 1, 2]", "au", "[uint32 1, uint32 2]"),
            ("[1, int64 2]", "ax", "[int64 1, int64 2]"),
            ("@as []", "as", "@as []"),
            ("[('/dev/fuse', 'rw')]", "a(ss)", "[(\"/dev/fuse\", \"rw\")]"),
            ("@a(st) [('x', 1)]", "a(st)", "[(\"x\", uint64 1)]"),
            ("(1,)", "(i)", "(1,)"),
            ("{'a': <1>}", "a{sv}", "[{\"a\": <1>}]"),
            ("@a{sy} {}", "a{sy}", "@a{sy} []"),
            (r"b'\1a'", "ay", "[byte 1, byte 97, byte 0]"),
            ("<'x'>", "v", "<\"x\">"),
        ] {
            match parse(text) {
                Ok(value) => {
                    assert_eq!(
                        (value.signature().as_str(), value.to_string().as_str()),
                        (signature, shown)
                    );
                }
                Err(_) => assert_eq!(signature, "", "{text}"),
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            " ",
            "x",
            "true false",
            "[",
            "[]",
            "{}",
            "[1, 'a']",
            "['a' 'b']",
            "2147483648",
            "byte 256",
            "uint32 -1",
            "uint64 1.5",
            "int32 'a'",
            "'a",
            "\"a'",
            r"'\u12'",
            "@ 1",
            "@ss 'a'",
            "@q",
            "(1",
            "(1 2)",
            "<1",
            "{1: 2",
            "{1 2}",
            "b1",
            "@(ss) ('a', 1)",
            "@(ss) ('a',)",
            "0x",
            "--1",
            "1-1",
            r"'\u0000'",
            "é",
            "@é",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"<".repeat(100_000)).is_err());
        assert!(parse(&format!("@{} 1", "a".repeat(100_000))).is_err());
    }
}
