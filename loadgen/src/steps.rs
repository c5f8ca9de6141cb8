//! The three steps of a run, each with its progress bar: prepare, upload, download.

use std::sync::Arc;

use engine::clock::{Clock, SystemClock};
use rustls_pki_types::CertificateDer;
use tokio::task::{JoinError, spawn_blocking};

use crate::client::Caller;
use crate::participants::Participant;
use crate::profiles::{Profile, Profiles};
use crate::progress;
use crate::record::Record;
use crate::verify::{
    Auditor, Expected, SigningCertificate, Verdict, VerifyError, VerifyOptions, verify,
};
use crate::workload::{PreparedUpload, UnknownParticipant, Workload};

/// Why a step stopped.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A participant has no certificates.
    #[error(transparent)]
    Unknown(#[from] UnknownParticipant),
    /// The downloads stopped.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Work on another thread failed.
    #[error(transparent)]
    Task(#[from] JoinError),
}

/// Makes and signs today's uploads.
///
/// # Errors
/// When a participant has no certificates.
pub async fn prepare(
    participants: Arc<Vec<Participant>>,
    profiles: &Profiles,
    profile: &Profile,
    seed: u64,
) -> Result<(Workload, Vec<PreparedUpload>), StepError> {
    let countries: Vec<_> = participants.iter().map(|someone| someone.country).collect();
    let now = SystemClock.now();
    let shares = profiles.share(profile, &countries);
    let workload = Workload::new(seed, profile.upload_keys, now.day(), &shares);
    let bar = progress::bar("preparing", Some(profile.keys));
    let preparing = spawn_blocking(move || {
        let uploads = workload.prepare(&participants, now, |keys| bar.inc(u64::from(keys)));
        bar.finish_and_clear();
        uploads.map(|uploads| (workload, uploads))
    });
    Ok(preparing.await??)
}

/// Downloads as every participant and checks: by the audit and the trust anchor, and by the records
/// if there are any.
///
/// # Errors
/// When a record does not fit the certificates, or a download fails for good.
pub async fn download(
    callers: &[Arc<Caller>],
    participants: Arc<Vec<Participant>>,
    records: Vec<Record>,
    trust_anchor: &CertificateDer<'_>,
    options: &VerifyOptions,
) -> Result<Verdict, StepError> {
    let anchor = SigningCertificate::from_der(trust_anchor).map_err(VerifyError::TrustAnchor)?;
    let auditor = Auditor::new(anchor);
    let expecting = spawn_blocking(move || Expected::of(&records, &participants));
    let expected = Arc::new(expecting.await??);
    let due: u64 = callers
        .iter()
        .map(|caller| expected.keys_for(caller.country))
        .sum();
    // Without a record, whatever is stored is verified.
    let bar = progress::bar("verifying", (due > 0).then_some(due));
    let ticking = bar.clone();
    let verdict = verify(callers, expected, auditor, options, move |keys| {
        ticking.inc(keys);
    })
    .await?;
    bar.finish_and_clear();
    Ok(verdict)
}
