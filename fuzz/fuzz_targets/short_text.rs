#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| entries::short_text(text));
