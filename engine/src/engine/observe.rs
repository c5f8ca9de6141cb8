//! What operators and participants see of a running engine.

use super::Engine;
use super::status::{ParticipantLoad, Status};
use crate::allowance::QuotaUse;
use crate::limits;

impl Engine {
    /// What the engine is doing.
    pub fn status(&self) -> Status {
        Status {
            database_available: self.writer.health.answers(),
            database_refusal: self.writer.health.refusal(),
            log_position: self.writer.position().0,
            identities: self.writer.set.len(),
            newest_batch: self.serve.catalog().newest().map(|batch| batch.tag),
            cuts: self.bundler.cuts(),
            bundle_budget: self
                .bundler
                .budget()
                .filter(|_| self.walk.settings.bundle.paced),
            certificates: self.certificates_in_force(),
            certificate_list_fault: self.walk.trust.fault(),
            missing_sealing_keys: self.walk.key_ring.missing().to_vec(),
            failed: self.threads.have_failed(),
            went_back: self.continuity.mismatch().map(str::to_owned),
            state_file_writable: !self.continuity.write_failed(),
            day: self.calendar.status(),
            damaged_uploads: self.serve.damage().sentences(),
            memory: self.walk.allowance.watch_memory(),
        }
    }

    fn certificates_in_force(&self) -> usize {
        let trust = self.trust();
        let listed = trust.certificates();
        listed.filter(|listed| listed.is_in_force()).count()
    }

    /// The quotas of those participants that have stored keys today.
    pub fn quota_uses(&self) -> Vec<QuotaUse> {
        self.walk.allowance.quota_uses()
    }

    /// Most that one participant may have.
    pub fn participant_bounds(&self) -> ParticipantLoad {
        let (uploads, answers) = (self.admission.share(), self.serve.answer_shares());
        ParticipantLoad {
            uploads: uploads.batches as u64,
            upload_bytes: uploads.bytes as u64,
            bundle_bytes: answers.bundle_bytes as u64,
            audit_bytes: answers.audit_bytes as u64,
            cold_reads: limits::PARTICIPANT_COLD_READS_MAX as u64,
            callback_requests: limits::PARTICIPANT_CALLBACK_JOBS_MAX as u64,
            keys_today: self.walk.settings.quota.keys_per_day,
        }
    }

    /// The highest use of each bound by any participant.
    pub fn largest_use(&self) -> ParticipantLoad {
        let (uploads, answers) = (self.admission.largest(), self.serve.answers_most());
        let keys = self.quota_uses().into_iter().map(|used| used.keys);
        ParticipantLoad {
            uploads: uploads.batches as u64,
            upload_bytes: uploads.bytes as u64,
            bundle_bytes: answers.bundle_bytes as u64,
            audit_bytes: answers.audit_bytes as u64,
            cold_reads: self.serve.waiting_most() as u64,
            callback_requests: self.callbacks.waiting_most() as u64,
            keys_today: keys.max().unwrap_or_default(),
        }
    }
}
