//! Runs operations on gateways, and holds every answer against the model.

use engine::domain::{BatchTag, Country};
use engine::upload::{Receipt, UploadRequest};
use engine::{Failure, Rejection, UploadError};

use crate::faults::PlannedFault;
use crate::gateways::{Gateways, wait_until};
use crate::model::{Key, Known, Model};
use crate::ops::Operation;
use crate::support::{Installation, Participant, participants, upload};

/// Gateways, and what they must have stored.
pub(crate) struct World {
    pub(crate) gateways: Gateways,
    pub(crate) participants: Vec<Participant>,
    pub(crate) model: Model,
    /// The newest download batch that the callbacks have told of.
    pub(crate) told: Option<BatchTag>,
    next_key: u64,
    next_tag: u64,
}

pub(crate) type Answer = Result<Receipt, UploadError>;

impl World {
    pub(crate) fn new(installation: Installation, gateways: usize) -> Self {
        let world = Self {
            gateways: Gateways::start(installation, gateways),
            participants: participants(),
            model: Model::default(),
            told: None,
            next_key: 0,
            next_tag: 0,
        };
        world.subscribe();
        world
    }

    pub(crate) fn run(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.step(operation);
        }
        self.gateways.restart(0);
        self.check_downloads(0);
        self.deliver(0);
    }

    fn step(&mut self, operation: &Operation) {
        let today = self.gateways.today();
        match operation {
            &Operation::Upload {
                by,
                via,
                keys,
                fault,
            } => {
                let known = self.new_upload(by, keys);
                self.send(via, known, fault);
            }
            &Operation::UploadKnownKeys { of, via, keys } => {
                if let Some(old) = self.model.choose(of, today) {
                    self.upload_known_keys(&old, via, keys);
                }
            }
            &Operation::Replay { of, via } => {
                if let Some(mut old) = self.model.choose(of, today) {
                    old.keys.reverse();
                    self.send(via, old, None);
                }
            }
            &Operation::ReuseTag { of, by, via } => {
                if let Some(old) = self.model.choose(of, today) {
                    // Another content if the country is the same, a free tag if it is another.
                    let mut known = self.new_upload(by, 1);
                    known.tag = old.tag;
                    self.send(via, known, None);
                }
            }
            Operation::Race { by, racers, fault } => self.race(*by, racers, *fault),
            &Operation::Restart { gateway } => self.gateways.restart(gateway),
            Operation::RotateKeys => self.gateways.rotate_keys(),
            &Operation::PassHours { hours } => self.pass_hours(hours),
            &Operation::Download { via, fault } => {
                self.gateways.faults.arm(fault);
                self.check_downloads(via);
                self.gateways.faults.disarm();
            }
            &Operation::Deliver { via } => {
                self.check_downloads(via);
                self.deliver(via);
            }
            &Operation::GoBack { rows } => self.go_back(rows),
        }
    }

    pub(crate) fn new_keys(&mut self, by: u16, count: u16) -> Vec<Key> {
        let now = self.gateways.now();
        let participant = self.participant(by);
        let numbers = self.next_key..self.next_key + u64::from(count);
        let key = |number| Key {
            bytes: participant.key(number, now),
            began: now.day(),
        };
        let keys = numbers.clone().map(key).collect();
        self.next_key = numbers.end;
        keys
    }

    fn participant(&self, by: u16) -> &Participant {
        &self.participants[usize::from(by) % self.participants.len()]
    }

    pub(crate) fn new_upload(&mut self, by: u16, keys: u16) -> Known {
        self.next_tag += 1;
        Known {
            country: self.participant(by).country,
            tag: format!("tag/{}+=", self.next_tag),
            keys: self.new_keys(by, keys),
        }
    }

    fn upload_known_keys(&mut self, old: &Known, via: u16, keys: u16) {
        let by = |country: Country| {
            let mut countries = self.participants.iter().map(|p| p.country);
            countries.position(|other| other == country).unwrap()
        };
        let by = u16::try_from(by(old.country)).unwrap();
        let mut known = self.new_upload(by, keys);
        for (at, key) in old.keys.iter().take(3).enumerate() {
            let at = (at * 7 + usize::from(via)) % (known.keys.len() + 1);
            known.keys.insert(at, key.clone());
        }
        if let Some(repeat) = known.keys.first().cloned() {
            known.keys.push(repeat);
        }
        self.send(via, known, None);
    }

    pub(crate) fn request(&self, known: &Known) -> UploadRequest {
        let mut senders = self.participants.iter();
        let sender = senders.find(|p| p.country == known.country).unwrap();
        let keys: Vec<_> = known.keys.iter().map(|key| key.bytes.clone()).collect();
        sender.upload(&known.tag, &keys, self.gateways.now())
    }

    /// Sends an upload by itself; the answer must be the model's. After a failure, which may have
    /// stored it, it is sent again.
    fn send(&mut self, via: u16, known: Known, fault: Option<PlannedFault>) {
        let today = self.gateways.today();
        let expected = self.model.expected(&known, today);
        self.gateways.faults.arm(fault);
        let first = upload(self.gateways.get(via), self.request(&known));
        let was_faulty = self.gateways.faults.disarm() > 0;
        let answer = self.after_failures(via, &known, first, was_faulty);
        let answer = answer.map_err(|error| match error {
            UploadError::Rejection(rejection) => rejection,
            other => panic!("{}: {other}", known.tag),
        });
        let agrees = answer == expected
            || self.is_a_moment_behind(&answer, &expected)
            || (was_faulty && is_own_replay(&answer, &expected));
        assert!(agrees, "upload {}: {answer:?}, not {expected:?}", known.tag);
        if let Ok(Receipt::Stored { .. }) = answer
            && let Ok(Receipt::Stored {
                replayed: false, ..
            }) = expected
        {
            self.model.store(vec![known], today);
        }
    }

    /// What is answered at last. Only a faulty database is an excuse for a failure.
    pub(crate) fn after_failures(
        &self,
        via: u16,
        known: &Known,
        first: Answer,
        was_faulty: bool,
    ) -> Answer {
        let mut answer = first;
        wait_until("an upload is answered", || {
            let is_answered = !matches!(
                answer,
                Err(UploadError::Failure(
                    Failure::Database(_) | Failure::StorageRefused(_)
                ))
            );
            assert!(is_answered || was_faulty, "{}: {answer:?}", known.tag);
            if !is_answered {
                answer = upload(self.gateways.get(via), self.request(known));
            }
            is_answered
        });
        answer
    }

    /// A refusal does not touch the database: a gateway that has yet to follow the others names the
    /// duplicates that it knows of.
    fn is_a_moment_behind(
        &self,
        answer: &Result<Receipt, Rejection>,
        expected: &Result<Receipt, Rejection>,
    ) -> bool {
        let (
            Ok(Receipt::Refused { duplicates, .. }),
            Ok(Receipt::Refused {
                duplicates: all, ..
            }),
        ) = (answer, expected)
        else {
            return false;
        };
        let are_known = duplicates.iter().all(|position| all.contains(position));
        self.gateways.count() > 1 && are_known && !duplicates.is_empty()
    }
}

/// An upload whose commit was not answered is found in the log.
fn is_own_replay(
    answer: &Result<Receipt, Rejection>,
    expected: &Result<Receipt, Rejection>,
) -> bool {
    matches!(
        (answer, expected),
        (
            Ok(Receipt::Stored { replayed: true, .. }),
            Ok(Receipt::Stored {
                replayed: false,
                ..
            })
        )
    )
}
