//! What a container is, seen by a program inside: all that confines it, in a form that two containers of one
//! configuration have in common.

use std::collections::BTreeMap;

use crate::proc;

/// A shell script that prints it. It needs `/proc`, and names what is missing.
pub const SCRIPT: &str = "\
    head -n 1000 /proc/self/status /proc/self/limits /proc/self/mountinfo /proc/self/cgroup \
        /proc/self/uid_map /proc/self/gid_map /proc/self/oom_score_adj /proc/self/personality \
        /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward \
        /proc/sys/kernel/shm_rmid_forced /proc/sys/vm/swappiness /masked/secret 2>&1; \
    for part in ns fd; do echo; echo \"==> $part <==\"; ls -ln /proc/self/$part 2>&1; done; \
    echo; echo '==> files <=='; ls -ln /dev /masked /hidden /copied; \
    echo; echo '==> refused <=='; head -c 1 /dev/kmsg 2>&1; chmod 700 /shared 2>&1; touch /x 2>&1; \
    echo; echo '==> own <=='; pwd; env; id; ulimit -a; umask; tty; echo; echo '==> end <=='";

/// What the script has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside(BTreeMap<String, Vec<String>>);

impl Inside {
    /// Reads what the script has printed so far; `None` before its end.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.contains("==> end <==\n") {
            return None;
        }
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut section = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("==> ").and_then(|rest| rest.strip_suffix(" <=="))
            {
                section = name.trim_start_matches("/proc/self/").to_owned();
                let _new = sections.entry(section.clone()).or_default();
            } else if let Some(line) = comparable(&section, line) {
                sections.entry(section.clone()).or_default().push(line);
            }
        }
        Some(Self(sections))
    }

    /// The lines of a section.
    #[must_use]
    pub fn section(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A field of `/proc/self/status`.
    #[must_use]
    pub fn status(&self, field: &str) -> String {
        proc::status(&self.section("status").join("\n")).remove(field).unwrap_or_default()
    }

    /// What another container has otherwise, line by line; nothing where both are confined alike.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut names: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (own, others) = (self.section(name), other.section(name));
            found.extend(missing(own, others).map(|line| format!("{name}: - {line}")));
            found.extend(missing(others, own).map(|line| format!("{name}: + {line}")));
        }
        found
    }
}

fn missing<'a>(of: &'a [String], from: &'a [String]) -> impl Iterator<Item = &'a String> {
    of.iter().filter(|line| {
        let count = |list: &[String]| list.iter().filter(|other| other == line).count();
        count(of) != count(from)
    })
}

/// A line without what differs from run to run: numbers of processes, mounts and devices, times.
fn comparable(section: &str, line: &str) -> Option<String> {
    match section {
        _ if line.trim().is_empty() => None,
        "status" => comparable_status(line),
        "mountinfo" if line.contains(" - ") => Some(comparable_mount(line)),
        "ns" => comparable_namespace(line),
        "fd" | "files" => {
            // Mode, links, owner, group, size or device number, date, name.
            let words: Vec<_> = line.split_whitespace().collect();
            let name = words.iter().position(|word| word.contains(':')).unwrap_or(0);
            let (front, back) = (words.get(..name)?, words.get(name..)?);
            let mode = front.first().copied().unwrap_or_default();
            let owner = front.get(2..front.len().saturating_sub(2)).unwrap_or_default();
            let back = if name == 0 { back } else { back.get(1..)? };
            // ls has its own directory open.
            let own = back.last().is_some_and(|target| target.starts_with("/proc/"));
            let back = back.join(" ");
            let back = back.split(":[").next().unwrap_or_default(); // the number of a pipe
            (!own).then(|| format!("{mode} {} {back}", owner.join(" ")))
        }
        _ => Some(line.to_owned()),
    }
}

fn comparable_status(line: &str) -> Option<String> {
    let field = line.split(':').next()?;
    let kept = field.starts_with("Cap")
        || field.starts_with("Sig")
        || field.starts_with("Sec")
        || field.starts_with("Spec")
        || ["Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "CoreDumping"].contains(&field);
    (kept && field != "SigQ").then(|| line.to_owned())
}

fn comparable_mount(line: &str) -> String {
    let parsed = proc::mounts(line);
    let Some(mount) = parsed.first() else { return line.to_owned() };
    let propagation: Vec<_> =
        mount.propagation.iter().filter_map(|field| field.split(':').next()).collect();
    format!(
        "{} on {} type {} of {} ({}) ({}) {}",
        mount.source,
        mount.target,
        mount.fstype,
        mount.root,
        mount.options.join(","),
        mount.super_options.join(","),
        propagation.join(",")
    )
}

/// A namespace is the host's or not.
fn comparable_namespace(line: &str) -> Option<String> {
    let (kind, target) = line.rsplit_once(" -> ")?;
    let kind = kind.rsplit(' ').next()?;
    let own = proc::namespace(i32::try_from(std::process::id()).ok()?, kind)?;
    Some(format!("{kind}: {}", if own == target { "the host's" } else { "its own" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Inside {
        Inside::parse(&format!("{text}\n==> end <==\n")).unwrap()
    }

    #[test]
    fn what_differs_from_run_to_run_is_no_difference() {
        let one = of("==> /proc/self/status <==\nPid:\t7\nCapEff:\t0000000000000000\n\
            ==> /proc/self/mountinfo <==\n25 30 0:23 / /proc ro shared:7 - proc proc rw");
        let two = of("==> /proc/self/status <==\nPid:\t8\nCapEff:\t0000000000000000\n\
            ==> /proc/self/mountinfo <==\n99 31 0:99 / /proc ro shared:9 - proc proc rw");
        assert_eq!(one.differences(&two), Vec::<String>::new());
    }

    #[test]
    fn a_missing_mask_and_a_wrong_capability_are_differences() {
        let one = of("==> /proc/self/status <==\nCapEff:\t0000000000000000\n\
            ==> /proc/self/mountinfo <==\n25 30 0:23 / /proc/keys ro - tmpfs tmpfs rw");
        let two = of(
            "==> /proc/self/status <==\nCapEff:\t0000000000000001\n==> /proc/self/mountinfo <==",
        );
        assert_eq!(one.differences(&two).len(), 3);
    }

    #[test]
    fn a_script_that_has_not_ended_has_said_nothing() {
        assert_eq!(Inside::parse("==> /proc/self/status <==\nCapEff:\t0\n"), None);
    }
}
