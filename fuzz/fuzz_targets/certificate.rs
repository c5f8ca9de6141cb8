#![no_main]

use std::sync::LazyLock;

use engine::trust::{CertificateRow, TrustAnchors};
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<(TrustAnchors, CertificateRow)> = LazyLock::new(entries::sample_certificate);

fuzz_target!(|bytes: &[u8]| entries::certificate(&SAMPLE.0, &SAMPLE.1, bytes));
