//! `linux.cgroupsPath` -> the path of the container's cgroup, for the cgroupfs driver.

use crate::error::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";

/// Returns the container's cgroup as an absolute, lexically clean path below the cgroup root.
///
/// An absolute `cgroups_path` counts from the cgroup root. A relative or absent one (then the id
/// is the name) counts from the *parent* of the runtime's own cgroup: the own cgroup holds
/// processes, and a cgroup with processes cannot give controllers to its children. `own_cgroup` is
/// the `0::` entry of `/proc/self/cgroup`.
///
/// # Errors
/// `linux.cgroupsPath` that names no cgroup of the container's own, or cannot name one at all.
pub(crate) fn cgroup_path(
    cgroups_path: Option<&str>,
    id: &str,
    own_cgroup: &str,
) -> Result<String> {
    let path = cgroups_path.filter(|path| !path.is_empty()).unwrap_or(id);
    if path.contains(['\0', '\n']) {
        // The kernel refuses a newline: it would forge lines of /proc/PID/cgroup.
        return Err(Error::config(FIELD, format!("{path:?} contains a NUL or a newline")));
    }
    let own = components(path);
    if own.is_empty() {
        let message = format!("{path:?} does not name a cgroup of the container's own");
        return Err(Error::config(FIELD, message));
    }
    let mut all = if path.starts_with('/') { Vec::new() } else { parent(own_cgroup, path)? };
    all.extend(own);
    Ok(format!("/{}", all.join("/")))
}

fn parent<'a>(own_cgroup: &'a str, path: &str) -> Result<Vec<&'a str>> {
    // The kernel shows a cgroup outside of the reader's cgroup namespace as "/../x".
    if !own_cgroup.starts_with('/') || own_cgroup.split('/').any(|name| name == "..") {
        let message = format!(
            "cannot place the relative {path:?}: the runtime's own cgroup, {own_cgroup:?}, \
             is outside of its cgroup namespace"
        );
        return Err(Error::unsupported(FIELD, message).hint("use an absolute path"));
    }
    let mut names = components(own_cgroup);
    names.pop();
    Ok(names)
}

/// Cleans a path lexically; `..` stops at the root, whether the path is absolute or not.
fn components(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "/user.slice/session-1.scope";

    fn path(cgroups_path: &str) -> String {
        cgroup_path(Some(cgroups_path), "c1", OWN).unwrap()
    }

    #[test]
    fn absolute_path_counts_from_the_cgroup_root() {
        assert_eq!(path("/docker/abc"), "/docker/abc");
        assert_eq!(path("//docker/./abc/"), "/docker/abc");
    }

    #[test]
    fn dot_dot_is_cleaned_lexically_and_stops_at_the_root() {
        assert_eq!(path("/../../x"), "/x");
        assert_eq!(path("/a/../b"), "/b");
        assert_eq!(path("../../x"), "/user.slice/x");
    }

    #[test]
    fn relative_path_counts_from_the_parent_of_the_own_cgroup() {
        assert_eq!(path("a/b"), "/user.slice/a/b");
        assert_eq!(cgroup_path(Some("a"), "c1", "/").unwrap(), "/a");
        assert_eq!(cgroup_path(Some("a"), "c1", "/x").unwrap(), "/a");
    }

    #[test]
    fn absent_or_empty_path_is_named_after_the_id() {
        assert_eq!(cgroup_path(None, "c1", OWN).unwrap(), "/user.slice/c1");
        assert_eq!(path(""), "/user.slice/c1");
    }

    #[test]
    fn systemd_form_is_one_literal_name() {
        assert_eq!(path("system.slice:docker:abc"), "/user.slice/system.slice:docker:abc");
    }

    #[test]
    fn path_that_names_no_cgroup_of_its_own_is_refused() {
        for wrong in ["/", ".", "..", "/a/..", "a/../.."] {
            let error = cgroup_path(Some(wrong), "c1", OWN).unwrap_err();
            assert_eq!(error.field(), Some("linux.cgroupsPath"), "{wrong}");
        }
    }

    #[test]
    fn newline_and_nul_are_refused() {
        assert!(cgroup_path(Some("/a\nb"), "c1", OWN).is_err());
        assert!(cgroup_path(Some("/a\0b"), "c1", OWN).is_err());
    }

    #[test]
    fn relative_path_needs_an_own_cgroup_inside_the_namespace() {
        let error = cgroup_path(Some("a"), "c1", "/../outer").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
        assert_eq!(cgroup_path(Some("/a"), "c1", "/../outer").unwrap(), "/a");
    }
}
