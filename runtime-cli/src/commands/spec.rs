//! `spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

use rustix::process::{getegid, geteuid};

use crate::args::{Flag, Grammar, Options, Parsed};
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "spec",
    about: "write a config.json to begin with",
    operands: "",
    count: (0, 0),
    flags: &[
        Flag::value("bundle", "the directory to write to (default: the current one)").short("b"),
        Flag::switch("rootless", "for a caller who is not root"),
    ],
    options: Options::Everywhere,
};

const ROOTED: &str = include_str!("spec/config.json");
const ROOTLESS: &str = include_str!("spec/rootless.json");

pub(super) fn run(_context: &Context<'_>, parsed: &Parsed) -> Outcome {
    launch::enter(parsed)?;
    let text = if parsed.is_on("rootless") {
        rootless(geteuid().as_raw(), getegid().as_raw())
    } else {
        ROOTED.trim_end().to_owned()
    };
    let created = OpenOptions::new().write(true).create_new(true).open("config.json");
    let mut file = created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new("File config.json exists. Remove it first"),
        _ => Failure::io("open config.json", &error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| Failure::io("write config.json", &error))?;
    Ok(0)
}

fn rootless(uid: u32, gid: u32) -> String {
    ROOTLESS.trim_end().replace("\"UID\"", &uid.to_string()).replace("\"GID\"", &gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_text_is_indented_by_tabs_and_has_no_newline_at_its_end() {
        for text in [ROOTED.trim_end().to_owned(), rootless(1000, 100)] {
            assert!(text.starts_with(
                "{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,"
            ));
            assert!(text.lines().all(|line| !line.trim_start_matches('\t').starts_with(' ')));
            assert!(text.ends_with('}'));
        }
    }

    #[test]
    fn the_rootless_form_differs_as_runc_s_does() {
        let (rooted, rootless) = (parse(ROOTED), parse(&rootless(1000, 100)));
        let linux = &rootless["linux"];
        assert!(linux.get("resources").is_none());
        assert_eq!(linux["uidMappings"][0]["hostID"], 1000);
        assert_eq!(linux["gidMappings"][0]["hostID"], 100);
        let kinds = |spec: &Value| -> Vec<String> {
            let list = spec["linux"]["namespaces"].as_array().unwrap().clone();
            list.iter().map(|ns| ns["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(&rooted), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(kinds(&rootless), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        for mount in rootless["mounts"].as_array().unwrap() {
            if mount["destination"] == "/sys" {
                assert_eq!(mount["type"], "none");
                assert_eq!(mount["options"][0], "rbind");
            }
            let options = mount.get("options").map(Value::to_string).unwrap_or_default();
            assert!(!options.contains("gid=") && !options.contains("uid="), "{mount}");
        }
        assert_eq!(rooted["process"], rootless["process"]);
        assert_eq!(rooted["linux"]["maskedPaths"], rootless["linux"]["maskedPaths"]);
    }
}
