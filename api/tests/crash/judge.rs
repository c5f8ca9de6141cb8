//! The last word: what every participant has, when all has been downloaded.

use std::collections::{BTreeMap, HashMap, HashSet};

use engine::domain::{BatchTag, Country};

use crate::book::{Fate, Records, UploadIndex, succeeds};
use crate::uploads::Key;

/// Holds what all participants have downloaded against what was acknowledged, and against each
/// other. Complaints come in sentences; a summary otherwise.
pub(crate) fn judge(records: &Records, readers: &[Country]) -> Vec<String> {
    let mut complaints = judge_chain(records);
    let present = present(records);
    for &reader in readers {
        complaints.extend(judge_reader(records, reader, &present));
    }
    complaints.extend(judge_order(records, readers));
    complaints.extend(judge_keys(records, &present));
    complaints
}

/// In a few words: how much there was, and how much of it in doubt.
pub(crate) fn summary(records: &Records) -> String {
    let present = present(records);
    let count = |fate: &Fate| {
        let entries = records.uploads.iter();
        entries.filter(|entry| entry.fate == *fate).count()
    };
    let refused = records.uploads.iter();
    let refused = refused.filter(|entry| matches!(entry.fate, Fate::Refused(_)));
    let in_doubt = records.uploads.iter().enumerate();
    let in_doubt = in_doubt.filter(|(_, entry)| entry.fate == Fate::GivenUp);
    let there = in_doubt
        .filter(|(index, _)| present.contains(index))
        .count();
    let keys = present.iter();
    let keys: usize = keys
        .map(|&index| records.uploads[index].upload.keys.len())
        .sum();
    format!(
        "{} uploads stored, {} refused, {} given up of which {there} are there, {keys} keys in {} batches",
        count(&Fate::Stored),
        refused.count(),
        count(&Fate::GivenUp),
        records.chain.len(),
    )
}

/// Tags count from 1, without a gap, and each announces the next.
fn judge_chain(records: &Records) -> Vec<String> {
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

/// Uploads that somebody has received.
fn present(records: &Records) -> HashSet<UploadIndex> {
    let pages = records.pages.values().flat_map(BTreeMap::values);
    pages
        .flat_map(|page| page.uploads.iter().copied())
        .collect()
}

/// Everyone has every batch, and in them every upload of the others that is there at all; what was
/// acknowledged is there.
fn judge_reader(records: &Records, reader: Country, present: &HashSet<UploadIndex>) -> Vec<String> {
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
        let due = entry.fate == Fate::Stored || present.contains(&index);
        if of_others && due && !received.contains(&index) {
            complaints.push(format!(
                "{reader} lacks {} of {}, {:?}",
                entry.upload.tag, entry.upload.country, entry.fate
            ));
        }
    }
    let refused = received.iter().map(|&index| &records.uploads[index]);
    let refused = refused.filter(|entry| matches!(entry.fate, Fate::Refused(_)));
    complaints
        .extend(refused.map(|entry| format!("{} was refused and is there", entry.upload.tag)));
    complaints
}

/// Any two participants have the uploads that both received in the same batches and order.
fn judge_order(records: &Records, readers: &[Country]) -> Vec<String> {
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

/// No key is there twice.
fn judge_keys(records: &Records, present: &HashSet<UploadIndex>) -> Vec<String> {
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
