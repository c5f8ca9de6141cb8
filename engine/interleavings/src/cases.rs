//! The set's guarantees for a probe concurrent with the writer, one case each.

use std::sync::Arc;
use std::time::Instant;

use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};

use crate::base::{Ordering, check};
use crate::domain::{Day, KeyIdentity, Seq};
use crate::set::{IdentitySet, IdentitySetWriter};

/// A promise, and what a number of readers see of it beside the writer.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(usize),
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "complete up to its position",
        run: is_complete_up_to_its_position,
    },
    Case {
        name: "whole uploads while it stays at a position",
        run: shows_whole_uploads,
    },
    Case {
        name: "what is acknowledged is announced",
        run: announces_what_is_acknowledged,
    },
    Case {
        name: "nothing is lost while a shard grows",
        run: loses_nothing_while_it_grows,
    },
    Case {
        name: "forgetting leaves the rest",
        run: forgets_nothing_else,
    },
    Case {
        name: "finds nothing that was not inserted",
        run: finds_nothing_else,
    },
];

/// In the first shard, in the home bucket of all others: their first words differ little.
fn identity(number: u8) -> KeyIdentity {
    let mut bytes = [0; 16];
    (bytes[7], bytes[15]) = (number, number);
    KeyIdentity(bytes)
}

fn day(n: u64) -> Day {
    Day::from_unix_seconds(n * 86_400)
}

/// Reads as a CPU job does: the position, the identities, the position again. Returns the first,
/// how many are known, and whether that is certain.
fn probe(set: &IdentitySet, identities: &[KeyIdentity]) -> (u64, usize, bool) {
    let position = set.position();
    let known = set.find_known(identities).len();
    (position.0, known, set.is_still_at(position))
}

fn beside(
    readers: usize,
    writer: &IdentitySetWriter,
    read: impl Fn(&IdentitySet) + Clone + 'static,
) -> Vec<JoinHandle<()>> {
    let spawn = |_| {
        let (set, read) = (Arc::clone(writer.shared()), read.clone());
        thread::spawn(move || read(&set))
    };
    (0..readers).map(spawn).collect()
}

fn join(readers: Vec<JoinHandle<()>>) {
    for reader in readers {
        reader.join().expect("readers count, they do not panic");
    }
}

fn is_complete_up_to_its_position(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    let readers = beside(readers, &writer, |set| {
        let (position, known, _) = probe(set, &[identity(1), identity(2)]);
        check(known as u64 >= position);
    });
    writer.insert(&[identity(1)], day(1), Seq(1));
    writer.insert(&[identity(2)], day(1), Seq(2));
    join(readers);
}

fn shows_whole_uploads(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    let readers = beside(readers, &writer, |set| {
        let (position, known, is_certain) = probe(set, &[identity(1), identity(2)]);
        check(!is_certain || known as u64 == position * 2);
    });
    writer.insert(&[identity(1), identity(2)], day(1), Seq(1));
    join(readers);
}

/// The writer announces an upload, its participant is answered, and only then are its identities
/// inserted: a probe after the answer finds all of them, or is not certain.
fn announces_what_is_acknowledged(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    let answered = loom::sync::Arc::new(AtomicBool::new(false));
    let seen = loom::sync::Arc::clone(&answered);
    let readers = beside(readers, &writer, move |set| {
        if seen.load(Ordering::Acquire) {
            let (_, known, is_certain) = probe(set, &[identity(1)]);
            check(!is_certain || known == 1);
        }
    });
    writer.announce(Seq(1));
    answered.store(true, Ordering::Release);
    writer.insert(&[identity(1)], day(1), Seq(1));
    join(readers);
}

fn loses_nothing_while_it_grows(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    writer.insert(&[identity(1)], day(1), Seq(1));
    let readers = beside(readers, &writer, |set| {
        let all = [1, 2, 3].map(identity);
        let (position, known, is_certain) = probe(set, &all);
        let at_position = if position == 1 { 1 } else { 3 };
        check(known >= at_position);
        check(!is_certain || known == at_position);
    });
    // The third identity grows the shard.
    writer.insert(&[identity(2), identity(3)], day(1), Seq(2));
    join(readers);
}

fn forgets_nothing_else(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    writer.insert(&[identity(1), identity(2)], day(1), Seq(1));
    let readers = beside(readers, &writer, |set| {
        let (position, known, _) = probe(set, &[identity(2), identity(3)]);
        check(known as u64 >= position.min(2));
    });
    // Known already, and now for longer.
    writer.insert(&[identity(2)], day(2), Seq(1));
    while !writer.forget_before(day(2), Instant::now()) {}
    writer.insert(&[identity(3)], day(2), Seq(2));
    join(readers);
}

/// The same first word, and a second word of zeros, as a slot has before it is written.
fn finds_nothing_else(readers: usize) {
    let mut writer = IdentitySetWriter::new(Seq::ZERO);
    let readers = beside(readers, &writer, |set| {
        let mut other = identity(1);
        other.0[15] = 0;
        check(set.find_known(&[other]).is_empty());
    });
    writer.insert(&[identity(1)], day(1), Seq(1));
    join(readers);
}
