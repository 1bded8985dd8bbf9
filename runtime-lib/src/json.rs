//! A typed reading of a JSON value that says which member of it is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a value; an error is the path of the member that is wrong (`process.user.uid`, empty for the whole) with what
/// is wrong.
///
/// The value is written down and read once more, as serde_json knows where in a text it fails: so there is one parser
/// of `T` in the program rather than a second for values.
pub(crate) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, (String, String)> {
    let text = value.to_string();
    serde_json::from_str(&text).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        // In one line a column is the count of bytes that were read.
        (path_at(value, error.column()), message.to_owned())
    })
}

/// The path of the innermost value around a position in the compact text of `value`.
fn path_at(value: &Value, position: usize) -> String {
    let mut path = String::new();
    descend(value, 0, position, &mut path);
    path
}

/// Looks for `position` in a value whose text begins at `start`; its end.
fn descend(value: &Value, start: usize, position: usize, path: &mut String) -> usize {
    let own = path.len();
    let mut at = start + 1;
    let visit = |name: &str, value: &Value, at: usize, path: &mut String| {
        path.push_str(name);
        let end = descend(value, at, position, path);
        let inside = (at..=end).contains(&position);
        if !inside {
            path.truncate(own);
        }
        (end, inside)
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let dot = if own == 0 { "" } else { "." };
                let quoted = length(&Value::from(key.as_str()));
                let (end, inside) = visit(&format!("{dot}{key}"), value, at + quoted + 1, path);
                if inside {
                    return end;
                }
                at = end + 1;
            }
            at.max(start + 2)
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let (end, inside) = visit(&format!("[{index}]"), value, at, path);
                if inside {
                    return end;
                }
                at = end + 1;
            }
            at.max(start + 2)
        }
        leaf => start + length(leaf),
    }
}

/// Bytes of a leaf's text.
fn length(leaf: &Value) -> usize {
    leaf.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_belongs_to_the_innermost_value() {
        let value: Value = serde_json::from_str(r#"{"a":[1,{"b\"":"x"}],"c":{},"d":[]}"#).unwrap();
        let text = value.to_string();
        let at = |part: &str| text.find(part).unwrap();
        for (position, path) in [
            (0, ""),
            (at("[1"), "a"),
            (at("1"), "a[0]"),
            (at("1") + 1, "a[0]"),
            (at("{\"b"), "a[1]"),
            (at("\"x") + 3, "a[1].b\""),
            (at("\"x") + 4, "a[1]"),
            (at("\"x") + 5, "a"),
            (at("{}"), "c"),
            (at("{}") + 2, "c"),
            (at("[]") + 1, "d"),
            (text.len(), ""),
        ] {
            assert_eq!(path_at(&value, position), path, "{position} of {text}");
        }
    }

    #[test]
    fn the_wrong_member_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            number: u8,
        }
        let read = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            let (path, message) =
                from_value::<std::collections::BTreeMap<String, Vec<Inner>>>(&value).unwrap_err();
            format!("{path}: {message}")
        };
        let text = read(r#"{"x":[{"number":1},{"number":"2"}]}"#);
        assert_eq!(text, "x[1].number: invalid type: string \"2\", expected u8");
        let text = read(r#"{"x":[{"number":300}]}"#);
        assert_eq!(text, "x[0].number: invalid value: integer `300`, expected u8");
        assert_eq!(read(r#"{"x":[{}]}"#), "x[0]: missing field `number`");
        assert_eq!(read(r#"{"x":{}}"#), "x: invalid type: map, expected a sequence");
        assert_eq!(
            read(r#"{"x":[{"number":[]}]}"#),
            "x[0].number: invalid type: sequence, expected u8"
        );
        assert_eq!(read("[]"), ": invalid type: sequence, expected a map");
    }
}
