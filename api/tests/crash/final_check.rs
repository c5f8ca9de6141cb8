//! The final check: what every participant has when everything has been downloaded.

use std::collections::{BTreeMap, HashMap, HashSet};

use engine::domain::{BatchTag, Country};

use crate::book::{Outcome, Records, UploadIndex, succeeds};
use crate::uploads::Key;

/// Compares what all participants have downloaded with what was acknowledged, and with each other.
/// Returns complaints.
pub(crate) fn check(records: &Records, readers: &[Country]) -> Vec<String> {
    let mut complaints = check_chain(records);
    let present = present(records);
    for &reader in readers {
        complaints.extend(check_reader(records, reader, &present));
    }
    complaints.extend(check_order(records, readers));
    complaints.extend(check_keys(records, &present));
    complaints
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
    let unresolved = unresolved.filter(|(_, entry)| entry.outcome == Outcome::GivenUp);
    let there = unresolved
        .filter(|(index, _)| present.contains(index))
        .count();
    let keys = present.iter();
    let keys: usize = keys
        .map(|&index| records.uploads[index].upload.keys.len())
        .sum();
    format!(
        "{} uploads stored, {} refused, {} given up of which {there} are there, {keys} keys in {} batches",
        count(&Outcome::Stored),
        refused.count(),
        count(&Outcome::GivenUp),
        records.chain.len(),
    )
}

/// Tags are numbered from 1 without gaps, and each batch announces the next.
fn check_chain(records: &Records) -> Vec<String> {
    let mut complaints = Vec::new();
    let tags: Vec<BatchTag> = records.chain.keys().copied().collect();
    if tags.first().is_none_or(|first| first.number != 1) {
        complaints.push(format!("the first batch is {:?}", tags.first()));
    }
    for pair in tags.windows(2) {
        if !succeeds(pair[0], pair[1]) || records.chain[&pair[0]] != Some(pair[1]) {
            complaints.push(format!(
                "between {} and {} there is a gap",
                pair[0], pair[1]
            ));
        }
    }
    complaints
}

/// Uploads that any participant has received.
fn present(records: &Records) -> HashSet<UploadIndex> {
    let pages = records.pages.values().flat_map(BTreeMap::values);
    pages
        .flat_map(|page| page.uploads.iter().copied())
        .collect()
}

/// Every participant has every batch, and in them every stored upload of the others; every
/// acknowledged upload is stored.
fn check_reader(records: &Records, reader: Country, present: &HashSet<UploadIndex>) -> Vec<String> {
    let mut complaints = Vec::new();
    let pages = &records.pages[&reader];
    let missing = records.chain.keys().filter(|tag| !pages.contains_key(*tag));
    complaints.extend(missing.map(|tag| format!("{reader} has no batch {tag}")));
    let received: HashSet<UploadIndex> = pages
        .values()
        .flat_map(|page| page.uploads.iter().copied())
        .collect();
    for (index, entry) in records.uploads.iter().enumerate() {
        let of_others = entry.upload.country != reader;
        let due = entry.outcome == Outcome::Stored || present.contains(&index);
        if of_others && due && !received.contains(&index) {
            complaints.push(format!(
                "{reader} lacks {} of {}, {:?}",
                entry.upload.tag, entry.upload.country, entry.outcome
            ));
        }
    }
    let refused = received.iter().map(|&index| &records.uploads[index]);
    let refused = refused.filter(|entry| matches!(entry.outcome, Outcome::Refused(_)));
    complaints
        .extend(refused.map(|entry| format!("{} was refused and is there", entry.upload.tag)));
    complaints
}

/// Any two participants have the uploads that both received in the same batches and order.
fn check_order(records: &Records, readers: &[Country]) -> Vec<String> {
    let mut complaints = Vec::new();
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
                complaints.push(format!("{first} and {second} received another order"));
            }
        }
    }
    complaints
}

fn places(records: &Records, reader: Country) -> Vec<(BatchTag, UploadIndex)> {
    let pages = records.pages[&reader].iter();
    pages
        .flat_map(|(tag, page)| page.uploads.iter().map(|&index| (*tag, index)))
        .collect()
}

/// No key is stored twice.
fn check_keys(records: &Records, present: &HashSet<UploadIndex>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut owners: HashMap<&Key, UploadIndex> = HashMap::new();
    for &index in present {
        for key in &records.uploads[index].upload.keys {
            if let Some(other) = owners.insert(key, index) {
                let tags = [other, index].map(|index| &records.uploads[index].upload.tag);
                complaints.push(format!("a key is in {} and in {}", tags[0], tags[1]));
            }
        }
    }
    complaints
}
