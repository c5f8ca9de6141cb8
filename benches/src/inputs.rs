//! Shared by all benches: sizes, the time of day, seeded identities, and how much work to do.

use engine::domain::{KeyIdentity, UnixMillis};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keys in an upload: the smallest, a small backend's, and the largest that there is.
pub const SIZES: [u32; 3] = [1, 100, 5000];

/// The largest upload.
pub const FULL: u32 = 5000;

/// 2021-06-01T12:00:00Z, when the certificates of the fixtures are valid.
pub const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

/// Whether this run measures (`cargo bench`) or only checks that the bench works (`cargo test`).
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// `full` for a measurement, `small` for a check.
pub fn scaled(full: usize, small: usize) -> usize {
    if measures() { full } else { small }
}

/// Random identities, unrelated to any key.
pub fn random_identities(seed: u64, count: usize) -> Vec<KeyIdentity> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut identity = || {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        KeyIdentity(bytes)
    };
    (0..count).map(|_| identity()).collect()
}
