//! Ids in a user namespace.

use core::ffi::CStr;

use orlop_init::plan::Step;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::progress::{At, Fail};
use crate::sys;

/// Becomes the namespace's root, or where it maps none the user given, with all capabilities that
/// it has in the namespace.
///
/// The capabilities that the process was born with came through execve(2) as ambient ones: no
/// program that it starts shall have them by itself.
pub(crate) fn become_setter(uid: u32, gid: u32) -> Result<(), Fail> {
    let set_gid = |gid| {
        let gid = Gid::from_raw(gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid)
    };
    let set_uid = |uid| {
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    or_else_mapped(set_gid, gid).at(Step::SetGroup)?;
    or_else_mapped(set_uid, uid).at(Step::Whole)?;
    sys::clear_ambient().at(Step::Whole)?;
    // Another user's, so the kernel has made it what fs.suid_dumpable says.
    sys::set_undumpable().at(Step::Whole)
}

/// Zero, or where the namespace does not map that (EINVAL), the other id.
fn or_else_mapped(set: impl Fn(u32) -> Result<(), Errno>, other: u32) -> Result<(), Errno> {
    match set(0) {
        Err(Errno::INVAL) if other != 0 => set(other),
        result => result,
    }
}

/// Compares the maps of this process's user namespace with those that config.json has.
pub(crate) fn check_maps(uids: &[u8], gids: &[u8]) -> Result<(), Fail> {
    check_map(c"/proc/self/uid_map", uids)?;
    check_map(c"/proc/self/gid_map", gids)
}

fn check_map(path: &CStr, wanted: &[u8]) -> Result<(), Fail> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).at(Step::ReadMaps)?;
    // In any order: the kernel sorts long maps. Its ranges never overlap, so that none counts twice.
    let (wanted, _) = wanted.as_chunks::<12>();
    let mut numbers = Numbers::of(&file);
    let mut count = 0;
    while let Some(range) = numbers.next_range().at(Step::ReadMaps)? {
        if !wanted.contains(&range) {
            return Err(Fail::new(Step::OtherMaps));
        }
        count += 1;
    }
    if count == wanted.len() { Ok(()) } else { Err(Fail::new(Step::OtherMaps)) }
}

/// The decimal numbers of a file of procfs.
struct Numbers<'a> {
    file: &'a OwnedFd,
    buffer: [u8; 256],
    filled: usize,
    at: usize,
}

impl<'a> Numbers<'a> {
    fn of(file: &'a OwnedFd) -> Self {
        Self { file, buffer: [0; 256], filled: 0, at: 0 }
    }

    fn byte(&mut self) -> Result<Option<u8>, Errno> {
        if self.at == self.filled {
            self.filled =
                rustix::io::retry_on_intr(|| rustix::io::read(self.file, &mut self.buffer))?;
            self.at = 0;
        }
        let byte = self.buffer.get(self.at..self.filled).and_then(|rest| rest.first()).copied();
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    /// Three numbers, in the plan's form.
    fn next_range(&mut self) -> Result<Option<[u8; 12]>, Errno> {
        let mut range = [0; 12];
        for word in range.as_chunks_mut::<4>().0 {
            match self.next()? {
                Some(number) => *word = number.to_le_bytes(),
                None => return Ok(None),
            }
        }
        Ok(Some(range))
    }

    fn next(&mut self) -> Result<Option<u32>, Errno> {
        let mut number = None;
        while let Some(byte) = self.byte()? {
            if byte.is_ascii_digit() {
                let digit = u32::from(byte - b'0');
                number = Some(number.unwrap_or(0_u32).wrapping_mul(10).wrapping_add(digit));
            } else if number.is_some() {
                break;
            }
        }
        Ok(number)
    }
}
