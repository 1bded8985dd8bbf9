//! Lists of processors and memory nodes, as `0-3,7`: their form in config.json, and the kernel's.

use crate::error::{Error, Result};

/// As many processors or nodes as a kernel is built for (`NR_CPUS` of x86_64 at its most).
const MOST: u32 = 8192;

/// The mask of a list for the kernel: bit n of little-endian 64-bit words, as many as are needed.
///
/// # Errors
/// It is no such list, named by `field`; white space around numbers is allowed, as the kernel does.
pub(super) fn mask(list: &str, field: &str) -> Result<Vec<u8>> {
    let mut words: Vec<u64> = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first, list, field)?, number(last, list, field)?),
            None => (number(part, list, field)?, number(part, list, field)?),
        };
        if first > last {
            let text = format!("{list:?}: the range {part} ends before it begins");
            return Err(Error::config(field.to_owned(), text));
        }
        for bit in first..=last {
            let (word, bit) = (usize::try_from(bit / 64).unwrap_or(0), bit % 64);
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << bit;
            }
        }
    }
    Ok(words.into_iter().flat_map(u64::to_le_bytes).collect())
}

fn number(text: &str, list: &str, field: &str) -> Result<u32> {
    let plain = text.trim();
    let known = if plain.bytes().all(|byte| byte.is_ascii_digit()) { plain } else { "" };
    match known.parse() {
        Ok(number) if number < MOST => Ok(number),
        Ok(_) => {
            let text = format!("{list:?}: {plain} is above {}", MOST - 1);
            Err(Error::config(field.to_owned(), text))
        }
        Err(_) => {
            let text = format!("{list:?} is not a list of numbers and ranges such as 0-3,7");
            Err(Error::config(field.to_owned(), text))
        }
    }
}

/// The list of a mask, for people.
pub(crate) fn text(mask: &[u8]) -> String {
    let is_set = |bit: usize| mask.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    let mut parts = Vec::new();
    let mut bit = 0;
    while bit < mask.len() * 8 {
        if !is_set(bit) {
            bit += 1;
            continue;
        }
        let first = bit;
        while is_set(bit + 1) {
            bit += 1;
        }
        parts.push(if first == bit { format!("{bit}") } else { format!("{first}-{bit}") });
        bit += 1;
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks_and_back() {
        for (list, bytes) in [
            ("0", vec![1, 0, 0, 0, 0, 0, 0, 0]),
            ("0-3,7", vec![0x8f, 0, 0, 0, 0, 0, 0, 0]),
            ("63,64", vec![0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(mask(list, "f").unwrap(), bytes, "{list}");
        }
        assert_eq!(text(&mask("7, 0-3,2-4", "f").unwrap()), "0-4,7");
        assert_eq!(text(&mask("8191", "f").unwrap()), "8191");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn what_is_no_list_is_refused_by_its_field() {
        for list in ["", "a", "1-", "-1", "3-1", "8192", "+1", "1,,2", "99999999999999999999"] {
            assert_eq!(mask(list, "f").unwrap_err().field(), Some("f"), "{list:?}");
        }
    }
}
