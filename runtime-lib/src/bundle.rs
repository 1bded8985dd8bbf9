//! A bundle: a directory with config.json and a root filesystem (runtime-spec, bundle.md).

mod lists;

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Process, Spec};
use serde_json::{Map, Value};

use crate::error::{Error, Field, Result};
use crate::json;

/// The name of the configuration in a bundle's directory.
const CONFIG: &str = "config.json";

/// A bundle and its configuration.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) spec: Spec,
    /// What was dropped while reading, each with its field.
    pub(crate) warnings: Vec<(Field, String)>,
}

impl Bundle {
    /// Reads `config.json` of a bundle's directory.
    ///
    /// # Errors
    /// The file is missing or malformed, naming the field.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let sys = |what: &str, path: &Path, error| {
            Error::sys(format!("cannot {what} {:?}", path.display().to_string()), error)
        };
        let directory = std::fs::canonicalize(directory)
            .map_err(|error| sys("open the bundle", directory, error))?;
        let path = directory.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            IoErrorKind::NotFound => {
                Error::config(CONFIG, "JSON specification file config.json not found")
            }
            _ => sys("read", &path, error),
        })?;
        let (spec, warnings) = parse(&bytes)?;
        Ok(Self { directory, spec, warnings })
    }

    /// A bundle by the text of its `config.json`, which need not be a file; relative paths in it are relative to
    /// `directory` (absolute).
    ///
    /// ```
    /// let config = br#"{
    ///     "ociVersion": "1.2.0",
    ///     "root": {"path": "rootfs"},
    ///     "process": {"args": ["/bin/true"], "cwd": "/", "user": null}
    /// }"#;
    /// let bundle = orlop::Bundle::from_json("/var/lib/bundles/web", config)?;
    /// assert!(bundle.spec().process().is_some());
    /// # Ok::<(), orlop::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is malformed, naming the field.
    pub fn from_json(directory: impl Into<PathBuf>, json: &[u8]) -> Result<Self> {
        let (spec, warnings) = parse(json)?;
        Ok(Self { directory: directory.into(), spec, warnings })
    }

    /// A bundle whose configuration the caller made, or read by other means; relative paths in it are relative to `directory` (absolute).
    #[must_use]
    pub fn from_spec(directory: impl Into<PathBuf>, spec: Spec) -> Self {
        Self { directory: directory.into(), spec, warnings: Vec::new() }
    }

    /// Its configuration.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What reading it left out (capabilities of unknown names), each with its field.
    #[must_use]
    pub fn warnings(&self) -> &[(Field, String)] {
        &self.warnings
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Reads a `process` object by itself, as `exec --process` gets it.
///
/// # Errors
/// It is malformed, naming the field (`process.user.uid`).
pub fn parse_process(bytes: &[u8]) -> Result<Process> {
    let process: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::config("process", format!("is not JSON: {error}")))?;
    let spec = serde_json::json!({"ociVersion": crate::compile::OCI_VERSION, "process": process});
    let (spec, _) = parse(spec.to_string().as_bytes())?;
    let missing = || Error::config("process", "process property must not be empty");
    spec.process().clone().ok_or_else(missing)
}

/// Parses a config.json.
///
/// Most are read in one pass. What oci-spec 0.10 cannot read though it is valid is mended on a
/// second pass, which also knows where in the document an error is.
///
/// # Errors
/// It is no JSON, or a field is of the wrong type, named by its path.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Spec, Vec<(Field, String)>)> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::config(CONFIG, format!("is not UTF-8: {error}")))?;
    // serde would take a list for a struct.
    let is_object = text.trim_start().starts_with('{');
    if is_object
        && !is_dropped_silently(text)
        && !lists::possible(text)
        && let Ok(spec) = serde_json::from_str::<Spec>(text)
        && !is_zero_for_absent(&spec)
    {
        return Ok((spec, Vec::new()));
    }
    let mut value: Value = serde_json::from_str(text)
        .map_err(|error| Error::config(CONFIG, format!("is no JSON: {error}")))?;
    if !value.is_object() {
        return Err(Error::config(CONFIG, "is no JSON object"));
    }
    if let Some(field) = lists::find(&value) {
        return Err(Error::config(field, "invalid type: a list, expected an object"));
    }
    let mut warnings = Vec::new();
    mend(&mut value, &mut warnings);
    if value.get("freebsd").is_some() {
        return Err(Error::unsupported("freebsd", "is for another platform; this is Linux"));
    }
    let spec = json::from_value(&value).map_err(|(path, message)| {
        Error::config(if path.is_empty() { CONFIG.to_owned() } else { path }, message)
    })?;
    Ok((spec, warnings))
}

/// Whether something may be there that oci-spec does not know, and would pass over: a section, or
/// members of `linux.intelRdt` that it spells differently. (What else it loses of 1.3 is below `vm`,
/// which is refused whole.)
fn is_dropped_silently(text: &str) -> bool {
    text.contains("\"freebsd\"") || RDT.iter().any(|(name, _)| text.contains(name))
}

/// Whether oci-spec may have made a limit of zero of one that is not there.
fn is_zero_for_absent(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let pids = resources.and_then(|resources| resources.pids().as_ref());
    pids.is_some_and(|pids| pids.limit() == 0)
}

/// Members of `linux.intelRdt` in the specification, and for oci-spec.
const RDT: [(&str, &str); 2] = [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")];

/// Makes valid what oci-spec 0.10 cannot read.
fn mend(spec: &mut Value, warnings: &mut Vec<(Field, String)>) {
    drop_nulls(spec);
    let Some(spec) = spec.as_object_mut() else { return };
    if let Some(process) = object(spec, "process") {
        // `null` means the default, as to every Go program.
        process.entry("user").or_insert_with(|| serde_json::json!({}));
        process.entry("cwd").or_insert_with(|| serde_json::json!(""));
        drop_unknown_capabilities(process, warnings);
        rename_scheduler_flags(process);
        if let Some(affinity) = object(process, "execCPUAffinity") {
            // Empty is what the specification calls the same as absent.
            affinity.retain(|_, list| list.as_str() != Some(""));
        }
    }
    if let Some(rdt) = object(spec, "linux").and_then(|linux| object(linux, "intelRdt")) {
        for (name, other) in RDT {
            if let Some(value) = rdt.remove(name) {
                rdt.insert(other.to_owned(), value);
            }
        }
    }
    let Some(linux) = object(spec, "linux") else { return };
    drop_empty_profile(linux, warnings);
    let Some(resources) = object(linux, "resources") else { return };
    drop_absent_limit(resources);
    let pages = resources.get_mut("hugepageLimits");
    for limit in pages.and_then(Value::as_array_mut).into_iter().flatten() {
        // The model holds an i64; more is no limit at all.
        if let Some(limit) = limit.get_mut("limit")
            && limit.as_u64().is_some_and(|limit| i64::try_from(limit).is_err())
        {
            *limit = serde_json::json!(i64::MAX);
        }
    }
}

/// A profile that says nothing is none: engines hand on an empty one of their users'.
fn drop_empty_profile(linux: &mut Map<String, Value>, warnings: &mut Vec<(Field, String)>) {
    let says_nothing = |profile: &Map<String, Value>| {
        profile.iter().all(|(key, value)| match key.as_str() {
            "defaultAction" => value.as_str() == Some(""),
            "syscalls" => value.as_array().is_some_and(Vec::is_empty),
            // For what there are no rules.
            "architectures" => true,
            _ => false,
        })
    };
    if object(linux, "seccomp").is_some_and(|profile| says_nothing(profile)) {
        linux.remove("seccomp");
        warnings.push(("linux.seccomp".into(), "is empty: no filter is loaded".to_owned()));
    }
}

/// Without a limit, `pids` limits nothing.
pub(crate) fn drop_absent_limit(resources: &mut Map<String, Value>) {
    if resources.get("pids").and_then(Value::as_object).is_some_and(Map::is_empty) {
        resources.remove("pids");
    }
}

fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.get_mut(key).and_then(Value::as_object_mut)
}

/// A null stands for an absent field.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The specification wants a warning for a capability that the runtime does not know.
fn drop_unknown_capabilities(
    process: &mut Map<String, Value>,
    warnings: &mut Vec<(Field, String)>,
) {
    let Some(sets) = object(process, "capabilities") else { return };
    for (name, set) in sets {
        let Some(set) = set.as_array_mut() else { continue };
        set.retain(|entry| {
            let unknown =
                entry.is_string() && serde_json::from_value::<Capability>(entry.clone()).is_err();
            if unknown {
                let field = format!("process.capabilities.{name}");
                warnings.push((field.into(), format!("{entry} is unknown, and left out")));
            }
            !unknown
        });
    }
}

/// oci-spec spells two of the specification's flags differently.
fn rename_scheduler_flags(process: &mut Map<String, Value>) {
    let flags = object(process, "scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = serde_json::json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = serde_json::json!("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let text = error(r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":"x"}}}"#);
        assert_eq!(text, "process.user.uid: invalid type: string \"x\", expected u32");
        let text = error(r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"moon"}]}}"#);
        assert!(text.starts_with("linux.namespaces[1].type: unknown variant `moon`"), "{text}");
        assert!(error("[]").starts_with("config.json: "), "{}", error("[]"));
        assert!(error("{").starts_with("config.json: is no JSON: EOF"), "{}", error("{"));
    }

    #[test]
    fn a_list_is_no_object() {
        let text = error(r#"{"process":{"cwd":"/","user" : [0, 0]}}"#);
        assert_eq!(text, "process.user: invalid type: a list, expected an object");
        let text = error(r#"{"linux":{"resources":{"rdma":{"x":[1, 2]}}}}"#);
        assert!(text.starts_with("linux.resources.rdma.x: invalid type"), "{text}");
        let text = error(r#"{"mounts":[{"destination":"/a"}, ["/b", "tmpfs"]]}"#);
        assert!(text.starts_with("mounts[1]: invalid type"), "{text}");
        // Where nobody expects an object, a list is not looked at.
        let text = r#"{"process":{"cwd":"/","user":{},"args":["sh","-c"," [ 1, [ \"user\":[ "]},
            "unknown":{"process":[[1],[2]]}}"#;
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn configurations_of_engines_are_read_in_one_pass() {
        for text in [
            include_str!("../../conformance/bundles/docker.json"),
            include_str!("../../conformance/bundles/podman.json"),
            include_str!("../../conformance/bundles/containerd.json"),
        ] {
            assert!(!lists::possible(text));
        }
    }

    #[test]
    fn unknown_capabilities_are_left_out_with_a_warning() {
        let text = r#"{"process":{"cwd":"/","user":{},"capabilities":
            {"bounding":["CAP_KILL","CAP_FLY"]}}}"#;
        let (spec, warnings) = parse(text.as_bytes()).unwrap();
        let process = spec.process().as_ref().unwrap();
        let set = process.capabilities().as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [Capability::Kill]);
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].0, "process.capabilities.bounding");
    }

    #[test]
    fn a_profile_or_a_limit_that_says_nothing_is_none() {
        let linux = |linux: &str| {
            let (spec, warnings) = parse(format!("{{\"linux\":{linux}}}").as_bytes()).unwrap();
            (spec.linux().clone().unwrap(), warnings.len())
        };
        for profile in ["{}", r#"{"defaultAction":"","syscalls":[]}"#] {
            let (linux, warnings) = linux(&format!(r#"{{"seccomp":{profile}}}"#));
            assert_eq!((linux.seccomp().is_none(), warnings), (true, 1), "{profile}");
        }
        for (pids, want) in [("{}", None), (r#"{"limit":null}"#, None), (r#"{"limit":0}"#, Some(0))]
        {
            let (linux, warnings) = linux(&format!(r#"{{"resources":{{"pids":{pids}}}}}"#));
            let limit = linux.resources().as_ref().unwrap().pids().map(|pids| pids.limit());
            assert_eq!((limit, warnings), (want, 0), "{pids}");
        }
        let text =
            error(r#"{"linux":{"seccomp":{"syscalls":[{"names":[],"action":"SCMP_ACT_LOG"}]}}}"#);
        assert!(text.starts_with("linux.seccomp: missing field"), "{text}");
    }

    #[test]
    fn nulls_count_as_absent() {
        let text = r#"{"process":{"user":null,"cwd":"/","args":null},"linux":null}"#;
        let (spec, _) = parse(text.as_bytes()).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
    }

    #[test]
    fn what_oci_spec_misspells_or_narrows_is_read() {
        let text = r#"{"process":{"cwd":"/","user":{},"scheduler":{"policy":"SCHED_DEADLINE",
            "flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}},"linux":{"resources":
            {"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}}}"#;
        let (spec, _) = parse(text.as_bytes()).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let limits = linux.resources().as_ref().unwrap().hugepage_limits().clone().unwrap();
        assert_eq!(limits[0].limit(), i64::MAX);
        let text = error(r#"{"linux":{"personality":{"domain":"BSD"}}}"#);
        assert!(text.starts_with("linux.personality.domain: unknown variant `BSD`"), "{text}");
    }

    #[test]
    fn a_section_that_oci_spec_does_not_know_is_refused() {
        assert!(error(r#"{"freebsd":{}}"#).starts_with("freebsd: "));
        assert!(parse(br#"{"annotations":{"freebsd":"x"}}"#).is_ok());
    }

    #[test]
    fn a_bundle_without_configuration_says_so_as_runc_does() {
        let error = Bundle::load("/proc/self/fdinfo").unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("JSON specification file config.json not found"), "{text}");
    }
}
