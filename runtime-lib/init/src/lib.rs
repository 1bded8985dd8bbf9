//! The wire form of a plan: what the library writes and the init reads.
#![no_std]
#![forbid(unsafe_code)]

pub mod plan;
pub mod wire;
