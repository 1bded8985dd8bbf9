//! The only unsafe code: the question for the kernel's next BPF program (bpf(2), `BPF_PROG_GET_NEXT_ID`).
#![allow(unsafe_code)]

use nix::libc;

/// `BPF_PROG_GET_NEXT_ID` of `enum bpf_cmd`.
const PROG_GET_NEXT_ID: libc::c_int = 11;

/// The beginning of `union bpf_attr` as that command reads and writes it.
#[repr(C)]
struct Attributes {
    start: u32,
    next: u32,
    flags: u32,
}

/// The smallest id above this one of a BPF program that is loaded.
pub(super) fn next_program(id: u32) -> Option<u32> {
    let mut attributes = Attributes { start: id, next: 0, flags: 0 };
    // SAFETY: the kernel reads and writes no more than the size that it is told, which is that of `attributes`; that
    // is alive and used by nobody else during the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_GET_NEXT_ID, &raw mut attributes, size_of::<Attributes>())
    };
    (result == 0).then_some(attributes.next)
}
