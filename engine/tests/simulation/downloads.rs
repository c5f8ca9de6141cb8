//! What can be downloaded, what callbacks tell of, what retention and a restore leave.

use std::borrow::Cow;
use std::sync::mpsc::channel;
use std::time::Duration;

use engine::bundle::Download;
use engine::callbacks::{Attempt, CallbackError, CallbackId, Recorded, Subscribed};
use engine::domain::{BatchTag, Country, Day};
use engine::upload::Receipt;
use engine::{Failure, UploadError};

use crate::gateways::wait_until;
use crate::model::{Known, Published};
use crate::support::{NOON, download_chain, upload};
use crate::world::World;

/// A time-to-live that outlasts any simulation.
const LONG: Duration = Duration::from_secs(3600);

impl World {
    /// Every participant receives all keys of all others, through any gateway, and what was
    /// published before is as it was.
    pub(crate) fn check_downloads(&mut self, via: u16) {
        self.check_chain(via);
        let oldest = self.oldest_day();
        for participant in &self.participants {
            let country = participant.country;
            let visible = self.visible(oldest).flat_map(|batch| &batch.uploads);
            let of_others: Vec<_> = visible.filter(|known| known.country != country).collect();
            let expected: Vec<u8> = of_others.iter().flat_map(|known| known.body()).collect();
            let keys = of_others.iter().map(|known| known.keys.len() as u64).sum();
            let chain = download_chain(self.gateways.get(via), country, oldest, keys);
            let chunks = chain.iter().flat_map(|download| download.chunks());
            let body: Vec<u8> = chunks.flatten().collect();
            assert!(body == expected, "what {country} downloads");
        }
    }

    /// Before the first day of the simulation there is nothing to ask for.
    fn oldest_day(&self) -> Day {
        self.gateways.oldest_day().max(NOON.day())
    }

    fn visible(&self, oldest: Day) -> impl Iterator<Item = &Published> {
        let published = self.model.published.iter();
        published.filter(move |batch| batch.tag.day >= oldest)
    }

    /// The chain grows at its end only, without gap or fork, and holds every upload once, in the
    /// order of acknowledgement.
    fn check_chain(&mut self, via: u16) {
        let oldest = self.oldest_day();
        let visible = self.visible(oldest).flat_map(|batch| &batch.uploads);
        let waiting = self.model.pending.iter().flatten();
        let keys = visible.chain(waiting).map(|known| known.keys.len() as u64);
        let keys = keys.sum();
        let reader = Country::parse("PL").unwrap();
        let chain = download_chain(self.gateways.get(via), reader, oldest, keys);
        let seen = self.visible(oldest).count();
        assert!(chain.len() >= seen, "download batches are gone");
        for (batch, download) in self.visible(oldest).zip(&chain) {
            let tags = (batch.tag, batch.last_seq);
            assert_eq!((download.batch.tag, *download.batch.seqs.end()), tags);
            let segments = &download.bundle.segments;
            assert!(
                batch
                    .uploads
                    .iter()
                    .map(Known::body)
                    .eq(segments.iter().cloned())
            );
        }
        for download in &chain[seen..] {
            self.publish(download);
        }
        let mut left = self.model.pending.drain(..).flatten();
        assert!(left.all(|known| known.keys.is_empty()), "not published");
    }

    /// A download batch that was not there before.
    fn publish(&mut self, download: &Download) {
        let tag = download.batch.tag;
        let before = self.model.published.last();
        let expected = self
            .model
            .next_number(tag.day, before.map(|batch| batch.tag));
        assert_eq!(tag.number, expected, "{tag} follows {before:?}");
        if let Some(before) = before {
            assert!(tag.day >= before.tag.day, "{tag} follows {}", before.tag);
            assert!(*download.batch.seqs.start() > before.last_seq);
        }
        assert!(!self.model.lost.contains(&tag), "{tag} is given out again");
        let mut uploads = Vec::new();
        for segment in &download.bundle.segments {
            uploads.push(self.take_pending(segment));
        }
        self.model.published.push(Published {
            tag,
            last_seq: *download.batch.seqs.end(),
            uploads,
        });
    }

    /// The upload of a segment: one of the oldest group.
    fn take_pending(&mut self, segment: &[u8]) -> Known {
        let pending = &mut self.model.pending;
        for group in pending.iter_mut() {
            group.retain(|known| !known.keys.is_empty());
        }
        pending.retain(|group| !group.is_empty());
        let group = pending
            .first_mut()
            .expect("nothing that was not acknowledged");
        let at = group.iter().position(|known| known.body() == segment);
        group.swap_remove(at.expect("uploads are whole, contiguous and in commit order"))
    }

    pub(crate) fn subscribe(&self) {
        let id = CallbackId::parse("1").unwrap();
        let (country, url) = (
            self.participants[0].country,
            "https://receiver.example/".into(),
        );
        let answer = answer(|reply| {
            let callbacks = self.gateways.get(0).callbacks();
            callbacks.subscribe(country, id, url, reply);
        });
        assert_eq!(answer, Subscribed::Taken);
    }

    /// Each download batch is told of once, in order; now and then a receiver fails.
    pub(crate) fn deliver(&mut self, via: u16) {
        let oldest = self.gateways.oldest_day();
        let tags = self.model.published.iter().map(|batch| batch.tag);
        let is_due = |tag: &BatchTag| self.told.is_none_or(|told| *tag > told) && tag.day >= oldest;
        let expected: Vec<BatchTag> = tags.filter(is_due).collect();
        let callbacks = self.gateways.get(via).callbacks();
        let mut told = Vec::new();
        let mut has_failed = false;
        loop {
            let claimed = answer(|reply| callbacks.claim(LONG, |_| Some(()), reply));
            let Some((delivery, ())) = claimed.into_iter().next() else {
                break;
            };
            let attempt = match std::mem::replace(&mut has_failed, true) {
                true => Attempt::Delivered,
                false => Attempt::Failed {
                    wait: Duration::ZERO,
                    attempts_max: 6,
                    reason: Cow::Borrowed("the receiver answers 500"),
                },
            };
            if matches!(attempt, Attempt::Delivered) {
                told.push(delivery.batch());
            }
            let recorded = answer(|reply| callbacks.record(&delivery, attempt, reply));
            assert_eq!(recorded, Recorded::Noted);
        }
        assert_eq!(told, expected, "what the receiver is told");
        self.told = told.last().copied().or(self.told);
    }

    /// Everything is published before time passes, so that the model knows of which day it is.
    pub(crate) fn pass_hours(&mut self, hours: u16) {
        self.check_downloads(0);
        self.deliver(0);
        let day = self.gateways.pass_hours(hours);
        let expected = self.model.identities(day);
        for engine in self.gateways.all() {
            wait_until("what is too old is forgotten, and nothing else", || {
                engine.status().identities == expected
            });
        }
        self.model.forget(day);
    }

    /// The database loses its newest rows under all gateways, which must notice before they say
    /// anything, and continue behind what they gave out before.
    pub(crate) fn go_back(&mut self, rows: u16) {
        self.check_downloads(0);
        let Some(newest) = self.model.published.last().map(|batch| batch.tag) else {
            return;
        };
        for engine in self.gateways.all() {
            // What a gateway has not followed it cannot miss.
            let last = self.gateways.all().map(|other| other.status().log_position);
            let last = last.max();
            wait_until("all gateways follow", || {
                let status = engine.status();
                Some(status.log_position) >= last && status.newest_batch == Some(newest)
            });
        }
        let Some((gone, keep)) = self.gateways.lose_rows(u64::from(rows)) else {
            return;
        };
        let lost = self.model.all_of(&gone);
        for engine in self.gateways.all() {
            for known in &lost {
                let answer = upload(engine, self.request(known));
                self.is_stopped(known, &answer);
            }
        }
        self.model.lose(&gone, keep);
        let kept = self.model.published.last().map(|batch| batch.tag);
        self.told = self.told.min(kept);
        self.gateways.recover(newest);
    }

    fn is_stopped(&self, known: &Known, answer: &Result<Receipt, UploadError>) {
        let is_too_old = self.model.is_too_old(known, self.gateways.today());
        match answer {
            Err(UploadError::Failure(Failure::DatabaseWentBack)) => {}
            Err(UploadError::Rejection(_)) if is_too_old => {}
            other => panic!("{} is lost, and answered {other:?}", known.tag),
        }
    }
}

/// Waits for the one answer.
fn answer<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, CallbackError>) + Send>),
) -> T {
    let (sender, receiver) = channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    let answer = receiver.recv().expect("every question is answered");
    answer.unwrap()
}
