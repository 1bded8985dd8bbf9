//! The plan's wire form, as the init reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| orlop::fuzzing::plan(bytes));
