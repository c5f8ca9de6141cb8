//! Uploads as national backends make them, with real signatures.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use engine::domain::{Country, UploadTag};
use engine::wire::protobuf::{KeyFields, write_key};
use engine::{Clock, SystemClock};
use rand::seq::SliceRandom;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use testkit::participants::Participant;
use testkit::workload::{PreparedUpload, UploadSpec};

/// One key, encoded.
pub(crate) type Key = Bytes;

/// Intervals of ten minutes in a day.
const INTERVALS_PER_DAY: u32 = 144;

/// An upload, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) country: Country,
    pub(crate) tag: String,
    pub(crate) keys: Vec<Key>,
    pub(crate) body: Bytes,
    pub(crate) batch_signature: String,
}

impl Upload {
    /// Positions of the keys that are in `others`, ascending.
    pub(crate) fn positions_in(&self, others: &HashSet<Key>) -> Vec<usize> {
        let keys = self.keys.iter().enumerate();
        keys.filter(|(_, key)| others.contains(*key))
            .map(|(position, _)| position)
            .collect()
    }
}

/// Makes one participant's uploads for one task.
pub(crate) struct Maker {
    participant: Arc<Participant>,
    random: ChaCha8Rng,
    /// Begins every tag, so that tasks do not share any.
    prefix: String,
    made: u32,
}

impl Maker {
    pub(crate) fn new(participant: Arc<Participant>, random: ChaCha8Rng, prefix: String) -> Self {
        Self {
            participant,
            random,
            prefix,
            made: 0,
        }
    }

    /// Many small uploads, so that commits follow each other closely, and sometimes a large one,
    /// whose commit takes longer.
    pub(crate) fn any(&mut self) -> Upload {
        let key_count = match self.random.random_range(0..100) {
            0..75 => self.random.random_range(1..=6),
            75..96 => self.random.random_range(20..=120),
            _ => self.random.random_range(1000..=4000),
        };
        self.of_size(key_count)
    }

    pub(crate) fn of_size(&mut self, key_count: usize) -> Upload {
        let keys = (0..key_count).map(|_| self.key()).collect();
        self.of_keys(keys)
    }

    /// Uploads of which any two share keys, at different positions. The first key of each is
    /// unique.
    pub(crate) fn rivals(&mut self, count: usize) -> Vec<Upload> {
        let for_all = self.random.random_range(1..=4);
        let for_all: Vec<Key> = (0..for_all).map(|_| self.key()).collect();
        let mut of_each = vec![for_all; count];
        for first in 0..count {
            for second in first + 1..count {
                let for_two = self.key();
                of_each[first].push(for_two.clone());
                of_each[second].push(for_two);
            }
        }
        let mut rival = |shared: Vec<Key>| {
            let mut keys = shared;
            keys.extend((0..self.random.random_range(0..30)).map(|_| self.key()));
            keys.shuffle(&mut self.random);
            keys.insert(0, self.key());
            self.of_keys(keys)
        };
        of_each.drain(..).map(&mut rival).collect()
    }

    /// The remaining keys of an upload that was refused, under the same tag.
    pub(crate) fn without(&self, upload: &Upload, positions: &[usize]) -> Upload {
        let keys = upload.keys.iter().enumerate();
        let left = keys.filter(|(position, _)| !positions.contains(position));
        self.sign(left.map(|(_, key)| key.clone()).collect(), &upload.tag)
    }

    /// The same keys under another tag.
    pub(crate) fn renamed(&mut self, upload: &Upload) -> Upload {
        self.of_keys(upload.keys.clone())
    }

    /// Other keys under the same tag.
    pub(crate) fn other_keys(&mut self, upload: &Upload) -> Upload {
        let key = self.key();
        self.sign(vec![key], &upload.tag)
    }

    fn of_keys(&mut self, keys: Vec<Key>) -> Upload {
        self.made += 1;
        let tag = format!("{}-{}", self.prefix, self.made);
        self.sign(keys, &tag)
    }

    fn sign(&self, keys: Vec<Key>, tag: &str) -> Upload {
        let country = self.participant.country;
        let spec = UploadSpec {
            country,
            index: self.made,
            key_count: u32::try_from(keys.len()).unwrap(),
            tag: UploadTag::parse(tag).unwrap(),
        };
        let now = SystemClock.now();
        let prepared = PreparedUpload::sign(spec, keys.concat(), &self.participant, now).unwrap();
        Upload {
            country,
            tag: tag.to_owned(),
            keys,
            body: prepared.body,
            batch_signature: prepared.batch_signature,
        }
    }

    /// A unique key.
    fn key(&mut self) -> Key {
        let mut key_data = [0; 16];
        self.random.fill_bytes(&mut key_data);
        let days_ago = self.random.random_range(1..=12);
        let today = u32::try_from(SystemClock.now().day().start_unix_seconds() / 600).unwrap();
        let fields = KeyFields {
            key_data: &key_data,
            rolling_start: today - days_ago * INTERVALS_PER_DAY,
            rolling_period: INTERVALS_PER_DAY,
            risk_level: self.random.random_range(1..=8),
            origin: self.participant.country.as_str(),
            report_type: 1,
            days_since_onset: self.random.random_range(-3..=10),
        };
        let visited = ["DE", "FR", "IT", "PL"];
        let visited = visited.iter().take(self.random.random_range(0..=4));
        let mut out = Vec::new();
        write_key(&mut out, &fields, visited.copied());
        out.into()
    }
}
