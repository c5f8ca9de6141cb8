//! The inputs of the CPU stages, without an engine: a set of known identities, the certificate
//! list, keys, a manual clock.

use engine::ManualClock;
use engine::Overload;
use engine::admission::Admission;
use engine::dedup::{IdentitySetWriter, TagIndex};
use engine::domain::{Country, Seq};
use engine::seal::Keys;
use engine::settings::UploadSettings;
use engine::trust::Trust;
use engine::upload::{Allow, Prepared, SealedBatch, UploadContext, UploadRequest, prepare};

use crate::inputs::{NOON, random_identities, scaled};
use crate::installation::certificate_list;

/// Identities in the set: a quarter of Europe's worst day, more than the caches of a core hold.
const KNOWN: usize = 4_000_000;

/// Secret keys that only benches use: the same in every run, so that identities hash to the same
/// places in the set. 32 times the letter a, and the letter b.
const BENCH_KEYS: &str = "identity YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\n\
                          sealing 1 YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=\n";

/// The inputs of the CPU stages.
#[derive(Debug)]
pub struct StageFixture {
    /// The known identities.
    pub set: IdentitySetWriter,
    /// Keys of the installation.
    pub keys: Keys,
    /// The certificate list.
    pub trust: Trust,
    settings: UploadSettings,
    tags: TagIndex,
    clock: ManualClock,
    admission: Admission,
}

impl StageFixture {
    /// With four million known identities, or few if nothing is measured.
    pub fn full() -> Self {
        Self::with(scaled(KNOWN, 10_000))
    }

    /// With few known identities: instruction counts do not depend on cache misses.
    pub fn small() -> Self {
        Self::with(100_000)
    }

    fn with(known: usize) -> Self {
        let mut set = IdentitySetWriter::new(Seq::ZERO);
        set.insert(&random_identities(2, known), NOON.day(), Seq(1));
        Self {
            set,
            keys: Keys::parse(BENCH_KEYS).expect("the keys are well-formed"),
            trust: certificate_list(),
            settings: UploadSettings::default(),
            tags: TagIndex::default(),
            clock: ManualClock::new(NOON),
            admission: Admission::default(),
        }
    }

    /// Takes an upload through all CPU stages.
    ///
    /// # Panics
    /// When the upload is refused.
    pub fn walk(&self, request: &UploadRequest) -> Box<SealedBatch> {
        let context = UploadContext {
            settings: &self.settings,
            legacy_sha1: &[],
            pss: &[],
            keys: &self.keys,
            trust: &self.trust,
            set: self.set.shared(),
            tags: &self.tags,
            allowance: &Unlimited,
            clock: &self.clock,
        };
        let permit = self.admission.admit(request.country, request.body.len());
        match prepare(request, permit.expect("not full"), &context) {
            Ok(Prepared::Sealed(batch)) => batch,
            other => panic!("not ready to be stored: {other:?}"),
        }
    }
}

/// Allows every upload.
#[derive(Debug)]
struct Unlimited;

impl Allow for Unlimited {
    fn allow(&self, _: Country, _: u32) -> Result<(), Overload> {
        Ok(())
    }
}
