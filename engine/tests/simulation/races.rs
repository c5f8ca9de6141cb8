//! Uploads at the same time.

use engine::upload::{Receipt, UploadRequest};

use crate::faults::PlannedFault;
use crate::model::Known;
use crate::ops::Racer;
use crate::support::upload;
use crate::world::{Answer, World};

impl World {
    /// Uploads that share keys and tags, at the same time, through all gateways.
    pub(crate) fn race(&mut self, by: u16, racers: &[Racer], fault: Option<PlannedFault>) {
        let today = self.gateways.today();
        let racing = self.racing(by, racers);
        self.gateways.faults.arm(fault);
        let answers = self.send_at_once(racers, &racing);
        let was_faulty = self.gateways.faults.disarm() > 0;
        let racing = racers.iter().zip(racing).zip(answers);
        let racing = racing.map(|((racer, known), first)| {
            let answer = self.after_failures(racer.via, &known, first, was_faulty);
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", known.tag));
            (known, answer)
        });
        let racing: Vec<_> = racing.collect();
        let mut stored: Vec<Known> = Vec::new();
        // A gateway that reads its own commit from the log reports a replay; so does a twin.
        for before in [false, true] {
            for (known, answer) in &racing {
                let is_new = stored.iter().all(|other| other.tag != known.tag);
                let is_stored =
                    matches!(answer, Receipt::Stored { replayed, .. } if *replayed == before);
                if is_stored && (is_new || !before) {
                    stored.push(known.clone());
                }
            }
        }
        self.model.store(stored, today);
        for (known, answer) in &racing {
            self.check_racer(known, answer);
        }
    }

    fn racing(&mut self, by: u16, racers: &[Racer]) -> Vec<Known> {
        let shared = self.new_keys(by, 2);
        let mut racing: Vec<Known> = Vec::new();
        for racer in racers {
            let mut known = self.new_upload(by, racer.keys);
            if racer.shares[0] {
                known.keys.push(shared[0].clone());
            }
            if racer.shares[1] {
                known.keys.insert(0, shared[1].clone());
            }
            if let Some(twin) = racing.last().filter(|_| racer.is_twin) {
                known = twin.clone();
            }
            racing.push(known);
        }
        racing
    }

    fn send_at_once(&self, racers: &[Racer], racing: &[Known]) -> Vec<Answer> {
        let requests: Vec<_> = racing.iter().map(|known| self.request(known)).collect();
        std::thread::scope(|scope| {
            let send = |(racer, request): (&Racer, UploadRequest)| {
                let engine = self.gateways.get(racer.via);
                scope.spawn(move || upload(engine, request))
            };
            let threads: Vec<_> = racers.iter().zip(requests).map(send).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Answer>| thread.join().unwrap();
            threads.into_iter().map(join).collect()
        })
    }

    fn check_racer(&self, known: &Known, answer: &Receipt) {
        let expected = self.model.expected(known, self.gateways.today());
        match (expected.unwrap(), answer) {
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
                assert!(!duplicates.is_empty() && *key_count as usize == known.keys.len());
                assert!(duplicates.iter().all(|index| all.contains(index)));
            }
            (expected, answer) => panic!("{}: {answer:?}, not {expected:?}", known.tag),
        }
    }
}
