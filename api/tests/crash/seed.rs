//! The seed of a run.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// `EFGS_SEED`, or 1.
pub(crate) fn seed() -> u64 {
    number("EFGS_SEED").unwrap_or(1)
}

/// `EFGS_CRASHES`, or a default.
pub(crate) fn crashes(by_default: u64) -> u64 {
    number("EFGS_CRASHES").unwrap_or(by_default)
}

/// Randomness of one task of a test: the same for the same names.
pub(crate) fn random(test: &str, task: usize) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    bytes[8..16].copy_from_slice(&task.to_le_bytes());
    for (byte, letter) in bytes[16..].iter_mut().zip(test.bytes().rev()) {
        *byte = letter;
    }
    ChaCha8Rng::from_seed(bytes)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .expect("EFGS_SEED and EFGS_CRASHES are numbers"),
    )
}
