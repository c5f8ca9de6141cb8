//! End-to-end verification: every participant downloads everything, and the audit of every batch.
//!
//! As a national backend would, it cuts the keys by the audit and proves every upload: certificates
//! by the operator's signatures, keys by the batch signature. With a record it also compares
//! them with what the others sent, which is generated again from the seed. The trust anchor's
//! certificate and the record do not come from the gateway, so the gateway is not trusted at all.

mod audit;
mod delivery;
mod download;
mod error;
mod expected;
mod options;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::domain::{BatchTag, Country};
use tokio::task::JoinSet;

pub use crate::client::signature::{CertificateError, Content, SignatureError, SigningCertificate};
use crate::client::{Caller, Connection, Target};
pub use audit::{Auditor, CertificateFailure, ProofFailure, Role};
pub use delivery::{Delivery, Findings, Received};
pub use error::VerifyError;
pub use expected::{Expected, ExpectedUpload};
pub use options::VerifyOptions;

use delivery::Delivered;

/// The result of a verification.
#[derive(Debug)]
pub struct Verdict {
    /// How many participants downloaded.
    pub participants: usize,
    /// Keys that arrived, summed over the participants.
    pub delivered: u64,
    /// Bytes of download batches, summed over the participants.
    pub bytes: u64,
    /// From the first request to the last response.
    pub elapsed: Duration,
    /// What is wrong.
    pub findings: Findings,
    /// The same by participant, for those with findings.
    pub by_country: Vec<(Country, Findings)>,
    /// Why uploads are not proven, and how often, summed over the participants.
    pub failures: BTreeMap<ProofFailure, u64>,
}

impl Verdict {
    /// Whether every participant received exactly what it should.
    pub fn is_clean(&self) -> bool {
        self.findings.is_clean()
    }
}

/// The counts, one line each where something is wrong.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            delivered,
            participants,
            bytes,
            ..
        } = self;
        write!(
            f,
            "delivered  {delivered} keys to {participants} participants, {bytes} bytes, in {:.3} s\nfindings   ",
            self.elapsed.as_secs_f64()
        )?;
        let counts = self
            .findings
            .counts()
            .map(|(name, count)| format!("{count} {name}"));
        f.write_str(&counts.join(", "))?;
        for (country, findings) in &self.by_country {
            let wrong = findings
                .counts()
                .into_iter()
                .filter(|(_, count)| *count > 0);
            let wrong: Vec<_> = wrong
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            write!(f, "\n        {country} {}", wrong.join(", "))?;
        }
        for (failure, count) in &self.failures {
            write!(f, "\nunproven   {count} uploads: {failure}")?;
        }
        Ok(())
    }
}

/// Downloads as every caller at once, follows the chain of batches until every acknowledged key has
/// come and no further batch is announced (or the wait ends), and checks what came. `progress` is
/// called with the keys of each batch, as they come.
///
/// # Errors
/// [`VerifyError`] when a download fails for good; what is wrong with the keys is in the verdict.
pub async fn verify(
    callers: &[Arc<Caller>],
    expected: Arc<Expected>,
    auditor: Auditor,
    options: &VerifyOptions,
    progress: impl Fn(u64) + Clone + Send + Sync + 'static,
) -> Result<Verdict, VerifyError> {
    let begun = Instant::now();
    let targets: Arc<[Target]> = options.targets.clone().into();
    let auditor = Arc::new(auditor);
    let mut running = JoinSet::new();
    for (number, caller) in (0..).zip(callers) {
        let connection = Connection::new(
            Arc::clone(caller),
            Arc::clone(&targets),
            number,
            options.timeout,
        );
        let delivery = Delivery::new(Arc::clone(&expected), Arc::clone(&auditor), caller.country);
        let (options, progress) = (options.clone(), progress.clone());
        running.spawn(download::follow(connection, delivery, options, progress));
    }
    let (mut deliveries, mut bytes) = (Vec::new(), 0);
    while let Some(followed) = running.join_next().await {
        let (delivery, downloaded) = followed??;
        bytes += downloaded;
        deliveries.push(delivery);
    }
    let elapsed = begun.elapsed();
    if expected.is_unrecorded() && !deliveries.iter().any(Delivery::has_batch) {
        return Err(VerifyError::NothingReceived { day: options.day });
    }
    let verdict = check_deliveries(&expected, deliveries, options.ignore_unknown);
    Ok(Verdict {
        bytes,
        elapsed,
        ..verdict
    })
}

/// Compares what the participants received with what they should have received, and with each
/// other. Pure.
pub fn check_deliveries(
    expected: &Expected,
    deliveries: Vec<Delivery>,
    ignore_unknown: bool,
) -> Verdict {
    let mut delivered: Vec<_> = deliveries.into_iter().map(Delivery::finish).collect();
    delivered.sort_by_key(|delivered| delivered.country);
    if expected.is_unrecorded() {
        number_alike(&mut delivered);
    }
    complain_of_half_delivered(expected, &mut delivered);
    let mut findings = Findings {
        disagreements: disagreements(&delivered),
        ..Findings::default()
    };
    let (mut by_country, mut failures) = (Vec::new(), BTreeMap::new());
    for delivered in &mut delivered {
        for (failure, count) in &delivered.failures {
            *failures.entry(*failure).or_default() += count;
        }
        if ignore_unknown {
            delivered.findings.unexpected = 0;
            delivered.findings.audit_unknown = 0;
        }
        findings.add(&delivered.findings);
        if !delivered.findings.is_clean() {
            by_country.push((delivered.country, delivered.findings));
        }
    }
    Verdict {
        participants: delivered.len(),
        delivered: delivered.iter().map(|delivered| delivered.keys).sum(),
        bytes: 0,
        elapsed: Duration::ZERO,
        findings,
        by_country,
        failures,
    }
}

/// Without a record every participant has numbered the uploads as they came: gives an upload the
/// same number everywhere.
fn number_alike(delivered: &mut [Delivered]) {
    let mut numbers = BTreeMap::new();
    for delivered in delivered {
        let mut renumbered = BTreeMap::new();
        for (content, number) in &delivered.contents {
            let next = numbers.len();
            renumbered.insert(*number, *numbers.entry(*content).or_insert(next));
        }
        for slice in &mut delivered.slices {
            slice.upload = renumbered
                .get(&slice.upload)
                .copied()
                .unwrap_or(slice.upload);
        }
    }
}

/// An unacknowledged upload must have reached either all others or none.
fn complain_of_half_delivered(expected: &Expected, delivered: &mut [Delivered]) {
    let seen: BTreeSet<usize> = delivered
        .iter()
        .flat_map(|delivered| &delivered.slices)
        .map(|slice| slice.upload)
        .collect();
    for delivered in delivered {
        let here: BTreeSet<usize> = delivered.slices.iter().map(|slice| slice.upload).collect();
        for &upload in seen.difference(&here) {
            let Some(upload) = expected.uploads.get(upload) else {
                continue;
            };
            if !upload.acknowledged && upload.country != delivered.country {
                delivered.findings.missing += upload.key_count as u64;
            }
        }
    }
}

/// Pairs of participants that received the uploads they both received in different orders, or in
/// batches of different names.
fn disagreements(delivered: &[Delivered]) -> u64 {
    let places: Vec<_> = delivered.iter().map(places).collect();
    let mut count = 0;
    for (index, places) in places.iter().enumerate() {
        for other in &delivered[index + 1..] {
            let shared = other.slices.iter().filter_map(|slice| {
                let place = places.get(&slice.upload);
                place.map(|&(place, batch)| (place, batch == slice.batch))
            });
            let same_batches = shared.clone().all(|(_, same_batch)| same_batch);
            count += u64::from(!same_batches || !shared.map(|(place, _)| place).is_sorted());
        }
    }
    count
}

/// For each upload, its place among the slices of a participant, and its batch.
fn places(delivered: &Delivered) -> HashMap<usize, (usize, Option<BatchTag>)> {
    let mut places = HashMap::with_capacity(delivered.slices.len());
    for (place, slice) in delivered.slices.iter().enumerate() {
        places.entry(slice.upload).or_insert((place, slice.batch));
    }
    places
}
