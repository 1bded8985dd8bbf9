//! What the payload can be told to do.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Pid, Uid};
use serde_json::{Value, json};

use crate::{Reply, facts, sys};

/// The errno of a standard library's error.
fn errno(error: &std::io::Error) -> Errno {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code),
        None if error.kind() == ErrorKind::InvalidInput => Errno::EINVAL,
        None => Errno::EIO,
    }
}

fn io<T>(result: std::io::Result<T>) -> nix::Result<T> {
    result.map_err(|e| errno(&e))
}

fn done(result: nix::Result<()>) -> Reply {
    result.map(|()| Value::Null)
}

/// A number in decimal, octal (0o) or hexadecimal (0x).
fn number(text: &str) -> i64 {
    let parsed = if let Some(hex) = text.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).map(|n| n.cast_signed())
    } else if let Some(octal) = text.strip_prefix("0o") {
        i64::from_str_radix(octal, 8)
    } else {
        text.parse()
    };
    parsed.unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn int<T: TryFrom<i64>>(text: &str) -> T {
    T::try_from(number(text)).unwrap_or_else(|_| panic!("out of range: {text:?}"))
}

/// What an action's fields are.
struct Fields<'a>(Vec<&'a str>);

impl Fields<'_> {
    fn at(&self, index: usize) -> &str {
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// Does one action.
pub(crate) fn act(name: &str, rest: &str) -> Reply {
    let f = Fields(rest.split(' ').collect());
    match name {
        "facts" => Ok(facts::facts()),
        "echo" => Ok(json!(rest)),
        "watch" => Ok(crate::watch::watch(int(f.at(0)), f.at(1))),
        "exit" => std::process::exit(int(rest)),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(int::<u64>(rest)));
            Ok(Value::Null)
        }
        "forever" => loop {
            nix::unistd::pause();
        },
        "wait-file" => {
            while !Path::new(rest).exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(Value::Null)
        }
        "copy-fd" | "save-facts" | "save-ns" | "save-statfs" => save(name, &f),
        "read" | "read-fd" | "write" | "create" | "append" | "open" | "opens" | "stat"
        | "lstat" | "ls" | "readlink" | "find-file" => files(name, rest, &f),
        "mkdir" | "rmdir" | "unlink" | "symlink" | "rename" | "chmod" | "chown" | "mknod"
        | "access" => changes(name, rest, &f),
        "kill" | "signal" | "forks" | "leave" | "touch" | "exec" | "reap" | "pids" => {
            processes(name, rest, &f)
        }
        _ => system(name, rest, &f),
    }
}

/// Writes what hooks find into files: their output goes nowhere.
fn save(name: &str, f: &Fields<'_>) -> Reply {
    let (path, text) = match name {
        "copy-fd" => {
            let mut all = Vec::new();
            loop {
                let part = sys::read(int(f.at(0)))?;
                if part.is_empty() {
                    break (f.at(1), String::from_utf8_lossy(&all).into_owned());
                }
                all.extend(part);
            }
        }
        "save-facts" => (f.at(0), facts::facts().to_string()),
        "save-ns" => {
            let link = io(std::fs::read_link("/proc/self/ns/uts"))?;
            (f.at(0), link.to_string_lossy().into_owned())
        }
        _ => {
            let kind = nix::sys::statfs::statfs(f.at(1))?.filesystem_type();
            (f.at(0), format!("{:#x}", kind.0))
        }
    };
    done(io(std::fs::write(path, text)))
}

fn kind(metadata: &std::fs::Metadata) -> &'static str {
    let t = metadata.file_type();
    [
        (t.is_symlink(), "link"),
        (t.is_dir(), "directory"),
        (t.is_char_device(), "char"),
        (t.is_block_device(), "block"),
        (t.is_fifo(), "fifo"),
        (t.is_socket(), "socket"),
    ]
    .iter()
    .find(|(is, _)| *is)
    .map_or("file", |(_, name)| name)
}

fn metadata(m: &std::fs::Metadata) -> Value {
    json!({
        "kind": kind(m), "mode": m.mode() & 0o7777, "uid": m.uid(), "gid": m.gid(), "size": m.size(),
        "major": nix::sys::stat::major(m.rdev()), "minor": nix::sys::stat::minor(m.rdev()),
        "dev": m.dev(), "ino": m.ino(), "nlink": m.nlink()
    })
}

fn files(name: &str, rest: &str, f: &Fields<'_>) -> Reply {
    let bytes = |b: &[u8]| json!(String::from_utf8_lossy(b));
    let written = |options: &mut OpenOptions| {
        let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
        io(options.open(path).and_then(|mut file| file.write_all(text.as_bytes())))
            .map(|()| Value::Null)
    };
    match name {
        "read" => {
            // Some files (tty, kmsg) never end: what comes at once is enough.
            let mut buffer = vec![0; 1 << 16];
            let mut file = io(File::open(rest))?;
            let mut length = 0;
            loop {
                let n = io(file.read(&mut buffer[length..]))?;
                length += n;
                if n == 0 || length == buffer.len() {
                    return Ok(bytes(&buffer[..length]));
                }
            }
        }
        "read-fd" => sys::read(int(rest)).map(|b| bytes(&b)),
        "write" => written(OpenOptions::new().write(true)),
        "create" => written(OpenOptions::new().write(true).create(true).truncate(true)),
        "append" => written(OpenOptions::new().append(true).create(true)),
        "open" => {
            let how = f.at(1);
            let mut options = OpenOptions::new();
            options.read(how.contains('r') || how.is_empty()).write(how.contains('w'));
            io(options.open(f.at(0))).map(|_| Value::Null)
        }
        "stat" => io(std::fs::metadata(rest)).map(|m| metadata(&m)),
        "lstat" => io(std::fs::symlink_metadata(rest)).map(|m| metadata(&m)),
        "opens" => {
            let mut files = Vec::new();
            let most: usize = int(rest);
            while files.len() < most {
                match File::open("/") {
                    Ok(file) => files.push(file),
                    Err(e) => return Ok(json!({"made": files.len(), "errno": errno(&e) as i32})),
                }
            }
            Ok(json!({"made": files.len(), "errno": 0}))
        }
        "readlink" => io(std::fs::read_link(rest)).map(|p| json!(p.to_string_lossy())),
        "ls" => {
            let mut names = Vec::new();
            for entry in io(std::fs::read_dir(rest))? {
                names.push(io(entry)?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(json!(names))
        }
        _ => Ok(json!(found(Path::new("/"), rest, 12))),
    }
}

/// The first path to a file of that name, without following links.
fn found(directory: &Path, name: &str, depth: u32) -> Option<String> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy() == name {
            return Some(path.to_string_lossy().into_owned());
        }
        let skipped = depth == 0 || path == Path::new("/proc") || path == Path::new("/sys");
        if !skipped && entry.file_type().is_ok_and(|t| t.is_dir()) {
            let below = found(&path, name, depth - 1);
            if below.is_some() {
                return below;
            }
        }
    }
    None
}

fn changes(name: &str, rest: &str, f: &Fields<'_>) -> Reply {
    match name {
        "mkdir" => done(io(std::fs::create_dir(rest))),
        "rmdir" => done(io(std::fs::remove_dir(rest))),
        "unlink" => done(io(std::fs::remove_file(rest))),
        "symlink" => done(io(std::os::unix::fs::symlink(f.at(0), f.at(1)))),
        "rename" => done(io(std::fs::rename(f.at(0), f.at(1)))),
        "chmod" => done(io(std::fs::set_permissions(
            f.at(1),
            std::fs::Permissions::from_mode(int(f.at(0))),
        ))),
        "chown" => {
            done(io(std::os::unix::fs::chown(f.at(2), Some(int(f.at(0))), Some(int(f.at(1))))))
        }
        "mknod" => {
            let kind = match f.at(1) {
                "b" => SFlag::S_IFBLK,
                "p" => SFlag::S_IFIFO,
                _ => SFlag::S_IFCHR,
            };
            let device = if f.at(2).is_empty() { 0 } else { makedev(int(f.at(2)), int(f.at(3))) };
            done(mknod(f.at(0), kind, Mode::from_bits_truncate(0o666), device))
        }
        _ => sys::call_path(
            libc::SYS_faccessat,
            f.at(1),
            1,
            [i64::from(libc::AT_FDCWD), 0, number(f.at(0)), 0, 0, 0],
        )
        .map(|_| Value::Null),
    }
}

fn processes(name: &str, rest: &str, f: &Fields<'_>) -> Reply {
    match name {
        "kill" => sys::call(libc::SYS_kill, [number(f.at(0)), number(f.at(1)), 0, 0, 0, 0])
            .map(|n| json!(n)),
        "signal" => Ok(json!(sys::wait_signal())),
        "forks" => Ok(sys::forks(int(rest))),
        "leave" => sys::leave_sleeper(),
        "touch" => Ok(sys::touch(int(rest))),
        "exec" => {
            use std::os::unix::process::CommandExt;
            Err(errno(&std::process::Command::new(f.at(0)).args(&f.0[1..]).exec()))
        }
        "reap" => sys::ended(Pid::from_raw(int(rest))),
        _ => {
            let mut pids = Vec::new();
            for entry in io(std::fs::read_dir("/proc"))?.flatten() {
                pids.extend(entry.file_name().to_string_lossy().parse::<i32>());
            }
            pids.sort_unstable();
            Ok(json!(pids))
        }
    }
}

fn system(name: &str, rest: &str, f: &Fields<'_>) -> Reply {
    let number_of = |result: nix::Result<i64>| result.map(|n| json!(n));
    match name {
        "mount" => {
            let data = Some(f.at(4)).filter(|d| !d.is_empty());
            let flags = MsFlags::from_bits_retain(int::<u64>(f.at(3)));
            done(mount(Some(f.at(0)), f.at(1), Some(f.at(2)), flags, data))
        }
        "umount" => done(umount2(rest, MntFlags::MNT_DETACH)),
        "statfs" => {
            let s = nix::sys::statfs::statfs(rest)?;
            Ok(
                json!({"type": s.filesystem_type().0, "size": s.blocks() * s.block_size().cast_unsigned(), "inodes": s.files()}),
            )
        }
        "sethostname" => done(nix::unistd::sethostname(rest)),
        "unshare" => done(nix::sched::unshare(CloneFlags::from_bits_retain(int(rest)))),
        "chroot" => done(nix::unistd::chroot(rest)),
        "chdir" => done(nix::unistd::chdir(rest)),
        "setuid" => {
            let id = Uid::from_raw(int(rest));
            done(nix::unistd::setresuid(id, id, id))
        }
        "setgid" => {
            let id = Gid::from_raw(int(rest));
            done(nix::unistd::setresgid(id, id, id))
        }
        "setgroups" => done(nix::unistd::setgroups(&[Gid::from_raw(int(rest))])),
        "window" => sys::window(int(rest)).map(|(rows, columns)| json!([rows, columns])),
        "syscall" => {
            let mut args = [0; 6];
            for (slot, text) in args.iter_mut().zip(&f.0[1..]) {
                *slot = number(text);
            }
            number_of(sys::call(number(f.at(0)), args))
        }
        "socket" => number_of(sys::call(
            libc::SYS_socket,
            [number(f.at(0)), number(f.at(1)), number(f.at(2)), 0, 0, 0],
        )),
        "listen" => done(io(std::net::TcpListener::bind(rest)).map(|_| ())),
        "connect-unix" => done(io(std::os::unix::net::UnixStream::connect(rest)).map(|_| ())),
        _ => panic!("no such action: {name}"),
    }
}
