//! What several parts of the suite measure: uploads per second, and ratios of two series of rounds.

use std::time::Duration;

use crate::deployment::{Deployment, RunningGateway, send_uploads};
use crate::http::{EncodedRequest, Route};
use benches::FULL;

/// Rounds of measurements that take seconds; medians are taken over them.
pub(super) const ROUNDS: usize = 9;
/// Full uploads in a round of ingest: half a million keys.
pub(super) const UPLOADS_PER_ROUND: usize = 100;
/// Connections that upload: as many as Europe's larger participants together would have open.
pub(super) const CONNECTIONS: usize = 16;

pub(super) fn keys_per_second(keys: usize, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(keys).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

/// Divides element by element.
pub(super) fn ratio_of(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a / b).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of keys and bytes stay below 2^53"
)]
pub(super) const fn as_f64(number: u64) -> f64 {
    number as f64
}

pub(super) fn mebibytes(bytes: u64) -> f64 {
    as_f64(bytes) / f64::from(1 << 20)
}

/// Keys per second of one round; the uploads are signed before.
pub(super) fn rate(deployment: &Deployment, running: &RunningGateway) -> anyhow::Result<f64> {
    let uploads = deployment.uploads(UPLOADS_PER_ROUND, FULL);
    rate_over(&[Route::Plain(running.proxy)], &uploads)
}

pub(super) fn rate_over(routes: &[Route], uploads: &[EncodedRequest]) -> anyhow::Result<f64> {
    let sent = send_uploads(routes, CONNECTIONS, uploads)?;
    Ok(keys_per_second(uploads.len() * FULL as usize, sent.elapsed))
}
