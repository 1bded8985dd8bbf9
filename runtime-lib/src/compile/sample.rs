//! What tests and fuzzers compile with, unless they are about it.

use std::path::PathBuf;

use super::{HostFacts, Request};

pub(crate) fn request() -> Request {
    Request {
        id: "c1".to_owned(),
        bundle: PathBuf::from("/bundle"),
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        notify: None,
        null_streams: 0,
        console_socket: false,
        shown_on: None,
        systemd: None,
        joins: false,
        joins_pid: false,
        rootless: None,
    }
}

pub(crate) fn facts() -> HostFacts {
    HostFacts {
        last_capability: 40,
        own_cgroup: "/user.slice/session".to_owned(),
        manager_cgroup: String::new(),
        kcore: true,
        unprivileged: false,
        in_user_namespace: false,
        setgroups_denied: false,
        apparmor: true,
        selinux: true,
        whole_pseudo_filesystems: vec!["/proc".into(), "/sys".into(), "/images/a b/proc".into()],
    }
}
