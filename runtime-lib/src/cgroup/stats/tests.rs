//! A directory of files with what a kernel writes stands for the cgroup.

use std::fs::{self, File};
use std::path::PathBuf;

use super::*;

struct Fake(PathBuf);

impl Fake {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let name = format!("orlop-stats-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        let fake = Self(path);
        for (name, text) in files {
            fs::write(fake.0.join(name), text).unwrap();
        }
        fake
    }

    fn json(&self) -> String {
        let stats = read(File::open(&self.0).unwrap()).unwrap();
        serde_json::to_string(&stats).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const EMPTY_CPUSET: &str = r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"#;

#[test]
fn every_controller_is_told_in_the_keys_of_runc() {
    let pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    let fake = Fake::new(
        "full",
        &[
            (
                "cpu.stat",
                "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\ncore_sched.force_idle_usec 0\n\
                 nr_periods 9\nnr_throttled 4\nthrottled_usec 77\nnr_bursts 0\nburst_usec 0\n",
            ),
            ("cpu.pressure", pressure),
            ("memory.stat", "anon 4096\nfile 8192\nkernel 100\n"),
            ("memory.current", "12288\n"),
            ("memory.max", "1048576\n"),
            ("memory.peak", "16384\n"),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.max", "2097152\n"),
            ("memory.pressure", pressure),
            ("pids.current", "3\n"),
            ("pids.max", "100\n"),
            (
                "io.stat",
                "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n\
                 7:0 \n253:0 rbytes=0 wbytes=8 rios=0 wios=9 dbytes=0 dios=0 cost.usage=1\n",
            ),
            ("io.pressure", pressure),
            ("hugetlb.2MB.current", "4194304\n"),
            ("hugetlb.2MB.events", "max 5\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.1GB.current", "0\n"),
        ],
    );
    let psi = r#""psi":{"some":{"avg10":1.5,"avg60":0.25,"avg300":0,"total":12345},"full":{"avg10":0,"avg60":0,"avg300":0,"total":7}}"#;
    let want = [
        r#"{"cpu":{"usage":{"total":3000000,"kernel":1000000,"user":2000000},"throttling":{"periods":9,"throttledPeriods":4,"throttledTime":77000},"#,
        psi,
        "},",
        EMPTY_CPUSET,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"#,
        r#""memory":{"cache":8192,"usage":{"limit":1048576,"usage":12288,"max":16384,"failcnt":0},"swap":{"limit":3145728,"usage":16384,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0},"raw":{"anon":4096,"file":8192,"kernel":100},"#,
        psi,
        r#"},"pids":{"current":3,"limit":100},"#,
        r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"minor":16,"op":"Read","value":1},{"major":8,"minor":16,"op":"Write","value":2},{"major":253,"op":"Read"},{"major":253,"op":"Write","value":8}],"#,
        r#""ioServicedRecursive":[{"major":8,"minor":16,"op":"Read","value":3},{"major":8,"minor":16,"op":"Write","value":4},{"major":253,"op":"Read"},{"major":253,"op":"Write","value":9}],"#,
        psi,
        r#"},"hugetlb":{"1GB":{"failcnt":0},"2MB":{"usage":4194304,"failcnt":5}},"intel_rdt":{},"network_interfaces":null}"#,
    ];
    assert_eq!(fake.json(), want.concat());
}

#[test]
fn what_the_kernel_does_not_count_is_empty() {
    let fake = Fake::new("empty", &[("cgroup.procs", "4\n7\n")]);
    let want = [
        r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
        EMPTY_CPUSET,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"#,
        r#""memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"#,
        r#""pids":{"current":2},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#,
    ];
    assert_eq!(fake.json(), want.concat());
}

#[test]
fn no_limit_is_the_largest_number_for_memory_and_none_for_pids() {
    let fake = Fake::new(
        "max",
        &[
            ("memory.current", "1\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "0\n"),
            ("memory.swap.max", "5\n"),
            ("pids.current", "1\n"),
            ("pids.max", "max\n"),
        ],
    );
    let stats = read(File::open(&fake.0).unwrap()).unwrap();
    assert_eq!(stats.memory.usage.limit, u64::MAX);
    assert_eq!(stats.memory.swap.limit, u64::MAX, "and does not wrap around");
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 0));
}

#[test]
fn files_longer_than_one_read_are_read_whole() {
    let lines: String = (0..2000).map(|n| format!("key{n} {n}\n")).collect();
    let fake = Fake::new("long", &[("memory.stat", &lines), ("pids.current", "1\n")]);
    let stats = read(File::open(&fake.0).unwrap()).unwrap();
    assert_eq!(stats.memory.stat.len(), 2000);
    assert_eq!(stats.memory.stat.get("key1999"), Some(&1999));
}

#[test]
fn nonsense_in_a_file_names_the_file() {
    let fake = Fake::new("nonsense", &[("pids.current", "many\n")]);
    let error = read(File::open(&fake.0).unwrap()).unwrap_err();
    assert_eq!(error, ("pids.current".to_owned(), Errno::INVAL));
}
