//! Facts about the host and the calling process.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::compile::{HostFacts, IdMap, IdMaps};
use crate::error::{Error, Result};

/// The last capability of every kernel since 5.9 (CAP_CHECKPOINT_RESTORE).
const LAST_CAPABILITY: u8 = 40;

impl HostFacts {
    /// Looks at the host. `own_cgroup` is read only where it matters.
    ///
    /// # Errors
    /// procfs cannot be read, or something else of what a plan depends on.
    pub(crate) fn probe(own_cgroup_matters: bool) -> Result<Self> {
        let in_user_namespace = in_user_namespace()?;
        Ok(Self {
            unprivileged: !rustix::process::geteuid().is_root(),
            in_user_namespace,
            setgroups_denied: in_user_namespace && is_setgroups_denied("self")?,
            last_capability: LAST_CAPABILITY,
            own_cgroup: if own_cgroup_matters { own_cgroup()? } else { String::new() },
            manager_cgroup: String::new(),
            kcore: fs::exists("/proc/kcore")
                .map_err(|error| Error::sys("cannot look for \"/proc/kcore\"", &error))?,
            apparmor: apparmor_in_force()
                .map_err(|errno| Error::sys("cannot find out about AppArmor", errno))?,
            selinux: selinux_in_force()
                .map_err(|errno| Error::sys("cannot find out about SELinux", errno))?,
            whole_pseudo_filesystems: Vec::new(),
        })
    }
}

/// Where procfs and sysfs are mounted as a whole, the last mounted first.
///
/// # Errors
/// procfs cannot be read.
pub(crate) fn whole_pseudo_filesystems() -> Result<Vec<PathBuf>> {
    let path = "/proc/thread-self/mountinfo";
    let text = fs::read(path);
    let text = text.map_err(|error| Error::sys(format!("cannot read {path:?}"), &error))?;
    let mut paths: Vec<_> =
        text.split(|byte| *byte == b'\n').filter_map(whole_pseudo_filesystem).collect();
    paths.reverse();
    Ok(paths)
}

/// The place of a mount, if it is one of procfs or sysfs as a whole, from a line of
/// `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn whole_pseudo_filesystem(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let place = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (root == b"/" && matches!(kind, b"proc" | b"sysfs")).then(|| unescaped(place))
}

/// A path as mountinfo has it: space, tab, newline and backslash are three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(*first));
        rest = after.get(if byte.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    PathBuf::from(OsString::from_vec(path))
}

/// The same open file under another number, above the standard streams.
///
/// # Errors
/// The caller has too many.
pub(crate) fn duplicate(file: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(file, 3)
        .map_err(|errno| Error::sys("cannot duplicate a descriptor", errno))
}

/// Whether the calling process is in another user namespace than the first.
///
/// # Errors
/// procfs cannot be read.
fn in_user_namespace() -> Result<bool> {
    /// The number of the first one's file is fixed (`PROC_USER_INIT_INO`, since Linux 3.8).
    const FIRST: u64 = 0xeffffffd;
    const PATH: &str = "/proc/self/ns/user";
    let stat = rustix::fs::stat(PATH);
    let stat = stat.map_err(|errno| Error::sys(format!("cannot look at {PATH:?}"), errno))?;
    Ok(stat.st_ino != FIRST)
}

/// The ids of a process's user namespace, as this process's numbers them.
///
/// # Errors
/// It has ended.
pub(crate) fn id_maps(pid: i32) -> Result<IdMaps> {
    let read = |name: &str| {
        // A map of many ranges is longer than a page.
        let path = format!("/proc/{pid}/{name}");
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| Error::sys(format!("cannot read {path:?}"), &error))?;
        Ok(IdMap::read(&text))
    };
    Ok(IdMaps { users: read("uid_map")?, groups: read("gid_map")? })
}

/// Whether setgroups(2) is denied in a process's user namespace.
///
/// # Errors
/// It has ended.
pub(crate) fn is_setgroups_denied(pid: impl fmt::Display) -> Result<bool> {
    let path = format!("/proc/{pid}/setgroups");
    let text = read(&path).map_err(|errno| Error::sys(format!("cannot read {path:?}"), errno))?;
    Ok(text.trim() == "deny")
}

/// Whether the kernel has AppArmor switched on.
fn apparmor_in_force() -> rustix::io::Result<bool> {
    let text = if_there(read("/sys/module/apparmor/parameters/enabled"))?;
    Ok(text.is_some_and(|text| text.starts_with('Y')))
}

/// Whether the kernel has SELinux switched on: its filesystem is mounted then, and a policy
/// loaded, as only without one every process is labelled "kernel".
fn selinux_in_force() -> rustix::io::Result<bool> {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    let mounted = if_there(rustix::fs::statfs("/sys/fs/selinux"))?;
    if mounted.is_none_or(|stat| stat.f_type != SELINUX_MAGIC) {
        return Ok(false);
    }
    let label = read("/proc/thread-self/attr/current")?;
    Ok(label.trim_end_matches(['\0', '\n']) != "kernel")
}

/// `None` where there is no such file: no other failure says that something is not there.
fn if_there<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The processes of a process's pid namespace, or that process alone, sorted.
///
/// # Errors
/// procfs cannot be read.
pub(crate) fn pids_beside(pid: i32, all: bool) -> Result<Vec<i32>> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(pid).filter(|_| all) else { return Ok(vec![pid]) };
    let failed = |error: std::io::Error| Error::sys("cannot read \"/proc\"", &error);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        pids.extend(number.filter(|number| namespace(*number).as_ref() == Some(&own)));
    }
    pids.sort_unstable();
    Ok(pids)
}

/// The calling process's cgroup in the unified hierarchy.
///
/// # Errors
/// procfs cannot be read.
fn own_cgroup() -> Result<String> {
    cgroup_file("/proc/self/cgroup")
}

/// The cgroup of another process in the unified hierarchy.
///
/// # Errors
/// It has ended.
pub(crate) fn cgroup_of(pid: i32) -> Result<String> {
    cgroup_file(&format!("/proc/{pid}/cgroup"))
}

fn cgroup_file(path: &str) -> Result<String> {
    let text = read(path).map_err(|errno| Error::sys(format!("cannot read {path:?}"), errno))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.unwrap_or("/").to_owned())
}

/// Reads the beginning of a file of procfs in one call: the kernel gives as much as there is room
/// for, and what is looked for here stands in the first page.
fn read(path: &str) -> rustix::io::Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 4096];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))?;
    Ok(String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned())
}

/// The signals that the calling process ignores: bit n-1 for signal n. A new program would inherit
/// that.
///
/// # Errors
/// procfs cannot be read.
pub(crate) fn ignored_signals() -> Result<u64> {
    let path = "/proc/thread-self/status";
    let text = read(path).map_err(|errno| Error::sys(format!("cannot read {path:?}"), errno))?;
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
}

/// The time at which a process started, in clock ticks since boot (proc(5), stat, field 22): with
/// the pid it names a process for good.
///
/// # Errors
/// `None` where there is no such process, or only its zombie.
pub(crate) fn start_time(pid: i32) -> Result<Option<u64>> {
    let Some(fields) = stat(pid)? else { return Ok(None) };
    let mut fields = fields.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Ok(None);
    }
    Ok(fields.nth(18).and_then(|field| field.parse().ok()))
}

/// Whether a process is there no more, or on its way out (proc(5), stat, field 9: `PF_EXITING`), which is some time
/// before it is a zombie: its descriptors are closed, and that of a pid namespace waits for all others of it.
///
/// # Errors
/// procfs cannot be read.
pub(crate) fn is_exiting(pid: i32) -> Result<bool> {
    const PF_EXITING: u64 = 4;
    let Some(fields) = stat(pid)? else { return Ok(true) };
    let flags = fields.split_whitespace().nth(6).and_then(|field| field.parse::<u64>().ok());
    Ok(flags.is_some_and(|flags| flags & PF_EXITING != 0))
}

/// The fields of `/proc/PID/stat` from the third on, which is the state; `None` where there is no such process.
fn stat(pid: i32) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/stat");
    match read(&path) {
        // The name may hold anything, even ") Z": the fields begin after its last parenthesis.
        Ok(text) => Ok(text.rsplit_once(')').map(|(_, fields)| fields.to_owned())),
        // ESRCH: the process died between open and read.
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(Error::sys(format!("cannot read {path:?}"), errno)),
    }
}

/// Waits until one of the descriptors has an event; whether one has, in that time.
///
/// # Errors
/// The kernel has no memory for it.
pub(crate) fn poll(events: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<bool, Errno> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(crate::supervise::hooks::timespec);
        match rustix::event::poll(events, left.as_ref()) {
            Err(Errno::INTR) => {}
            result => return result.map(|count| count > 0),
        }
    }
}

/// The present time as RFC 3339 with nanoseconds, UTC.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.unwrap_or_default())
}

fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, counted from 1 March of the year 0, so that the
    // leap day is a year's last: eras of 400 years have 146,097 days.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pseudo_filesystems_are_told_from_parts_and_others() {
        let place = |line: &str| whole_pseudo_filesystem(line.as_bytes());
        let line = "25 30 0:23 / /a\\040b\\134/proc rw,nosuid shared:5 master:1 - proc proc rw";
        assert_eq!(place(line), Some(PathBuf::from("/a b\\/proc")));
        assert_eq!(place("26 30 0:22 / /sys rw - sysfs sysfs rw"), Some(PathBuf::from("/sys")));
        assert_eq!(place("26 30 0:22 /sys /proc/sys ro - proc proc rw"), None);
        assert_eq!(place("26 30 0:24 / /dev rw - devtmpfs udev rw"), None);
        assert_eq!(place(""), None);
        assert!(whole_pseudo_filesystems().unwrap().contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn times_are_dates_of_the_gregorian_calendar() {
        let at = |seconds| rfc3339(Duration::new(seconds, 5));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000000005Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000005Z");
        assert_eq!(at(1_795_305_600), "2026-11-22T00:00:00.000000005Z");
    }

    #[test]
    fn a_process_has_a_start_time_and_a_missing_one_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).unwrap().is_some());
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }

    #[test]
    fn a_process_that_runs_does_not_exit_and_a_zombie_does() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_exiting(own).unwrap() && is_exiting(i32::MAX).unwrap());
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while start_time(pid).unwrap().is_some() {}
        assert!(is_exiting(pid).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
