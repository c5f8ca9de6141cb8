use super::*;

fn keys(numbers: std::ops::Range<u8>) -> Vec<DiagnosisKey> {
    let key = |number| DiagnosisKey {
        key_data: vec![number; 16],
        rolling_start_interval_number: 2_668_032,
        rolling_period: 144,
        origin: "DE".to_owned(),
        ..DiagnosisKey::default()
    };
    numbers.map(key).collect()
}

/// No key is lost or doubled by a step, and no tag is used for other content.
fn resolved(pending: &Pending, verdict: Verdict) -> Resolution {
    let Next::Resolved(resolution) = resolve(pending, "DE", verdict) else {
        panic!("not resolved");
    };
    let outcomes = resolution.outcomes.iter().map(|outcome| match outcome {
        KeyOutcome::Stored(key) | KeyOutcome::Known(key) | KeyOutcome::Refused { key, .. } => {
            key.clone()
        }
    });
    let next = resolution.next.iter();
    let mut after: Vec<_> = outcomes
        .chain(next.flat_map(|next| next.keys.clone()))
        .collect();
    after.sort();
    assert_eq!(after, pending.keys);
    assert!(resolution.next.iter().all(|next| next.tag != pending.tag));
    resolution
}

#[test]
fn keeps_every_key_of_a_207() {
    let pending = Pending::new("DE", keys(0..4));
    let partly = Verdict::Partly {
        known: vec![1],
        failed: vec![3],
    };
    let resolution = resolved(&pending, partly);
    assert_eq!(
        resolution.outcomes,
        [KeyOutcome::Known(keys(1..2).remove(0))]
    );
    let sizes: Vec<_> = resolution.next.iter().map(|next| next.keys.len()).collect();
    assert_eq!(sizes, [2, 1], "those under 201 are not stored, either");
}

#[test]
fn refuses_a_key_that_the_server_fails_to_store_again_and_again() {
    let mut pending = Pending::new("DE", keys(0..2));
    for round in 1..=FAILURES_MAX {
        let all = (0..pending.keys.len()).collect();
        let resolution = resolved(
            &pending,
            Verdict::Partly {
                known: vec![],
                failed: all,
            },
        );
        let is_last = round == FAILURES_MAX;
        assert_eq!(resolution.next.is_empty(), is_last);
        assert_eq!(resolution.outcomes.is_empty(), !is_last);
        if let Some(next) = resolution.next.into_iter().next() {
            pending = next;
        }
    }
}

/// On the reference, a repeat after a lost answer is a 409; the same keys under a new tag are a 207.
#[test]
fn finds_out_what_a_taken_tag_means() {
    let pending = Pending::new("DE", keys(0..3));
    let again = resolved(&pending, Verdict::TagTaken).next.remove(0);
    assert_eq!(again.keys, pending.keys);
    let all = Verdict::Partly {
        known: vec![0, 1, 2],
        failed: vec![],
    };
    assert_eq!(resolved(&again, all).outcomes.len(), 3);
}

#[test]
fn halves_what_is_too_large_down_to_a_key() {
    let pending = Pending::new("DE", keys(0..3));
    let sizes: Vec<_> = resolved(&pending, Verdict::TooLarge)
        .next
        .iter()
        .map(|next| next.keys.len())
        .collect();
    assert_eq!(sizes, [2, 1]);
    let one = Pending::new("DE", keys(0..1));
    assert!(matches!(
        resolved(&one, Verdict::TooLarge).outcomes[..],
        [KeyOutcome::Refused { .. }]
    ));
}

#[test]
fn leaves_out_what_is_invalid_before_it_is_sent() {
    let mut pending = Pending::new("DE", keys(0..3));
    let now = 2_668_032 * 600;
    assert_eq!(leave_out_invalid(&pending, "DE", now), None);
    pending.keys[1].rolling_period = 0;
    let resolution = leave_out_invalid(&pending, "DE", now).unwrap();
    assert_eq!(
        (resolution.outcomes.len(), resolution.next[0].keys.len()),
        (1, 2)
    );
    // What was valid when it was queued may have become too old meanwhile.
    let resolution = leave_out_invalid(&pending, "DE", now + 16 * 86_400).unwrap();
    assert_eq!((resolution.outcomes.len(), resolution.next.len()), (3, 0));
}

#[test]
fn splits_into_unique_keys_under_new_tags() {
    let mut twice = keys(0..5);
    twice.extend(keys(0..1));
    let parts = Pending::split("DE", twice, 2);
    let sizes: Vec<_> = parts.iter().map(|part| part.keys.len()).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert!(parts[0].tag != parts[1].tag && parts[0].tag.len() <= 64);
}

#[test]
fn waits_longer_each_time_up_to_five_minutes() {
    let waits = [1, 2, 3, 9, 10, 200].map(|attempts| backoff(attempts).as_secs());
    assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
}
