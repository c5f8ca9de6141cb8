//! The final check: what every participant has when everything has been downloaded.

use std::collections::{BTreeMap, HashMap, HashSet};

use engine::domain::{BatchTag, Country};

use crate::history::{Outcome, Records, UploadIndex, succeeds};
use crate::uploads::Key;

/// Compares what all participants have downloaded with what was acknowledged, and with each other.
/// Returns violations.
pub(crate) fn check(records: &Records, readers: &[Country]) -> Vec<String> {
    let mut violations = check_chain(records);
    let present = present(records);
    for &reader in readers {
        violations.extend(check_reader(records, reader, &present));
    }
    violations.extend(check_order(records, readers));
    violations.extend(check_keys(records, &present));
    violations
}

/// A summary: how many uploads there were, and how many with an unknown outcome.
pub(crate) fn summary(records: &Records) -> String {
    let present = present(records);
    let count = |outcome: &Outcome| {
        let entries = records.uploads.iter();
        entries.filter(|entry| entry.outcome == *outcome).count()
    };
    let refused = records.uploads.iter();
    let refused = refused.filter(|entry| matches!(entry.outcome, Outcome::Refused(_)));
    let unresolved = records.uploads.iter().enumerate();
    let unresolved = unresolved.filter(|(_, entry)| entry.outcome == Outcome::Abandoned);
    let there = unresolved
        .filter(|(index, _)| present.contains(index))
        .count();
    let keys = present.iter();
    let keys: usize = keys
        .map(|&index| records.uploads[index].upload.keys.len())
        .sum();
    format!(
        "{} uploads stored, {} refused, {} abandoned of which {there} are stored, {keys} keys in {} batches",
        count(&Outcome::Stored),
        refused.count(),
        count(&Outcome::Abandoned),
        records.chain.len(),
    )
}

/// Tags are numbered from 1 without gaps, and each batch announces the next.
fn check_chain(records: &Records) -> Vec<String> {
    let mut violations = Vec::new();
    let tags: Vec<BatchTag> = records.chain.keys().copied().collect();
    if tags.first().is_none_or(|first| first.number != 1) {
        violations.push(format!("the first batch is {:?}", tags.first()));
    }
    for pair in tags.windows(2) {
        if !succeeds(pair[0], pair[1]) || records.chain[&pair[0]] != Some(pair[1]) {
            violations.push(format!(
                "between {} and {} there is a gap",
                pair[0], pair[1]
            ));
        }
    }
    violations
}

/// Uploads that any participant has received.
pub(crate) fn present(records: &Records) -> HashSet<UploadIndex> {
    let pages = records.received.values().flat_map(BTreeMap::values);
    pages
        .flat_map(|page| page.uploads.iter().copied())
        .collect()
}

/// Every participant has every batch, and in them every stored upload of the others; every
/// acknowledged upload is stored.
fn check_reader(records: &Records, reader: Country, present: &HashSet<UploadIndex>) -> Vec<String> {
    let mut violations = Vec::new();
    let pages = &records.received[&reader];
    let missing = records.chain.keys().filter(|tag| !pages.contains_key(*tag));
    violations.extend(missing.map(|tag| format!("{reader} has no batch {tag}")));
    let received: HashSet<UploadIndex> = pages
        .values()
        .flat_map(|page| page.uploads.iter().copied())
        .collect();
    for (index, entry) in records.uploads.iter().enumerate() {
        let of_others = entry.upload.country != reader;
        let due = entry.outcome == Outcome::Stored || present.contains(&index);
        if of_others && due && !received.contains(&index) {
            violations.push(format!(
                "{reader} lacks {} of {}, {:?}",
                entry.upload.tag, entry.upload.country, entry.outcome
            ));
        }
    }
    let refused = received.iter().map(|&index| &records.uploads[index]);
    let refused = refused.filter(|entry| matches!(entry.outcome, Outcome::Refused(_)));
    violations
        .extend(refused.map(|entry| format!("{} was refused and is there", entry.upload.tag)));
    violations
}

/// Any two participants have the uploads that both received in the same batches and order.
fn check_order(records: &Records, readers: &[Country]) -> Vec<String> {
    let mut violations = Vec::new();
    let places: Vec<Vec<(BatchTag, UploadIndex)>> = readers
        .iter()
        .map(|reader| places(records, *reader))
        .collect();
    for (first, ours) in readers.iter().zip(&places) {
        for (second, theirs) in readers.iter().zip(&places) {
            let shared = |list: &[(BatchTag, UploadIndex)]| -> Vec<(BatchTag, UploadIndex)> {
                let of = |index: UploadIndex| records.uploads[index].upload.country;
                let list = list.iter().copied();
                list.filter(|(_, index)| of(*index) != *first && of(*index) != *second)
                    .collect()
            };
            if first < second && shared(ours) != shared(theirs) {
                violations.push(format!("{first} and {second} received another order"));
            }
        }
    }
    violations
}

fn places(records: &Records, reader: Country) -> Vec<(BatchTag, UploadIndex)> {
    let pages = records.received[&reader].iter();
    pages
        .flat_map(|(tag, page)| page.uploads.iter().map(|&index| (*tag, index)))
        .collect()
}

/// No key is stored twice.
fn check_keys(records: &Records, present: &HashSet<UploadIndex>) -> Vec<String> {
    let mut violations = Vec::new();
    let mut owners: HashMap<&Key, UploadIndex> = HashMap::new();
    for &index in present {
        for key in &records.uploads[index].upload.keys {
            if let Some(other) = owners.insert(key, index) {
                let tags = [other, index].map(|index| &records.uploads[index].upload.tag);
                violations.push(format!("a key is in {} and in {}", tags[0], tags[1]));
            }
        }
    }
    violations
}
