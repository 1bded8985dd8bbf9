//! Other inputs from one that is there: of its bytes, and of the tree where it is JSON, which mutated bytes rarely are.

#![allow(clippy::indexing_slicing, reason = "compiled for tests and fuzzers only")]

use serde_json::{Value, json};

/// xorshift64: the same numbers in every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that a seed begins.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The one state that it would never leave.
        Self(seed.max(1))
    }

    /// A number below another.
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let below = u64::try_from(below.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.0 % below).unwrap_or(0)
    }

    /// Changes some bytes.
    pub fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len());
            let byte = [0, 1, 0x7f, 0x80, 0xff, b'/', b'.', b'"', b'-', b'9'][self.next(10)];
            match self.next(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.next(8),
                1 if !bytes.is_empty() => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                3 if !bytes.is_empty() => {
                    drop(bytes.drain(at..bytes.len().min(at + 1 + self.next(8))))
                }
                _ => bytes.extend_from_within(at..bytes.len().min(at + self.next(32))),
            }
        }
    }

    /// Changes some values of JSON; `None` where it is none.
    pub fn json(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut tree = serde_json::from_slice(bytes).ok()?;
        for _ in 0..=self.next(3) {
            self.tree(&mut tree);
        }
        serde_json::to_vec(&tree).ok()
    }

    /// Some value in the tree.
    fn node<'v>(&mut self, value: &'v mut Value) -> &'v mut Value {
        let children = match value {
            Value::Object(map) => map.len(),
            Value::Array(list) => list.len(),
            _ => 0,
        };
        if children == 0 || self.next(6) == 0 {
            return value;
        }
        let at = self.next(children);
        match value {
            Value::Object(map) => match map.values_mut().nth(at) {
                Some(child) => self.node(child),
                None => unreachable!("there are {children}"),
            },
            Value::Array(list) => self.node(&mut list[at]),
            _ => value,
        }
    }

    fn tree(&mut self, root: &mut Value) {
        let other = self.node(&mut root.clone()).clone();
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(4_294_967_296_u64),
            json!(1e300),
            json!(""),
            json!("/"),
            json!("."),
            json!("../.."),
            json!("a\0b"),
            json!("\u{1f980}"),
            json!("a".repeat(5000)),
            json!([]),
            json!({}),
            json!("18446744073709551616"),
            json!("-1"),
            json!("%s\n"),
            json!(["", "/", "x=y"]),
        ];
        let replacement = match self.next(3) {
            0 => other,
            _ => values[self.next(values.len())].clone(),
        };
        let place = self.node(root);
        match (place, self.next(4)) {
            (Value::Array(list), 0) => {
                let copies = list.clone();
                list.extend(copies);
            }
            (Value::Array(list), 1) => list.push(replacement),
            (Value::Object(map), 0) => drop(map.pop()),
            (place, _) => *place = replacement,
        }
    }
}

trait Pop {
    fn pop(&mut self) -> Option<(String, Value)>;
}

impl Pop for serde_json::Map<String, Value> {
    fn pop(&mut self) -> Option<(String, Value)> {
        let key = self.keys().next_back()?.clone();
        self.remove_entry(&key)
    }
}

/// For libFuzzer: changes JSON of `size` bytes in place, to at most `most` bytes, and gives its size. `None` where it
/// is to be done byte by byte: it is no JSON, it would be too long, or it is the turn of that.
#[must_use]
pub fn json(bytes: &mut [u8], size: usize, most: usize, seed: u32) -> Option<usize> {
    let mut random = Random::new(u64::from(seed) + 1);
    // What xorshift begins with is hardly different for neighbouring seeds.
    for _ in 0..8 {
        let _: usize = random.next(2);
    }
    if random.next(3) == 0 {
        return None;
    }
    let changed = random.json(bytes.get(..size)?)?;
    if changed.len() > most {
        return None;
    }
    bytes.get_mut(..changed.len())?.copy_from_slice(&changed);
    Some(changed.len())
}
