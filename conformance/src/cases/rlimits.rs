//! Resource limits: config.md, POSIX process.

use serde_json::json;

use super::section;
use crate::suite::Case;

/// Limits that a program starts with; all are below what hosts give.
const VALUES: [(&str, u64, u64); 16] = [
    ("RLIMIT_AS", 1 << 40, 1 << 41),
    ("RLIMIT_CORE", 0, 0),
    ("RLIMIT_CPU", 1000, 2000),
    ("RLIMIT_DATA", 1 << 40, 1 << 41),
    ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
    ("RLIMIT_LOCKS", 100, 200),
    ("RLIMIT_MEMLOCK", 4096, 8192),
    ("RLIMIT_MSGQUEUE", 1000, 2000),
    ("RLIMIT_NICE", 0, 0),
    ("RLIMIT_NOFILE", 300, 400),
    ("RLIMIT_NPROC", 500, 600),
    ("RLIMIT_RSS", 1 << 30, 1 << 31),
    ("RLIMIT_RTPRIO", 0, 0),
    ("RLIMIT_RTTIME", 1000, 2000),
    ("RLIMIT_SIGPENDING", 100, 200),
    ("RLIMIT_STACK", 1 << 20, 1 << 21),
];

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "rlimits", "config.md#posix-process");
    for (name, soft, hard) in VALUES {
        s.case(format!("{name} is what the config says"), move |t| {
            let limits = json!([{"type": name, "soft": soft, "hard": hard}]);
            let facts = t.bundle().set("/process/rlimits", limits).facts();
            assert_eq!(facts["limits"][name], json!([soft, hard]));
        });
    }
    s.case("limits that are not named are the caller's", |t| {
        let facts = t.bundle().set("/process/rlimits", json!([])).facts();
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE).unwrap();
        assert_eq!(facts["limits"]["RLIMIT_FSIZE"], json!([soft, hard]));
    });
    s.case("soft limit of descriptors is felt", |t| {
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 400}]);
        let b = t.bundle().set("/process/rlimits", limits);
        let opened = b.act("opens 1000");
        assert_eq!(*opened.ok(), json!({"made": 97, "errno": libc::EMFILE}));
    });
    for (what, limits) in [
        ("limit of an unknown type", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}])),
        (
            "soft limit above the hard one",
            json!([{"type": "RLIMIT_NOFILE", "soft": 11, "hard": 10}]),
        ),
        (
            "limit that is named twice",
            json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
        ),
    ] {
        s.case(format!("{what} is refused"), move |t| {
            let done = t.bundle().set("/process/rlimits", limits.clone()).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
}
