#![no_main]

use std::sync::LazyLock;

use engine::trust::Trust;
use entries::SignedUpload;
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<(Trust, SignedUpload)> = LazyLock::new(entries::sample_upload);

fuzz_target!(|body: &[u8]| entries::signed_body(&SAMPLE.0, &SAMPLE.1, body));
