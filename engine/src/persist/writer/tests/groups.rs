//! What goes into one transaction, in which order.

use super::*;

fn upload_of(country: &str, tag: &str, keys: &[u64]) -> Upload {
    Upload {
        country: Country::parse(country).unwrap(),
        ..upload(tag, keys)
    }
}

fn large(tag: &str, key: u64, bytes: usize) -> Upload {
    Upload {
        bytes,
        ..upload(tag, &[key])
    }
}

/// Stores an upload `a` of another country, and what has come while it was written. Returns the tags
/// of each group that was written after it, in the order of the log.
fn groups_of(queue: &[Upload]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (database, arrivals, verdicts) = gated(&on_sqlite(&folder), "a");
    let gateway = Gateway::start(&database, UnixMillis(0));
    let a = gateway.send(&upload_of("ES", "a", &[1]));
    arrivals.recv().unwrap();
    let (answered, answers) = bounded(queue.len());
    for upload in queue {
        let (answered, state) = (answered.clone(), Arc::clone(&gateway.state));
        // A group is answered together, when the position is at its end.
        gateway.send_to(upload, move |answer| {
            answered.send((answer, state.position())).unwrap();
        });
    }
    verdicts.send(None).unwrap();
    assert_eq!(a.recv(), Ok(Stored));
    let answers = answers.iter().take(queue.len());
    let stored = answers.filter(|(answer, _)| *answer == Stored);
    let ends: HashSet<Seq> = stored.map(|(_, end)| end).collect();
    gateway.stop();
    let mut groups = vec![Vec::new()];
    for entry in log(&database).into_iter().skip(1) {
        groups.last_mut().unwrap().push(entry.tag.to_string());
        if ends.contains(&entry.seq) {
            groups.push(Vec::new());
        }
    }
    assert_eq!(
        groups.pop(),
        Some(Vec::new()),
        "everything stored was answered"
    );
    groups
}

#[test]
fn serves_participants_round_robin_behind_a_full_group() {
    let queue = [
        large("full", 2, limits::GROUP_BYTES_MAX),
        upload_of("DE", "d1", &[3]),
        upload_of("DE", "d2", &[4]),
        upload_of("DE", "d3", &[5]),
        upload_of("FR", "f1", &[6]),
        upload_of("IT", "i1", &[7]),
    ];
    let next = vec!["d1", "f1", "i1", "d2", "d3"];
    assert_eq!(groups_of(&queue), [vec!["full"], next]);
}

#[test]
fn a_group_takes_no_more_when_its_bytes_are_many() {
    let half = limits::GROUP_BYTES_MAX / 2;
    let queue = ["b", "c", "d", "e", "f"];
    let queue: Vec<_> = (2..)
        .zip(queue)
        .map(|(key, tag)| large(tag, key, half))
        .collect();
    assert_eq!(
        groups_of(&queue),
        [vec!["b", "c"], vec!["d", "e"], vec!["f"]]
    );
}

#[test]
fn a_group_takes_no_more_when_it_has_put_off_many() {
    let with_rivals = |count| {
        let mut queue = vec![upload("b", &[50])];
        queue.extend((0..count).map(|number| upload(&format!("rival-{number}"), &[50])));
        queue.push(upload("z", &[51]));
        groups_of(&queue)
    };
    assert_eq!(with_rivals(limits::GROUP_DEFERRED_MAX - 1), [["b", "z"]]);
    assert_eq!(with_rivals(limits::GROUP_DEFERRED_MAX), [["b"], ["z"]]);
}
