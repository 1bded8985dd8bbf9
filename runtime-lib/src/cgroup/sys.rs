//! bpf(2), as far as device programs need it.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

// Values of linux/bpf.h; the C library has none of them.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The part of `union bpf_attr` that a command reads, as an array of its 32-bit words: the union
/// has no padding that matters, and unset words must be zero.
type Attribute<const WORDS: usize> = [u32; WORDS];

/// Calls bpf(2) with an attribute of `WORDS` words.
///
/// # Safety
/// Every pointer within the attribute must be valid for what `command` does with it.
unsafe fn bpf<const WORDS: usize>(
    command: libc::c_int,
    attribute: &mut Aligned<WORDS>,
) -> Result<i32> {
    // SAFETY: the kernel reads and writes at most the size that is given, which is that of the
    // attribute; what the pointers within it need is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            std::mem::size_of::<Attribute<WORDS>>(),
        )
    };
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// The kernel's union holds 64-bit members.
#[repr(C, align(8))]
struct Aligned<const WORDS: usize>(Attribute<WORDS>);

/// The two words of a pointer, in the order in which a `u64` lies in memory.
fn words<T>(pointer: *const T) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = (pointer.expose_provenance() as u64).to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn word(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}

/// Takes a descriptor that bpf(2) has just returned (close-on-exec, as all of bpf's).
///
/// # Safety
/// `fd` must be open and owned by nobody.
unsafe fn own(fd: i32) -> OwnedFd {
    // SAFETY: as the caller promises.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program for device cgroups. With a `log` the verifier writes there what it dislikes.
#[doc(alias = "BPF_PROG_LOAD")]
pub(super) fn program_load(instructions: &[[u8; 8]], log: &mut [u8]) -> Result<OwnedFd> {
    let length = |size: usize| u32::try_from(size).map_err(|_| Errno::TOOBIG);
    let [code0, code1] = words(instructions.as_ptr());
    let [license0, license1] = words(c"Apache-2.0".as_ptr());
    let [log0, log1] = if log.is_empty() { [0, 0] } else { words(log.as_mut_ptr()) };
    let mut name = [0u8; 16];
    name.iter_mut().zip(b"orlop_devices").for_each(|(to, from)| *to = *from);
    let (chunks, _) = name.as_chunks::<4>();
    let mut attribute = Aligned([0; 16]);
    let fields = [
        TYPE_CGROUP_DEVICE,
        length(instructions.len())?,
        code0,
        code1,
        license0,
        license1,
        u32::from(!log.is_empty()), // log_level
        length(log.len())?,
        log0,
        log1,
        0, // kern_version
        0, // prog_flags
    ];
    let values = fields.into_iter().chain(chunks.iter().map(|chunk| u32::from_ne_bytes(*chunk)));
    attribute.0.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    // SAFETY: the instructions, their count, the license (a C string) and the log with its size
    // are all borrowed until the call has returned; the kernel keeps no pointer.
    let fd = unsafe { bpf(PROG_LOAD, &mut attribute) }?;
    // SAFETY: PROG_LOAD returns a new descriptor.
    Ok(unsafe { own(fd) })
}

/// Attaches a program beside those that are there, or in the place of one.
#[doc(alias = "BPF_PROG_ATTACH")]
pub(super) fn program_attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let flags = if replace.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI };
    let replaced = replace.map_or(0, |fd| word(fd.as_raw_fd()));
    let (cgroup, program) = (word(cgroup.as_raw_fd()), word(program.as_raw_fd()));
    let mut attribute = Aligned([cgroup, program, ATTACH_CGROUP_DEVICE, flags, replaced]);
    // SAFETY: there is no pointer in the attribute.
    unsafe { bpf(PROG_ATTACH, &mut attribute) }.map(drop)
}

/// Detaches a program.
#[doc(alias = "BPF_PROG_DETACH")]
pub(super) fn program_detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let (cgroup, program) = (word(cgroup.as_raw_fd()), word(program.as_raw_fd()));
    let mut attribute = Aligned([cgroup, program, ATTACH_CGROUP_DEVICE]);
    // SAFETY: there is no pointer in the attribute.
    unsafe { bpf(PROG_DETACH, &mut attribute) }.map(drop)
}

/// Fills `ids` with the ids of the programs that are attached to the cgroup itself; returns how
/// many there are.
#[doc(alias = "BPF_PROG_QUERY")]
pub(super) fn program_query(cgroup: BorrowedFd<'_>, ids: &mut [u32]) -> Result<usize> {
    const COUNT: usize = 6;
    let [ids0, ids1] = words(ids.as_mut_ptr());
    let count = u32::try_from(ids.len()).map_err(|_| Errno::TOOBIG)?;
    // 16 words: Linux 6.17 and later write the revision, the last two, whatever size is given.
    let mut attribute = Aligned([0; 16]);
    let fields = [word(cgroup.as_raw_fd()), ATTACH_CGROUP_DEVICE, 0, 0, ids0, ids1, count];
    attribute.0.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    // SAFETY: the kernel writes at most `count` ids to `ids`, which is borrowed for writing until
    // the call has returned, and its answers to the attribute.
    unsafe { bpf(PROG_QUERY, &mut attribute) }?;
    let count = attribute.0.get(COUNT).copied().unwrap_or_default();
    usize::try_from(count).map_err(|_| Errno::TOOBIG)
}

/// Opens a program by its id.
#[doc(alias = "BPF_PROG_GET_FD_BY_ID")]
pub(super) fn program_by_id(id: u32) -> Result<OwnedFd> {
    // SAFETY: there is no pointer in the attribute.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut Aligned([id])) }?;
    // SAFETY: PROG_GET_FD_BY_ID returns a new descriptor.
    Ok(unsafe { own(fd) })
}
