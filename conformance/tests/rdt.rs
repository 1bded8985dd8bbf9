//! Intel's resource director, on plain files in place of a resctrl filesystem: few machines have one.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use orlop_conformance::run::Done;
use orlop_conformance::{Bundle, Peer, Run, Test};
use serde_json::json;

/// A tree that looks like resctrl, and scripts in which it is what the runtime finds.
struct Fake<'t> {
    test: &'t Test,
    tree: PathBuf,
}

impl<'t> Fake<'t> {
    fn new(test: &'t Test) -> Self {
        let tree = test.dir().join("resctrl");
        for dir in ["info/L3", "gold/mon_groups", "mon_groups"] {
            std::fs::create_dir_all(tree.join(dir)).unwrap();
        }
        for (file, text) in [
            ("tasks", ""),
            ("schemata", "    L3:0=7ff\n"),
            ("gold/tasks", ""),
            ("gold/schemata", "    L3:0=00f\n"),
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "2\n"),
            ("info/L3/num_closids", "16\n"),
        ] {
            std::fs::write(tree.join(file), text).unwrap();
        }
        Self { test, tree }
    }

    /// Runs a script where the tree is /sys/fs/resctrl; `$r` is the runtime with its state root,
    /// `$b` the bundle, `$id` the container's id.
    fn sh(&self, bundle: &Bundle<'_>, script: &str) -> Done {
        bundle.write();
        let begin = "mount -t tmpfs sys /sys/fs && mkdir /sys/fs/cgroup /sys/fs/resctrl && \
            mount -t cgroup2 none /sys/fs/cgroup && mount --bind \"$1\" /sys/fs/resctrl || exit 99
            b=$2 id=$3 r=$4; shift 4; set -e; ";
        let runtime =
            format!("{} --root {}", self.test.runtime().display(), self.test.root().display());
        let run = Run::new("unshare", self.test.dir()).args(["-m", "sh", "-c"]);
        let run = run.arg(format!("{begin}{script}")).arg("sh").arg(&self.tree).arg(&bundle.dir);
        run.arg(&bundle.id).arg(runtime).done()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.tree.join(file)).unwrap_or_default()
    }
}

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    (!t.differs(&[Peer::Runc, Peer::Crun], "look for the real one")).then_some(t)
}

#[test]
fn group_is_made_entered_updated_and_removed_with_the_container() {
    let Some(t) = begin() else { return };
    let fake = Fake::new(&t);
    let rdt = json!({"l3CacheSchema": "L3:0=f", "schemata": ["L3:0=3"], "enableMonitoring": true});
    let bundle = t.bundle().set("/linux/intelRdt", rdt).args(&["/bin/sleep", "100"]);
    // A real group has this directory by itself.
    let script = "mkdir -p /sys/fs/resctrl/$id/mon_groups
        $r run -d -b $b --pid-file $b/pid $id >/dev/null
        cd /sys/fs/resctrl/$id; cat schemata; test $(cat tasks) = $(cat $b/pid)
        test $(cat mon_groups/$id/tasks) = $(cat $b/pid)
        $r update --l3-cache-schema L3:0=1 $id; cat schemata
        $r events --stats $id; echo
        $r exec --pid-file $b/pid2 $id true; test $(cat tasks) = $(cat $b/pid2)
        test $(cat mon_groups/$id/tasks) = $(cat $b/pid2)
        cd /; $r delete --force $id; ls /sys/fs/resctrl";
    let done = fake.sh(&bundle, script).ok();
    assert!(done.stdout.starts_with("L3:0=f\nL3:0=3\nL3:0=1\n"), "{done}");
    assert!(done.stdout.contains(r#""l3_cache_schema":"L3:0=1""#), "{done}");
    assert!(done.stdout.ends_with("\ngold\ninfo\nmon_groups\nschemata\ntasks\n"), "{done}");
}

#[test]
fn named_group_is_entered_and_stays() {
    let Some(t) = begin() else { return };
    let fake = Fake::new(&t);
    let bundle = t.bundle().set("/linux/intelRdt", json!({"closID": "gold"}));
    let done = fake.sh(&bundle, "$r run -b $b $id").ok();
    assert!(!fake.read("gold/tasks").is_empty(), "{done}");
    assert_eq!(fake.read("gold/schemata"), "    L3:0=00f\n");
    let bundle =
        t.bundle().set("/linux/intelRdt", json!({"closID": "/", "enableMonitoring": true}));
    let _ = fake.sh(&bundle, "$r run -b $b $id").ok();
    assert!(!fake.read("tasks").is_empty());
    assert!(!fake.tree.join("mon_groups").join(&bundle.id).exists());
}

#[test]
fn groups_that_are_missing_or_others_are_refused() {
    let Some(t) = begin() else { return };
    let fake = Fake::new(&t);
    for (rdt, field) in [
        (json!({"closID": "silver"}), "linux.intelRdt.closID: "),
        (json!({"closID": "gold", "l3CacheSchema": "L3:0=1"}), "linux.intelRdt.l3CacheSchema: "),
    ] {
        let bundle = t.bundle().set("/linux/intelRdt", rdt);
        let _ = fake.sh(&bundle, "$r run -b $b $id").fails(field);
        bundle.assert_nothing_left();
    }
    assert_eq!(fake.read("gold/tasks"), "");
    if !std::path::Path::new("/sys/fs/resctrl/tasks").exists() {
        let bundle = t.bundle().set("/linux/intelRdt", json!({}));
        let _ = bundle.run().fails("linux.intelRdt: no resctrl filesystem is mounted");
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.call("update", &["--l3-cache-schema", "L3:0=1"], &[]).exits(1);
    assert!(done.stderr.contains("linux.intelRdt: the container was created without it"), "{done}");
}
