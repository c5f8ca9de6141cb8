//! What is promised in every state, and what must occur in some, or the model proves little.

use stateright::{Expectation, Model, Property};

use crate::model::{LOST_RACES_MAX, Protocol};
use crate::state::{Batch, Request, Run, Sight, State, UPLOADS, covered, length};

pub(crate) fn all() -> Vec<Property<Protocol>> {
    let mut all = promises();
    let sight = |&(name, is_seen): &Sighting| Property {
        expectation: Expectation::Sometimes,
        name,
        condition: is_seen,
    };
    all.extend(SIGHTS.iter().map(sight));
    all
}

fn promises() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no key and no tag is stored twice", |_, state: &State| {
            is_stored_once(state)
        }),
        Property::always("the log has no hole", |_, state: &State| {
            state.database.log.iter().all(Option::is_some)
        }),
        Property::always(
            "what is acknowledged is stored, unless the database lost it",
            |_, state: &State| is_acknowledged_rightly(state),
        ),
        Property::always(
            "answers from memory are about what is stored",
            |_, state: &State| !state.seen.answered_wrongly,
        ),
        Property::always(
            "download batches adjoin and are numbered without gap",
            |_, state: &State| has_no_gap(state),
        ),
        Property::always(
            "download batches are of rows that are there",
            |_, state: &State| covered(&state.database.batches) <= length(&state.database.log),
        ),
        Property::always(
            "no gateway that could know gives a number two contents",
            |_, state: &State| !state.seen.has_two_contents,
        ),
        Property::always("only who has the lease cuts", |_, state: &State| {
            !state.seen.cut_without_lease
        }),
        Property::always(
            "no upload loses more races than that",
            |_, state: &State| {
                state
                    .gateways
                    .iter()
                    .all(|gateway| gateway.lost_races <= LOST_RACES_MAX)
            },
        ),
        Property::always(
            "every quiescent state is resolved, or reported",
            is_resolved_when_quiescent,
        ),
    ]
}

type Sighting = (&'static str, fn(&Protocol, &State) -> bool);

/// What the scenarios together must show: a name and a predicate.
pub(crate) const SIGHTS: [Sighting; 9] = [
    ("a replay", |_, state| {
        state.seen.sight == Some(Sight::Replay)
    }),
    ("a refusal", |_, state| {
        state.requests.contains(&Request::Refused)
    }),
    ("a claimed log", |_, state| {
        state.seen.sight == Some(Sight::Claim)
    }),
    ("a cut fenced off", |_, state| {
        state.seen.sight == Some(Sight::FencedOff)
    }),
    ("a row of a dead connection", |_, state| {
        state.seen.sight == Some(Sight::LateRow)
    }),
    ("an acknowledged upload lost and told", |_, state| {
        state.seen.acknowledged & state.seen.lost != 0 && state.seen.was_told
    }),
    ("a new epoch with a download batch", |_, state| {
        state.database.epoch > 0 && state.database.batches.len() > 1
    }),
    ("a skipped number", |_, state| {
        let last = state.database.batches.last();
        last.is_some_and(|batch| usize::from(batch.number) > state.database.batches.len())
    }),
    (
        "a number with two contents, by those who could not know",
        |_, state| state.seen.is_forked,
    ),
];

fn is_stored_once(state: &State) -> bool {
    let (mut tags, mut keys) = (0_u8, 0_u8);
    state.database.log.iter().flatten().all(|&upload| {
        let content = &UPLOADS[usize::from(upload)];
        let is_new = tags & (1 << content.tag) == 0 && keys & content.keys == 0;
        tags |= 1 << content.tag;
        keys |= content.keys;
        is_new
    })
}

fn stored(state: &State) -> u8 {
    let rows = state.database.log.iter().flatten();
    rows.fold(0, |stored, &upload| stored | 1 << upload)
}

fn is_acknowledged_rightly(state: &State) -> bool {
    state.seen.acknowledged & !(stored(state) | state.seen.lost) == 0
}

fn has_no_gap(state: &State) -> bool {
    let begins_epoch = |number: u8| state.seen.epoch_starts & (1 << number) != 0;
    let follows = |before: Option<&Batch>, batch: &Batch| {
        let (number, last) = before.map_or((0, 0), |before| (before.number, before.last));
        let is_next =
            batch.number == number + 1 || (batch.number > number && begins_epoch(batch.number));
        is_next && batch.first == last + 1 && batch.last >= batch.first
    };
    let batches = &state.database.batches;
    let before = std::iter::once(None).chain(batches.iter().map(Some));
    before
        .zip(batches)
        .all(|(before, batch)| follows(before, batch))
}

/// When no more actions happen by themselves, every request is answered, all rows are in download
/// batches that every gateway serves, and every loss was reported.
fn is_resolved_when_quiescent(protocol: &Protocol, state: &State) -> bool {
    if is_settled(protocol, state) {
        return true;
    }
    let mut actions = Vec::new();
    protocol.progress(state, &mut actions);
    actions
        .into_iter()
        .any(|action| protocol.next_state(state, action).is_some())
}

fn is_settled(protocol: &Protocol, state: &State) -> bool {
    let database = &state.database;
    let seen = &state.seen;
    let is_answered =
        |request: &Request| matches!(request, Request::Acknowledged | Request::Refused);
    let missing = seen.acknowledged & !stored(state);
    state.gateways.iter().all(|gateway| {
        gateway.run == Run::Up && gateway.log == database.log && gateway.batches == database.batches
    }) && state.requests.iter().all(is_answered)
        && (!protocol.cuts || covered(&database.batches) == length(&database.log))
        && (missing == 0 && !seen.is_forked || seen.was_told)
}
