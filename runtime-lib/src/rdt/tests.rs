//! On a tree of plain files in place of a resctrl filesystem.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("orlop-rdt-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("info/L3")).unwrap();
        fs::create_dir_all(root.join("info/MB")).unwrap();
        for (file, text) in [
            ("tasks", ""),
            ("schemata", "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"),
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "2\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        Self(root)
    }

    fn resctrl(&self) -> Resctrl {
        Resctrl::at(&self.0).unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// A group as an administrator has made it.
    fn group(&self, name: &str, schemata: &str) {
        let group = self.0.join(name);
        fs::create_dir_all(group.join("mon_groups")).unwrap();
        fs::write(group.join("tasks"), "").unwrap();
        fs::write(group.join("schemata"), schemata).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn own() -> Rdt {
    Rdt { group: "c1".to_owned(), own: true, ..Rdt::default() }
}

fn named() -> Rdt {
    Rdt { group: "gold".to_owned(), ..Rdt::default() }
}

fn lines(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn without_the_filesystem_it_is_refused() {
    let tree = Tree::new("none");
    fs::remove_file(tree.0.join("tasks")).unwrap();
    let error = Resctrl::at(&tree.0).unwrap_err();
    assert_eq!(error.field(), Some("linux.intelRdt"));
    assert!(error.to_string().contains("no resctrl filesystem is mounted"), "{error}");
}

#[test]
fn a_group_of_its_own_comes_and_goes_with_the_container() {
    let tree = Tree::new("own");
    let rdt = Rdt { expected: lines(&["L3:0=f", "MB:0=20"]), further: lines(&["L2:0=1"]), ..own() };
    tree.resctrl().enter(&rdt, 7).unwrap();
    assert_eq!(tree.read("c1/tasks"), "7");
    assert_eq!(tree.read("c1/schemata"), "L3:0=f\nMB:0=20\nL2:0=1\n");
    assert_eq!(tree.read("tasks"), "");
    tree.resctrl().update(&rdt, &lines(&["L3:0=3"])).unwrap();
    assert_eq!(tree.read("c1/schemata"), "L3:0=3\n");
    tree.resctrl().remove(&rdt).unwrap();
    assert!(!tree.0.join("c1").exists());
    tree.resctrl().remove(&rdt).unwrap();
}

#[test]
fn without_a_schema_none_is_written() {
    let tree = Tree::new("plain");
    tree.resctrl().enter(&own(), 7).unwrap();
    assert!(!tree.0.join("c1/schemata").exists());
}

#[test]
fn a_named_group_without_a_schema_has_to_be_there_and_stays() {
    let tree = Tree::new("named");
    let rdt = Rdt { must_exist: true, ..named() };
    let error = tree.resctrl().enter(&rdt, 7).unwrap_err();
    assert_eq!(error.field(), Some("linux.intelRdt.closID"));
    tree.group("gold", "L3:0=1\n");
    tree.resctrl().enter(&rdt, 7).unwrap();
    assert_eq!(tree.read("gold/tasks"), "7");
    assert_eq!(tree.read("gold/schemata"), "L3:0=1\n");
    tree.resctrl().remove(&rdt).unwrap();
    assert!(tree.0.join("gold").exists());
}

#[test]
fn a_named_group_that_is_there_must_be_as_asked() {
    let tree = Tree::new("match");
    tree.group("gold", "    L3:0=00f;1=7ff\n    MB:0= 20;1=100\n");
    let asks = |all: &[&str]| tree.resctrl().enter(&Rdt { expected: lines(all), ..named() }, 7);
    for same in [&["L3:0=f"][..], &["L3:1=7FF;0=0f"], &["MB:0=20", "L3:00=f"]] {
        asks(same).unwrap();
        tree.group("gold", "    L3:0=00f;1=7ff\n    MB:0= 20;1=100\n");
    }
    for (other, field) in [
        (&["L3:0=1"][..], "linux.intelRdt.l3CacheSchema"),
        (&["L3:0=f;2=1"], "linux.intelRdt.l3CacheSchema"),
        (&["L2:0=f"], "linux.intelRdt.l3CacheSchema"),
        (&["nonsense"], "linux.intelRdt.l3CacheSchema"),
        (&["L3:0=f", "MB:0=30"], "linux.intelRdt.memBwSchema"),
    ] {
        assert_eq!(asks(other).unwrap_err().field(), Some(field), "{other:?}");
    }
    // What is to be written in any case is not compared.
    tree.resctrl().enter(&Rdt { further: lines(&["L3:0=1"]), ..named() }, 7).unwrap();
    assert_eq!(tree.read("gold/schemata"), "L3:0=1\n");
}

#[test]
fn a_monitoring_group_is_the_containers_own_in_a_group_that_is_not() {
    let tree = Tree::new("monitor");
    tree.group("gold", "L3:0=1\n");
    let rdt = Rdt { must_exist: true, monitor: Some("c1".to_owned()), ..named() };
    tree.resctrl().enter(&rdt, 7).unwrap();
    assert_eq!(tree.read("gold/mon_groups/c1/tasks"), "7");
    tree.resctrl().join(&rdt, 8).unwrap();
    assert_eq!(tree.read("gold/tasks"), "8");
    assert_eq!(tree.read("gold/mon_groups/c1/tasks"), "8");
    tree.resctrl().remove(&rdt).unwrap();
    assert!(!tree.0.join("gold/mon_groups/c1").exists() && tree.0.join("gold").exists());
}

#[test]
fn statistics_have_runcs_form() {
    let tree = Tree::new("stats");
    tree.group("gold", "    L3:0=1;1=3\n    MB:0=20;1=30\n");
    for (domain, total) in [("mon_L3_00", 100), ("mon_L3_01", 200)] {
        let domain = tree.0.join("gold/mon_data").join(domain);
        fs::create_dir_all(&domain).unwrap();
        fs::write(domain.join("mbm_total_bytes"), format!("{total}\n")).unwrap();
        fs::write(domain.join("mbm_local_bytes"), "50\n").unwrap();
        fs::write(domain.join("llc_occupancy"), "4096\n").unwrap();
    }
    let stats = serde_json::to_string(&tree.resctrl().stats(&named())).unwrap();
    assert_eq!(
        stats,
        concat!(
            r#"{"l3_cache_info":{"cbm_mask":"7ff","min_cbm_bits":2,"num_closids":16},"#,
            r#""l3_cache_schema_root":"L3:0=7ff;1=7ff","l3_cache_schema":"L3:0=1;1=3","#,
            r#""mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},"#,
            r#""mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0=20;1=30","#,
            r#""schemata":["L3:0=1;1=3","MB:0=20;1=30"],"#,
            r#""mbm_stats":[{"mbm_total_bytes":100,"mbm_local_bytes":50},{"mbm_total_bytes":200,"mbm_local_bytes":50}],"#,
            r#""cmt_stats":[{"llc_occupancy":4096},{"llc_occupancy":4096}]}"#,
        )
    );
    assert_eq!(serde_json::to_string(&RdtStats::default()).unwrap(), "{}");
}
