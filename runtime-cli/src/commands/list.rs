//! `list`: all containers below the state directory.

use std::fmt::Write as _;
use std::fs;

use orlop::Container;

use super::state::Shown;
use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::output;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "list",
    about: "list the containers of the given root",
    operands: "",
    count: (0, 0),
    flags: &[
        Flag::value("format", "\"table\" or \"json\" (default: \"table\")").short("f"),
        Flag::switch("quiet", "show only ids").short("q"),
    ],
    options: Options::Everywhere,
};

/// The narrowest column, and the least space between two.
const NARROWEST: usize = 12;
const SPACE: usize = 3;

pub(super) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let containers = containers(context)?;
    if parsed.is_on("quiet") {
        let ids: String = containers.iter().map(|shown| format!("{}\n", shown.id)).collect();
        return output::text(&ids);
    }
    match parsed.value("format").map(|format| format.to_str().unwrap_or_default()) {
        None | Some("table") => output::text(&table(&containers)),
        Some("json") => output::text(&json(&containers)?),
        Some(_) => Err(Failure::new("invalid format option")),
    }
}

fn containers(context: &Context<'_>) -> Result<Vec<Shown>, Failure> {
    let root = &context.root;
    if let Err(error) = fs::symlink_metadata(root) {
        // Nothing was ever created below the default one.
        if error.kind() == std::io::ErrorKind::NotFound && !context.root_given {
            return Ok(Vec::new());
        }
        return Err(Failure::io(format!("open {}", root.display()), &error));
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut shown = Vec::new();
    for id in Container::list(root)? {
        match Container::load(root, &id).and_then(|container| container.state()) {
            Ok(state) => {
                let owner = user_name(&users, state.owner);
                shown.push(Shown::new(state, owner));
            }
            // A container that goes away meanwhile must not hide the others.
            Err(error) => eprintln!("load container {id}: {error}"),
        }
    }
    Ok(shown)
}

/// The name of a user, or `#` and the uid.
fn user_name(passwd: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

fn json(containers: &[Shown]) -> Result<String, Failure> {
    if containers.is_empty() {
        return Ok("null\n".to_owned());
    }
    let text = serde_json::to_string(containers).map_err(|e| Failure::new(e.to_string()))?;
    Ok(text + "\n")
}

fn table(containers: &[Shown]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|shown| {
        let Shown { id, pid, status, bundle, created, owner, .. } = shown;
        [
            id.clone(),
            pid.to_string(),
            (*status).to_owned(),
            bundle.clone(),
            created.clone(),
            owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let mut widths = [NARROWEST; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + SPACE);
        }
    }
    // Nothing follows the last column, so it needs no width.
    widths[5] = 0;
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            let _: std::fmt::Result = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_three() {
        let mut long = Shown::example();
        long.id = "a-rather-long-id".to_owned();
        long.owner = "root".to_owned();
        assert_eq!(
            table(&[long, Shown::example()]),
            "ID                 PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-rather-long-id   42          running     /b          2026-11-21T23:25:03.5Z   root\n\
             c1                 42          running     /b          2026-11-21T23:25:03.5Z   \n"
        );
    }

    #[test]
    fn json_is_one_line_and_null_when_empty() {
        assert_eq!(json(&[]).unwrap(), "null\n");
        let text = json(&[Shown::example()]).unwrap();
        assert!(text.starts_with("[{\"ociVersion\":\"1.3.0\",\"id\":\"c1\",\"pid\":42,"), "{text}");
        assert!(text.ends_with("\"owner\":\"\"}]\n"), "{text}");
    }

    #[test]
    fn owners_have_names_where_passwd_knows_them() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), "me");
        assert_eq!(user_name(passwd, 7), "#7");
    }
}
