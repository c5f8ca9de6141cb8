//! Metrics that are looked up when an operator asks for them, rather than counted.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::Engine;
use crate::domain::{CertificateKind, Country};
use crate::limits;
use crate::locks::LockIgnoringPoison;

impl Engine {
    /// Sets the metrics that are looked up. A scrape costs some microseconds per participant.
    pub fn measure(&self) {
        self.walk.allowance.measure();
        self.measure_log();
        self.measure_bounds();
        self.measure_participants();
    }

    /// A metric that was shown once stays: one that has been removed is behind by nothing.
    fn measure_participants(&self) {
        static SHOWN: Mutex<BTreeSet<Country>> = Mutex::new(BTreeSet::new());
        let participants = self.participants();
        let mut shown = SHOWN.lock_ignoring_poison();
        shown.extend(&participants);
        for &country in &*shown {
            let behind = match participants.contains(&country) {
                true => self.batches_behind(country),
                false => 0,
            };
            show_of("efgs_download_batches_behind", country, behind);
        }
    }

    /// Whoever may connect: the countries of trusted authentication certificates, valid or not.
    pub fn participants(&self) -> Vec<Country> {
        let trust = self.trust();
        let listed = trust.certificates().filter(|listed| {
            listed.row.kind == CertificateKind::Authentication && listed.is_in_force()
        });
        let mut countries: Vec<_> = listed.map(|listed| listed.row.country).collect();
        countries.sort_unstable();
        countries.dedup();
        countries
    }

    /// How many download batches a participant has not downloaded that it can: after the newest that
    /// it has, as of a few seconds ago.
    pub fn batches_behind(&self, country: Country) -> u64 {
        let newest = self.downloads.newest_of(country);
        self.serve.catalog().count_behind(newest) as u64
    }

    fn measure_log(&self) {
        let position = self.writer.position().0;
        let newest = self.serve.catalog().newest();
        // Without any batch in memory nobody knows here what was cut before.
        let waiting = newest.map(|batch| position.saturating_sub(*batch.seqs.end()));
        show("efgs_log_position", position);
        show("efgs_uploads_waiting", waiting.unwrap_or_default());
        show("efgs_identities", self.writer.set.len());
        show("efgs_epoch", self.continuity.epoch().number);
    }

    fn measure_bounds(&self) {
        let settings = &self.walk.settings;
        let cache_bytes = settings.bundle.cache_bytes_max;
        let audit_bytes = limits::audit_cache_bytes_max(cache_bytes);
        for (name, max) in [
            (
                "efgs_admission_in_flight_batches_max",
                settings.upload.batches_in_flight_max,
            ),
            (
                "efgs_admission_in_flight_bytes_max",
                settings.upload.bytes_in_flight_max,
            ),
            ("efgs_bundle_cache_bytes_max", cache_bytes - audit_bytes),
            ("efgs_audit_cache_bytes_max", audit_bytes),
        ] {
            show(name, max as u64);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn show(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn show_of(name: &'static str, country: Country, value: u64) {
    metrics::gauge!(name, "country" => country.to_string()).set(value as f64);
}
