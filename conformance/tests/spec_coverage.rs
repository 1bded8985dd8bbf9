//! Every field of the runtime-spec's schema for Linux is proven by tests that exist, and docs/spec-coverage.md says by which.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The fields of config-schema.json of runtime-spec 1.3.0, but those of other platforms: a fact of the specification.
const FIELDS: &str = include_str!("../spec-fields.txt");

/// What proves them: `FIELD [since KERNEL] [(remark)]: TEST...`; a field without a line is proven with the object that it is in.
const PROOFS: &str = include_str!("../spec-proofs.txt");

struct Proof {
    since: String,
    remark: String,
    tests: Vec<String>,
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn proofs() -> BTreeMap<&'static str, Proof> {
    let parse = |line: &'static str| {
        let (head, tests) = line.rsplit_once(": ").unwrap_or_else(|| panic!("no colon: {line}"));
        let (head, remark) = head.split_once(" (").map_or((head, ""), |(head, remark)| {
            (head, remark.strip_suffix(')').unwrap_or_else(|| panic!("no bracket: {line}")))
        });
        let (field, since) = head.split_once(" since ").unwrap_or((head, ""));
        let tests = tests.split_whitespace().map(str::to_owned).collect();
        (field, Proof { since: since.to_owned(), remark: remark.to_owned(), tests })
    };
    let all: Vec<_> = lines(PROOFS).map(parse).collect();
    let count = all.len();
    let map: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(map.len(), count, "a field has two lines");
    map
}

/// Objects with fields of all kinds, whose own proof says nothing about those.
const LOOSE: [&str; 4] = ["process", "linux", "linux.resources", "linux.resources.memory"];

/// The field itself or the nearest one above that has a line.
fn proof<'p, 'f>(
    field: &'f str,
    proofs: &'p BTreeMap<&'static str, Proof>,
) -> Option<(&'f str, &'p Proof)> {
    let mut name = field;
    loop {
        let itself = name == field;
        if let Some(found) = proofs.get(name).filter(|_| itself || !LOOSE.contains(&name)) {
            return Some((name, found));
        }
        name = name.rsplit_once('.').map(|(above, _)| above.trim_end_matches("[]"))?;
    }
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `file::name` of each test of the workspace; of files named `tests.rs` or in `tests/`, the directory's name too.
fn tests(directory: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if stem != "target" && !stem.starts_with('.') {
                tests(&path, out);
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let parent = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let module = if stem == "tests" || stem == "mod" { parent } else { stem };
        let mut attribute = false;
        for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            attribute |= line == "#[test]";
            if attribute && let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split('(').next().unwrap();
                out.insert(format!("{module}::{name}"));
                attribute = false;
            }
        }
    }
}

#[test]
fn every_field_is_proven_by_tests_that_exist() {
    let proofs = proofs();
    let mut known = BTreeSet::new();
    tests(&top(), &mut known);
    let mut wrong = Vec::new();
    for field in lines(FIELDS) {
        if proof(field, &proofs).is_none_or(|(_, proof)| proof.tests.is_empty()) {
            wrong.push(format!("{field}: nothing proves it"));
        }
    }
    let fields: BTreeSet<_> = lines(FIELDS).collect();
    for (field, proof) in &proofs {
        if !fields.contains(field) {
            wrong.push(format!("{field}: is no field of the specification"));
        }
        for test in proof.tests.iter().filter(|test| !known.contains(*test)) {
            wrong.push(format!("{field}: there is no test {test}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn document() -> String {
    let proofs = proofs();
    let mut out = String::from(
        "# Coverage of the runtime-spec\n\n\
        Every field of the schema of runtime-spec 1.3.0 for Linux, and the tests that fail where it is not honoured. Made by\n\
        `UPDATE_GOLDEN=1 cargo test -p orlop-conformance --test spec_coverage` from `conformance/spec-proofs.txt`. Linux 5.14 is\n\
        needed in any case; what needs a newer kernel says so. Beside these, `fields::every_field_changes_the_plan_or_is_refused`\n\
        changes and removes every field by itself.\n\n\
        | field | since Linux | tests |\n|---|---|---|\n",
    );
    for field in lines(FIELDS) {
        let (name, proof) =
            proof(field, &proofs).unwrap_or_else(|| panic!("{field}: nothing proves it"));
        let tests: Vec<_> = proof.tests.iter().map(|test| format!("`{test}`")).collect();
        let own = name == field;
        let tests = if own { tests.join(", ") } else { format!("as `{name}`") };
        let remark = if own && !proof.remark.is_empty() {
            format!(" ({})", proof.remark)
        } else {
            String::new()
        };
        writeln!(out, "| `{field}`{remark} | {} | {tests} |", proof.since).unwrap();
    }
    out
}

#[test]
fn the_document_is_what_the_proofs_say() {
    let path = top().join("docs/spec-coverage.md");
    let document = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "docs/spec-coverage.md is out of date; see its first lines");
}
