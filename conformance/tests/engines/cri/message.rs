//! Protocol buffers between their wire form and their text form, as far as the CRI needs: no options, no oneof, no maps
//! in requests. protoc(1) does the same, but under emulation it takes longer than what is called.

use std::collections::HashMap;

/// The messages and enumerations of a description.
#[derive(Debug, Default)]
pub(super) struct Types {
    messages: HashMap<String, Vec<Field>>,
    enums: HashMap<String, Vec<(String, u64)>>,
}

#[derive(Debug)]
struct Field {
    kind: String,
    name: String,
    number: u64,
}

/// A part of the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'t> {
    Name(&'t str),
    Text(&'t str),
    Open,
    Close,
}

/// Wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const SIZED: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Types {
    /// Reads a description that has one declaration to a line, none within another.
    pub(super) fn parse(description: &str) -> Self {
        let mut types = Self::default();
        let mut current = String::new();
        for line in description.lines() {
            let line = line.split("//").next().unwrap_or_default();
            let words = line.split([' ', '{', '}', ';', '=', '[']).filter(|word| !word.is_empty());
            match words.collect::<Vec<_>>()[..] {
                ["message", name, ..] => {
                    current = name.to_owned();
                    let _empty = types.messages.entry(current.clone()).or_default();
                }
                ["enum", name, ..] => current = name.to_owned(),
                ["repeated", kind, name, number, ..] | [kind, name, number, ..] => {
                    let Ok(number) = number.parse() else { continue };
                    let field = Field { kind: kind.to_owned(), name: name.to_owned(), number };
                    types.messages.entry(current.clone()).or_default().push(field);
                }
                [name, number] => {
                    let Ok(number) = number.parse() else { continue };
                    types.enums.entry(current.clone()).or_default().push((name.to_owned(), number));
                }
                _ => {}
            }
        }
        types
    }

    /// A message's wire form.
    #[track_caller]
    pub(super) fn encode(&self, kind: &str, text: &str) -> Vec<u8> {
        self.encode_fields(kind, &mut words(text).into_iter())
    }

    #[track_caller]
    fn encode_fields<'t>(&self, kind: &str, words: &mut impl Iterator<Item = Word<'t>>) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(Word::Name(name)) = words.next() {
            let field = self.messages[kind].iter().find(|field| field.name == name);
            let field = field.unwrap_or_else(|| panic!("{kind} has no {name}"));
            let sized = match words.next() {
                Some(Word::Open) => self.encode_fields(&field.kind, words),
                Some(Word::Text(text)) => text.as_bytes().to_vec(),
                Some(Word::Name(value)) => {
                    push(&mut out, field.number << 3 | VARINT);
                    push(&mut out, self.number(&field.kind, value));
                    continue;
                }
                other => panic!("{other:?} after {name}"),
            };
            push(&mut out, field.number << 3 | SIZED);
            push(&mut out, sized.len() as u64);
            out.extend(sized);
        }
        out
    }

    #[track_caller]
    fn number(&self, kind: &str, value: &str) -> u64 {
        let known = self.enums.get(kind).and_then(|all| all.iter().find(|(name, _)| name == value));
        match (known, value) {
            (Some((_, number)), _) => *number,
            (None, "true") => 1,
            (None, _) => value.parse().unwrap_or_else(|e| panic!("{value}: {e}")),
        }
    }

    /// A message's text form: a line for each field, with zeros left out as they are on the wire.
    #[track_caller]
    pub(super) fn decode(&self, kind: &str, mut wire: &[u8]) -> String {
        let mut out = String::new();
        while !wire.is_empty() {
            let key = pop(&mut wire);
            let field = self.messages[kind].iter().find(|field| field.number == key >> 3);
            let Some(Field { kind, name, .. }) = field else {
                let _ = take(&mut wire, key & 7);
                continue;
            };
            match key & 7 {
                VARINT => {
                    let number = pop(&mut wire);
                    let known = self.enums.get(kind);
                    let known = known.and_then(|all| all.iter().find(|(_, n)| *n == number));
                    let value = known.map_or_else(|| number.to_string(), |(name, _)| name.clone());
                    out += &format!("{name}: {value}\n");
                }
                SIZED if self.messages.contains_key(kind) => {
                    let inner = self.decode(kind, take(&mut wire, SIZED));
                    out += &format!("{name} {{\n{inner}}}\n");
                }
                how => {
                    let text = String::from_utf8_lossy(take(&mut wire, how)).into_owned();
                    out += &format!("{name}: \"{}\"\n", text.escape_default());
                }
            }
        }
        out
    }
}

#[track_caller]
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let length = rest[1..].find('"').expect("the text's end");
                assert!(!rest[..length].contains('\\'), "escapes: {rest}");
                words.push(Word::Text(&rest[1..=length]));
                length + 2
            }
            '{' | '}' => {
                words.push(if first == '{' { Word::Open } else { Word::Close });
                1
            }
            _ => {
                let end = |c: char| c.is_whitespace() || [':', '{', '}'].contains(&c);
                let length = rest.find(end).unwrap_or(rest.len());
                words.push(Word::Name(&rest[..length]));
                length
            }
        };
        rest = rest[length..].trim_start_matches(|c: char| c.is_whitespace() || c == ':');
    }
    words
}

/// Appends a number of variable length.
fn push(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(u8::try_from(number & 127).unwrap() | 128);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

#[track_caller]
fn pop(wire: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = wire.split_first().expect("more of a number");
        *wire = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            break;
        }
    }
    number
}

/// Takes what a wire type says that a value has.
#[track_caller]
fn take<'w>(wire: &mut &'w [u8], how: u64) -> &'w [u8] {
    let before = *wire;
    let length = match how {
        VARINT => {
            let _ = pop(wire);
            return &before[..before.len() - wire.len()];
        }
        EIGHT_BYTES => 8,
        SIZED => usize::try_from(pop(wire)).unwrap(),
        FOUR_BYTES => 4,
        other => panic!("wire type {other}"),
    };
    let (value, rest) = wire.split_at(length);
    *wire = rest;
    value
}

#[test]
fn messages_are_written_and_read() {
    let types = Types::parse(
        "message Pod {\n    // The name = 9;\n    string name = 1;\n    State state = 16; // as seen\n    repeated Pod pods = 3;\n\
         \x20   map<string, string> info = 4;\n    bool on = 5 [deprecated=true];\n}\nenum State {\n    A = 0;\n    GONE = 300;\n}\n\
         message None {}\n",
    );
    let text = "name: \"a: {b}\" pods { name:\"x\" on: true } pods{} state: GONE";
    let wire = types.encode("Pod", text);
    let want = b"\x0a\x06a: {b}\x1a\x05\x0a\x01x\x28\x01\x1a\x00\x80\x01\xac\x02";
    assert_eq!(wire, want);
    // Fields that it does not know, of every type, are passed over.
    let more = b"\x92\x01\x01x\x98\x01\x80\x01\xa5\x01abcd\xa9\x01abcdefgh\x0a\x02'\n";
    let wire = [&wire[..], more].concat();
    let want = "name: \"a: {b}\"\npods {\nname: \"x\"\non: 1\n}\npods {\n}\nstate: GONE\nname: \"\\'\\n\"\n";
    assert_eq!(types.decode("Pod", &wire), want);
    assert_eq!(types.decode("None", more), "");
}
