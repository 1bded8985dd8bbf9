//! The program that becomes the container: it executes the plan that it was handed, then its last
//! operation replaces it by the container's program.
//!
//! It has no libc, no allocator and one thread. Its argv is `orlop-init FD`, where FD is the sealed
//! file of the plan; all other descriptors are named in the plan's header.
#![no_std]
#![no_main]

mod ops;
mod progress;
mod run;
mod sys;
