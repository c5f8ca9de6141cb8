//! A run's uploads: which participant sends which keys under which tag, prepared ahead of time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::domain::{Country, Day, UnixMillis, UploadTag};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use crate::digest::sha256;
use crate::keys::{KeyGenerator, Seed};
use crate::participants::Participant;
use crate::protocol::{Malformed, signed_bytes};
use crate::signer::Encoding;

/// One upload before its keys are generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSpec {
    /// The uploader.
    pub country: Country,
    /// Its number among the country's uploads, from 0.
    pub index: u32,
    /// Number of keys.
    pub key_count: u32,
    /// Its tag. The same run gives the same tags, so that a repeated run is a replay.
    pub tag: UploadTag,
}

/// All uploads of a run, derived from a few recorded values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Seed of every key.
    pub seed: Seed,
    /// The participating countries, which people travel between.
    pub countries: Vec<Country>,
    /// The uploads, by country and index.
    pub uploads: Vec<UploadSpec>,
}

/// An upload ready to be sent.
#[derive(Debug, Clone)]
pub struct PreparedUpload {
    /// Its specification.
    pub spec: UploadSpec,
    /// The body: protobuf.
    pub body: Bytes,
    /// The batch signature, in base64.
    pub batch_signature: String,
    /// SHA-256 over what was signed.
    pub signed_digest: [u8; 32],
}

/// The workload has a country that is not a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} has no certificates in the PKI folder")]
pub struct UnknownParticipant(pub Country);

impl Workload {
    /// Cuts each country's `shares` into uploads of `upload_keys`, the last one with the rest.
    pub fn new(number: u64, upload_keys: u32, day: Day, shares: &[(Country, u64)]) -> Self {
        let keys_total = shares.iter().map(|share| share.1).sum();
        let seed = Seed {
            number,
            keys_total,
            upload_keys,
            day,
        };
        let uploads = shares
            .iter()
            .flat_map(|&(country, keys)| cut(seed, country, keys));
        Self {
            seed,
            countries: shares.iter().map(|share| share.0).collect(),
            uploads: uploads.collect(),
        }
    }

    /// The generator of this run's keys.
    pub fn generator(&self) -> KeyGenerator {
        KeyGenerator::new(self.seed, &self.countries)
    }

    /// Makes and signs all uploads on all cores; `done` is called with each upload's keys.
    ///
    /// # Errors
    /// When a country of the workload is not among the participants.
    pub fn prepare(
        &self,
        participants: &[Participant],
        at: UnixMillis,
        done: impl Fn(u32) + Sync,
    ) -> Result<Vec<PreparedUpload>, UnknownParticipant> {
        let generator = self.generator();
        let prepare = |spec: &UploadSpec| {
            let country = spec.country;
            let participant = participants
                .iter()
                .find(|someone| someone.country == country);
            let participant = participant.ok_or(UnknownParticipant(country))?;
            let body = generator.body(country, spec.index, spec.key_count);
            let prepared = PreparedUpload::sign(spec.clone(), body, participant, at)
                .expect("the generator writes well-formed bodies");
            done(spec.key_count);
            Ok(prepared)
        };
        self.uploads.par_iter().map(prepare).collect()
    }
}

impl PreparedUpload {
    /// Signs a body as `participant`. Every other index is written in BER with indefinite lengths,
    /// so that a run exercises both encodings.
    ///
    /// # Errors
    /// When the body is not a batch of diagnosis keys.
    pub fn sign(
        spec: UploadSpec,
        body: Vec<u8>,
        participant: &Participant,
        at: UnixMillis,
    ) -> Result<Self, Malformed> {
        let signed_bytes = signed_bytes(&body)?;
        let encoding = match spec.index % 2 {
            0 => Encoding::Der,
            _ => Encoding::BerIndefinite,
        };
        let signed_digest = sha256(&signed_bytes);
        let signature = participant.signer.sign_digest(&signed_digest, at, encoding);
        Ok(Self {
            spec,
            body: body.into(),
            batch_signature: STANDARD.encode(signature),
            signed_digest,
        })
    }
}

fn cut(seed: Seed, country: Country, keys: u64) -> impl Iterator<Item = UploadSpec> {
    let full = u64::from(seed.upload_keys.max(1));
    (0u32..)
        .zip((0..keys).step_by(usize::try_from(full).unwrap_or(usize::MAX)))
        .map(move |(index, start)| UploadSpec {
            country,
            index,
            key_count: u32::try_from(full.min(keys - start)).expect("uploads count in 32 bits"),
            tag: upload_tag(seed, index),
        })
}

/// The tag of an upload: the same run gives the same tags.
pub fn upload_tag(seed: Seed, index: u32) -> UploadTag {
    let Seed {
        number,
        keys_total,
        upload_keys,
        day,
    } = seed;
    let day = day.compact_number();
    UploadTag::parse(&format!(
        "{day}-{number:x}-{keys_total:x}-{upload_keys:x}-{index}"
    ))
    .expect("at most 63 visible characters: 8, 16, 16, 8, 10 and four dashes, less one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    #[test]
    fn cuts_full_uploads_and_the_rest() {
        let day = Day::parse_iso("2021-06-01").unwrap();
        let shares = [
            (country("DE"), 12_001),
            (country("FR"), 5000),
            (country("MT"), 0),
        ];
        let workload = Workload::new(0x2a, 5000, day, &shares);
        let cut: Vec<_> = workload
            .uploads
            .iter()
            .map(|upload| (upload.country.to_string(), upload.index, upload.key_count))
            .collect();
        let expected = [
            ("DE", 0, 5000),
            ("DE", 1, 5000),
            ("DE", 2, 2001),
            ("FR", 0, 5000),
        ];
        assert_eq!(
            cut,
            expected.map(|(code, index, keys)| (code.to_owned(), index, keys))
        );
        assert_eq!(workload.uploads[2].tag.as_str(), "20210601-2a-4269-1388-2");
        assert_eq!(workload.seed.keys_total, 17_001);
    }

    #[test]
    fn names_every_upload_within_the_64_characters_of_a_tag() {
        let day = Day::parse_iso("9999-12-31").unwrap();
        let seed = Seed {
            number: u64::MAX,
            keys_total: u64::MAX,
            upload_keys: u32::MAX,
            day,
        };
        assert!(upload_tag(seed, u32::MAX).as_str().len() <= 64);
    }
}
