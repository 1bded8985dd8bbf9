//! Taking back writes to a cgroup.

use super::{Cgroup, CgroupWrite, IfMissing, files};

/// What files held before they were written, as writes that bring it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Before(Vec<(String, String)>);

impl Before {
    /// As writes.
    pub(crate) fn writes(&self) -> Vec<CgroupWrite> {
        let write = |(file, value): &(String, String)| CgroupWrite {
            field: file.clone().into(),
            file: file.clone().into(),
            value: value.clone(),
            if_missing: IfMissing::Skip,
            retry_if_invalid: false,
        };
        self.0.iter().map(write).collect()
    }
}

impl Cgroup {
    /// Remembers what the files hold that are about to be written. What cannot be read cannot be
    /// brought back.
    pub(crate) fn before(&self, writes: &[CgroupWrite]) -> Before {
        let mut before = Vec::new();
        for write in writes {
            before.extend(self.old(&write.file, &write.value));
            if let IfMissing::Instead { file, value } = &write.if_missing {
                before.extend(self.old(file, value));
            }
        }
        Before(before)
    }

    /// The same of files that somebody else is about to write.
    pub(crate) fn held(&self, files: &[&str]) -> Before {
        Before(files.iter().filter_map(|file| self.old(file, "")).collect())
    }

    fn old(&self, file: &str, value: &str) -> Option<(String, String)> {
        let text = files::read_all(&self.dir, file).ok()?;
        Some((file.to_owned(), old_value(file, value, &text)?))
    }

    /// Brings back what there was, as far as the kernel lets it.
    pub(crate) fn undo(&self, before: &Before) {
        let write = |(file, value): &&(String, String)| files::write(&self.dir, file, value);
        // The last first; what was refused may depend on one that came later.
        let refused: Vec<_> = before.0.iter().rev().filter(|old| write(old).is_err()).collect();
        for old in refused {
            let _refused_again: rustix::io::Result<()> = write(&old); // the first error is told
        }
    }
}

/// What to write to a file so that it is as it was when it held `text`; `value` is to be written.
fn old_value(file: &str, value: &str, text: &str) -> Option<String> {
    if !has_keys(file) {
        // An empty write would not reach the kernel.
        let text = text.trim();
        return Some(if text.is_empty() { "\n".to_owned() } else { text.to_owned() });
    }
    let key = value.split_once(' ').map_or("default", |(key, _)| key);
    let mut lines = text.lines().map(str::trim);
    if let Some(line) = lines.find(|line| line.split(' ').next() == Some(key)) {
        return Some(line.to_owned());
    }
    match file {
        // BFQ without weights of devices: the number alone.
        "io.bfq.weight" if key == "default" => text.lines().next().map(str::to_owned),
        "io.weight" | "io.bfq.weight" => Some(format!("{key} default")),
        "io.max" => Some(format!("{key} rbps=max wbps=max riops=max wiops=max")),
        "io.latency" => Some(format!("{key} target=0")),
        _ => None,
    }
}

/// Whether a file has a line for each of several things, of which a write changes one.
fn has_keys(file: &str) -> bool {
    let io = matches!(file, "io.max" | "io.weight" | "io.bfq.weight" | "io.latency");
    io || matches!(file, "rdma.max" | "misc.max") || file.starts_with("dmem.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::sync::atomic::AtomicBool;

    #[test]
    fn files_of_one_value_get_their_text_back() {
        for (file, value, text, old) in [
            ("memory.max", "4096", "max\n", "max"),
            ("cpu.max", "5 100000", "max 100000\n", "max 100000"),
            ("cpuset.cpus", "0-1", "\n", "\n"),
            ("cpuset.cpus", "0-1", "2\n", "2"),
        ] {
            assert_eq!(old_value(file, value, text).as_deref(), Some(old), "{file}");
        }
    }

    #[test]
    fn files_with_a_line_for_each_device_get_that_line_back() {
        let max = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=3 riops=4 wiops=5\n";
        for (file, value, text, old) in [
            ("io.max", "8:16 rbps=9", max, "8:16 rbps=2 wbps=3 riops=4 wiops=5"),
            ("io.max", "7:0 rbps=9", max, "7:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.weight", "50", "default 100\n8:0 200\n", "default 100"),
            ("io.weight", "8:0 50", "default 100\n8:0 200\n", "8:0 200"),
            ("io.weight", "8:16 50", "default 100\n8:0 200\n", "8:16 default"),
            ("io.bfq.weight", "50", "100\n", "100"),
            ("io.bfq.weight", "50", "default 100\n8:0 200\n", "default 100"),
        ] {
            assert_eq!(old_value(file, value, text).as_deref(), Some(old), "{file} {value}");
        }
    }

    fn write(file: &'static str, value: &str) -> CgroupWrite {
        CgroupWrite {
            field: "linux.resources.x".into(),
            file: file.into(),
            value: value.to_owned(),
            if_missing: IfMissing::Fail,
            retry_if_invalid: false,
        }
    }

    #[test]
    fn what_was_written_before_a_failure_is_taken_back() {
        let path = std::env::temp_dir().join(format!("orlop-undo-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // Without O_TRUNC, as cgroups are written: values of one length.
        for (file, text) in [("memory.max", "100"), ("pids.max", "200"), ("cgroup.procs", "")] {
            fs::write(path.join(file), text).unwrap();
        }
        let open = || File::open(&path).unwrap().into();
        let pristine = AtomicBool::new(false);
        let cgroup = Cgroup { root: open(), dir: open(), path: "/x".to_owned(), pristine };
        let writes = [write("memory.max", "111"), write("pids.max", "222"), write("io.max", "1")];
        let before = cgroup.before(&writes);
        cgroup.apply(&writes).unwrap_err();
        assert_eq!(fs::read_to_string(path.join("pids.max")).unwrap(), "222");
        cgroup.undo(&before);
        assert_eq!(fs::read_to_string(path.join("memory.max")).unwrap(), "100");
        assert_eq!(fs::read_to_string(path.join("pids.max")).unwrap(), "200");
        fs::remove_dir_all(&path).unwrap();
    }
}
