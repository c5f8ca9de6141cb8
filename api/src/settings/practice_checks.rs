//! Reads `[practice]`, and refuses it where a gateway could be taken for a real one.

use std::time::Duration;

use super::exposure::is_for_development;
use super::practice::{Practice, PracticeSettings};
use super::source::{SettingsError, Source};

/// Reads the section; nothing unless it is enabled.
pub(super) fn read(
    source: &Source,
    section: &Practice,
) -> Result<Option<PracticeSettings>, SettingsError> {
    if !section.enabled {
        return Ok(None);
    }
    if section.pki.as_os_str().is_empty() {
        return Err(source.refuse("practice", "pki"));
    }
    Ok(Some(PracticeSettings {
        peers: section.peers.clone(),
        pki: source.resolve(&section.pki),
        upload_interval: Duration::from_secs(section.upload_seconds.into()),
        keys_kept: Duration::from_secs(60 * u64::from(section.keys_kept_minutes)),
    }))
}

/// Refuses practice with a trust anchor that is not the development PKI's: its participants would take
/// the gateway for a real one.
pub(super) fn check(source: &Source, trust_anchor_pem: &str) -> Result<(), SettingsError> {
    let begin = "-----BEGIN CERTIFICATE-----";
    let anchors = trust_anchor_pem.split(begin).skip(1);
    let mut anchors = anchors.map(|rest| format!("{begin}{rest}"));
    if anchors.all(|anchor| is_for_development(&anchor)) {
        return Ok(());
    }
    let must = "must be false: [trust_anchor] certificate is not of the development PKI that efgs init \
         makes, and a practice gateway deletes keys early and lets made-up countries upload";
    Err(source.error("practice", "enabled", must))
}
