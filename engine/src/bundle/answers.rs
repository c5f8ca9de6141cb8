//! Bytes of answers under way: a participant may have a share, whether it reads them or not.
//!
//! Weighed against letting a request wait for the share: a peer that reads nothing would keep the
//! places in that queue, too. Like uploads, a request beyond the share is refused at once.
//!
//! Weighed against a bound over all participants here: an answer is made of bytes that others are
//! sent, too, so the sum over all answers says nothing of memory. What is in memory, the caches know.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::Country;
use crate::overload::{Overload, OverloadBound};

const LETTERS: usize = 26;

/// Bytes of answers under way, by participant.
#[derive(Debug, Clone)]
pub(crate) struct Answers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most_of_one: usize,
    /// One for each pair of letters: no lock, and nothing to look up.
    of_countries: [AtomicUsize; LETTERS * LETTERS],
}

impl Answers {
    /// Admits up to `most_of_one` bytes of one participant.
    pub(crate) fn new(most_of_one: usize) -> Self {
        Self(Arc::new(Shared {
            most_of_one,
            of_countries: [const { AtomicUsize::new(0) }; LETTERS * LETTERS],
        }))
    }

    /// Most bytes of one participant.
    pub(crate) fn share(&self) -> usize {
        self.0.most_of_one
    }

    /// Bytes of the participant that has most.
    pub(crate) fn most(&self) -> usize {
        let counts = self.0.of_countries.iter();
        let bytes = counts.map(|count| count.load(Ordering::Relaxed));
        bytes.max().unwrap_or(0)
    }

    /// Admits an answer of so many bytes. A participant that has none under way may have one, however
    /// large: nothing is stored that nobody can read.
    ///
    /// # Errors
    /// [`OverloadBound::AnswerShare`].
    pub(crate) fn admit(&self, country: Country, bytes: usize) -> Result<AnswerPermit, Overload> {
        let permit = AnswerPermit {
            answers: self.clone(),
            country,
            bytes,
        };
        // Counted before it is checked: two at a time may both be refused, but never both admitted.
        let before = permit.count().fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(bytes) > self.0.most_of_one {
            return Err(Overload::at(OverloadBound::AnswerShare));
        }
        Ok(permit)
    }
}

/// The right to send an answer; given back when dropped.
#[derive(Debug)]
pub struct AnswerPermit {
    answers: Answers,
    country: Country,
    bytes: usize,
}

impl AnswerPermit {
    fn count(&self) -> &AtomicUsize {
        let [first, second] = self
            .country
            .letters()
            .map(|letter| usize::from(letter - b'A'));
        &self.answers.0.of_countries[first * LETTERS + second]
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.count().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    #[test]
    fn gives_each_participant_its_share() {
        let answers = Answers::new(100);
        let held = [60, 40].map(|bytes| answers.admit(country("DE"), bytes).unwrap());
        let refused = answers.admit(country("DE"), 1).unwrap_err();
        assert_eq!(refused.bound, OverloadBound::AnswerShare);
        assert_eq!((answers.share(), answers.most()), (100, 100));
        assert!(answers.admit(country("IT"), 100).is_ok());
        drop(held);
        assert!(answers.admit(country("DE"), 100).is_ok());
        let counts = answers.0.of_countries.iter();
        assert!(
            counts
                .map(|count| count.load(Ordering::Relaxed))
                .all(|bytes| bytes == 0)
        );
    }

    #[test]
    fn admits_a_large_answer_alone() {
        let answers = Answers::new(100);
        let alone = answers.admit(country("ZZ"), 1000).unwrap();
        assert!(answers.admit(country("ZZ"), 1).is_err());
        drop(alone);
        assert!(answers.admit(country("ZZ"), 1).is_ok());
    }
}
