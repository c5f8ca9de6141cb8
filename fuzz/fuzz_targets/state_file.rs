#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| engine::fuzzing::state_file(text));
