#![no_main]

use std::sync::LazyLock;

use engine::seal::Keys;
use engine::trust::Trust;
use libfuzzer_sys::fuzz_target;

static CONTEXT: LazyLock<(Trust, Keys)> = LazyLock::new(|| {
    let keys = Keys::parse(&Keys::generate_text()).expect("keys");
    (entries::sample_upload().0, keys)
});

fuzz_target!(|bytes: &[u8]| engine::fuzzing::import_columns(&CONTEXT.0, &CONTEXT.1, bytes));
