//! Standard output.

use std::io::{self, Write as _};

use crate::failure::{Failure, Outcome};

/// Writes a command's whole output at once.
pub(crate) fn text(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::io("write /dev/stdout", &error))?;
    Ok(0)
}

/// A value as JSON, each level indented by `indent`, without a newline at the end.
pub(crate) fn pretty_json(value: &impl serde::Serialize, indent: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Failure::new(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Failure::new(error.to_string()))
}
