//! A seeded list of operations against a model that is a plain list: uploads, repeats, replays,
//! races, restarts, days that pass, downloads; on both databases, with one gateway or several.
//!
//! A failing run prints its seed; `EFGS_SEED=N` replays it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; the seed is printed"
)]

mod support;

use std::collections::{HashMap, HashSet};

use engine::domain::{BatchTag, Country, Day};
use engine::upload::{Receipt, UploadRequest};
use engine::{Engine, Rejection, UploadError};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Installation, NOON, Participant, download_chain, participants, seeds, upload};
use testkit::local::MariaDb;

type EncodedKey = Vec<u8>;

/// An upload as recorded by the test.
#[derive(Debug, Clone)]
struct Known {
    country: Country,
    tag: String,
    keys: Vec<EncodedKey>,
}

/// The uploads that the gateway must have stored.
#[derive(Default)]
struct Model {
    /// In the order of acknowledgement; uploads that raced are in one group, in any order.
    groups: Vec<Vec<Known>>,
    keys: HashSet<EncodedKey>,
    tags: HashMap<(Country, String), Vec<EncodedKey>>,
}

impl Model {
    fn expected(&self, known: &Known) -> Result<Receipt, Rejection> {
        let key_count = u32::try_from(known.keys.len()).unwrap();
        match self.tags.get(&(known.country, known.tag.clone())) {
            Some(keys) if sorted(keys) == sorted(&known.keys) => {
                let replayed = true;
                return Ok(Receipt::Stored {
                    key_count,
                    replayed,
                });
            }
            Some(_) => return Err(Rejection::UploadTagTaken { key_count }),
            None => {}
        }
        let mut seen = HashSet::new();
        let is_duplicate = |key: &EncodedKey| self.keys.contains(key) || !seen.insert(key.clone());
        let mut indexed = (0..).zip(&known.keys);
        let mut is_duplicate = is_duplicate;
        let duplicates: Vec<u32> = indexed
            .by_ref()
            .filter(|(_, key)| is_duplicate(key))
            .map(|(index, _)| index)
            .collect();
        if duplicates.is_empty() {
            let replayed = false;
            return Ok(Receipt::Stored {
                key_count,
                replayed,
            });
        }
        Ok(Receipt::Refused {
            key_count,
            duplicates,
        })
    }

    fn store(&mut self, group: Vec<Known>) {
        for known in &group {
            for key in &known.keys {
                assert!(self.keys.insert(key.clone()), "a key was stored twice");
            }
            let tag = (known.country, known.tag.clone());
            assert!(
                self.tags.insert(tag, known.keys.clone()).is_none(),
                "a tag was given twice"
            );
        }
        if !group.is_empty() {
            self.groups.push(group);
        }
    }

    fn uploads(&self) -> impl Iterator<Item = &Known> {
        self.groups.iter().flatten()
    }
}

/// Whether an answer reports the upload as stored, now or before.
fn is_stored<E>(answer: &Result<Receipt, E>, before: bool) -> bool {
    matches!(answer, Ok(Receipt::Stored { replayed, .. }) if *replayed == before)
}

/// The signed content does not depend on the order in which keys are sent.
fn sorted(keys: &[EncodedKey]) -> Vec<EncodedKey> {
    let mut keys = keys.to_vec();
    keys.sort();
    keys
}

struct Simulation {
    installation: Installation,
    engines: Vec<Engine>,
    participants: Vec<Participant>,
    model: Model,
    random: ChaCha8Rng,
    next_key: u64,
    next_tag: u64,
    /// The chain of download batches as seen so far: it only ever grows.
    chain: Vec<(BatchTag, Vec<u64>)>,
}

impl Simulation {
    fn new(installation: Installation, gateways: usize, seed: u64) -> Self {
        Self {
            engines: (0..gateways).map(|_| installation.start()).collect(),
            installation,
            participants: participants(),
            model: Model::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            next_key: 0,
            next_tag: 0,
            chain: Vec::new(),
        }
    }

    fn run(mut self, steps: u32) {
        for _ in 0..steps {
            match self.random.random_range(0..100) {
                0..35 => self.upload_new(),
                35..50 => self.upload_with_known_keys(),
                50..60 => self.upload_again(),
                60..68 => self.reuse_tag(),
                68..80 => self.race(),
                80..86 => self.restart(),
                86..90 => self.pass_time(),
                _ => self.check_downloads(),
            }
        }
        self.restart();
        self.check_downloads();
    }

    fn participant(&mut self) -> usize {
        self.random.random_range(0..self.participants.len())
    }

    fn new_keys(&mut self, participant: usize, count: usize) -> Vec<EncodedKey> {
        let now = self.installation.now();
        let first = self.next_key;
        self.next_key += count as u64;
        (first..self.next_key)
            .map(|n| self.participants[participant].key(n, now))
            .collect()
    }

    fn new_upload(&mut self, participant: usize) -> Known {
        let count = self.random.random_range(0..=20);
        let country = self.participants[participant].country;
        // Each country numbers its uploads by itself: tags of different countries collide.
        self.next_tag += 1;
        let tag = format!("tag/{}+=", self.next_tag);
        Known {
            country,
            tag,
            keys: self.new_keys(participant, count),
        }
    }

    fn request(&self, known: &Known) -> UploadRequest {
        let sender = self
            .participants
            .iter()
            .find(|p| p.country == known.country);
        sender
            .unwrap()
            .upload(&known.tag, &known.keys, self.installation.now())
    }

    fn any_engine(&mut self) -> &Engine {
        self.engines.choose(&mut self.random).unwrap()
    }

    /// Sends an upload by itself; the answer must be the model's.
    fn send(&mut self, known: Known) {
        let expected = self.model.expected(&known);
        let request = self.request(&known);
        let answer = upload(self.any_engine(), request).map_err(|error| match error {
            UploadError::Rejection(rejection) => rejection,
            other => panic!("{other}"),
        });
        let agrees = answer == expected || self.is_a_moment_behind(&answer, &expected);
        assert!(agrees, "upload {}: {answer:?}, not {expected:?}", known.tag);
        if is_stored(&answer, false) {
            self.model.store(vec![known]);
        }
    }

    /// A refusal does not touch the database: a gateway that has yet to follow the others names the
    /// duplicates that it knows of.
    fn is_a_moment_behind(
        &self,
        answer: &Result<Receipt, Rejection>,
        expected: &Result<Receipt, Rejection>,
    ) -> bool {
        let Ok(Receipt::Refused { duplicates, .. }) = answer else {
            return false;
        };
        let Ok(Receipt::Refused {
            duplicates: all, ..
        }) = expected
        else {
            return false;
        };
        let known = duplicates.iter().all(|position| all.contains(position));
        self.engines.len() > 1 && known && !duplicates.is_empty()
    }

    fn upload_new(&mut self) {
        let participant = self.participant();
        let known = self.new_upload(participant);
        self.send(known);
    }

    fn any_stored(&mut self) -> Option<Known> {
        let stored: Vec<&Known> = self.model.uploads().collect();
        stored
            .choose(&mut self.random)
            .map(|known| (*known).clone())
    }

    fn upload_with_known_keys(&mut self) {
        let Some(old) = self.any_stored() else { return };
        let sender = self
            .participants
            .iter()
            .position(|p| p.country == old.country)
            .unwrap();
        let mut known = self.new_upload(sender);
        for key in old.keys.iter().take(3) {
            let at = self.random.random_range(0..=known.keys.len());
            known.keys.insert(at, key.clone());
        }
        if let Some(repeat) = known.keys.first().cloned() {
            known.keys.push(repeat);
        }
        self.send(known);
    }

    fn upload_again(&mut self) {
        if let Some(mut old) = self.any_stored() {
            old.keys.reverse();
            self.send(old);
        }
    }

    fn reuse_tag(&mut self) {
        let Some(old) = self.any_stored() else { return };
        let sender = self.participant();
        let mut known = self.new_upload(sender);
        // Another content if the country is the same, a free tag if it is another.
        known.tag = old.tag;
        if known.keys.is_empty() {
            known.keys = self.new_keys(sender, 1);
        }
        self.send(known);
    }

    /// Uploads that share keys and tags, at the same time, through all gateways.
    fn race(&mut self) {
        let sender = self.participant();
        let shared = self.new_keys(sender, 2);
        let mut racers: Vec<Known> = Vec::new();
        for _ in 0..self.random.random_range(2..8) {
            let mut known = self.new_upload(sender);
            if self.random.random_bool(0.4) {
                known.keys.push(shared[0].clone());
            }
            if self.random.random_bool(0.4) {
                known.keys.insert(0, shared[1].clone());
            }
            if self.random.random_bool(0.3)
                && let Some(twin) = racers.last()
            {
                known = twin.clone();
            }
            racers.push(known);
        }
        let answers = self.send_at_once(&racers);
        let mut stored: Vec<Known> = Vec::new();
        for (known, answer) in racers.iter().zip(&answers) {
            if is_stored(answer, false) {
                stored.push(known.clone());
            }
        }
        // A gateway that reads its own commit from the log reports a replay; so does a twin.
        for (known, answer) in racers.iter().zip(&answers) {
            let is_new = stored.iter().all(|other| other.tag != known.tag);
            if is_new && is_stored(answer, true) {
                stored.push(known.clone());
            }
        }
        self.model.store(stored);
        for (known, answer) in racers.iter().zip(answers) {
            let answer = answer
                .map_err(|error| panic!("{}: {error}", known.tag))
                .unwrap();
            match (self.model.expected(known).unwrap(), answer) {
                (Receipt::Stored { replayed: true, .. }, Receipt::Stored { .. }) => {}
                // It may have been refused for one key before another racer stored the next.
                (
                    Receipt::Refused {
                        duplicates: all, ..
                    },
                    Receipt::Refused {
                        duplicates,
                        key_count,
                    },
                ) => {
                    assert!(!duplicates.is_empty() && key_count as usize == known.keys.len());
                    assert!(duplicates.iter().all(|index| all.contains(index)));
                }
                (expected, answer) => panic!("{}: {answer:?}, not {expected:?}", known.tag),
            }
        }
    }

    fn send_at_once(&mut self, racers: &[Known]) -> Vec<Result<Receipt, UploadError>> {
        let mut requests = Vec::new();
        for known in racers {
            let engine = self.random.random_range(0..self.engines.len());
            requests.push((engine, self.request(known)));
        }
        let engines = &self.engines;
        std::thread::scope(|scope| {
            let send = |(engine, request): (usize, _)| {
                scope.spawn(move || upload(&engines[engine], request))
            };
            let threads: Vec<_> = requests.into_iter().map(send).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    fn restart(&mut self) {
        let index = self.random.random_range(0..self.engines.len());
        self.engines[index].shutdown();
        self.engines[index] = self.installation.start();
    }

    fn pass_time(&mut self) {
        let hours = self.random.random_range(1..20);
        self.installation.clock.advance_millis(hours * 3_600_000);
        // Certificates and the days that can be downloaded bound how far time may go.
        let newest = NOON.plus_millis(10 * 24 * 3_600_000);
        if self.installation.now() > newest {
            self.installation.clock.set(newest);
        }
    }

    /// Every participant receives all keys of all others, through any gateway.
    fn check_downloads(&mut self) {
        let order = self.check_chain();
        for index in 0..self.participants.len() {
            let country = self.participants[index].country;
            let of_others = || order.iter().filter(|known| known.country != country);
            let expected: Vec<u8> = of_others()
                .flat_map(|known| known.keys.iter().flatten().copied())
                .collect();
            let keys: u64 = of_others().map(|known| known.keys.len() as u64).sum();
            let chain = download_chain(self.any_engine(), country, first_day(), keys);
            let body: Vec<u8> = chain
                .iter()
                .flat_map(|d| d.chunks().flatten().collect::<Vec<_>>())
                .collect();
            assert_eq!(body, expected, "what {country} downloads");
        }
    }

    /// The chain grows at its end only, without gap or fork, and holds every upload once, in the
    /// order of acknowledgement. Returns the uploads in the order of the chain.
    fn check_chain(&mut self) -> Vec<Known> {
        let reader = Country::parse("PL").unwrap();
        let keys: u64 = self
            .model
            .uploads()
            .map(|known| known.keys.len() as u64)
            .sum();
        let downloads = download_chain(self.any_engine(), reader, first_day(), keys);
        let chain: Vec<(BatchTag, Vec<u64>)> = downloads
            .iter()
            .map(|d| {
                (
                    d.batch.tag,
                    d.batch.uploads.iter().map(|u| u.seq.0).collect(),
                )
            })
            .collect();
        assert!(
            chain.starts_with(&self.chain),
            "published batches have changed"
        );
        self.chain = chain;
        for (earlier, later) in self
            .chain
            .iter()
            .zip(&self.chain[1.min(self.chain.len())..])
        {
            let (a, b) = (earlier.0, later.0);
            let next =
                (a.day == b.day && b.number == a.number + 1) || (b.day > a.day && b.number == 1);
            assert!(next, "{b} follows {a}");
            assert!(
                earlier.1.last() < later.1.first(),
                "uploads are in commit order"
            );
        }
        let mut segments = downloads
            .iter()
            .flat_map(|download| download.bundle.segments.iter().cloned());
        let mut order = Vec::new();
        for group in &self.model.groups {
            let mut left: Vec<&Known> = group.iter().filter(|k| !k.keys.is_empty()).collect();
            while !left.is_empty() {
                let segment = segments.next().expect("as many uploads as keys");
                let at = left.iter().position(|known| known.keys.concat() == segment);
                let at = at.expect("uploads are whole, contiguous and in commit order");
                order.push(left.swap_remove(at).clone());
            }
        }
        assert_eq!(segments.next(), None, "nothing that was not acknowledged");
        order
    }
}

fn first_day() -> Day {
    NOON.day()
}

fn simulate(make: impl Fn(u64) -> Installation, gateways: usize, steps: u32) {
    for seed in seeds() {
        println!("simulation: {gateways} gateways, EFGS_SEED={seed}");
        Simulation::new(make(seed), gateways, seed).run(steps);
    }
}

#[test]
fn one_gateway_on_sqlite_agrees_with_the_model() {
    simulate(|_| Installation::on_sqlite(), 1, 150);
}

#[test]
fn gateways_on_mariadb_agree_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    simulate(
        |seed| Installation::on_mysql(&server, &format!("one_{seed}")),
        1,
        80,
    );
    simulate(
        |seed| Installation::on_mysql(&server, &format!("three_{seed}")),
        3,
        120,
    );
}
