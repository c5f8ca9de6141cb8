//! Whether a run can continue forever: then "resolved when quiescent" would promise nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::Model;

use crate::model::Protocol;
use crate::state::State;

struct Frame {
    id: u64,
    successors: Vec<State>,
}

/// Depth-first search: an edge back to a state on the current path closes a cycle.
pub(crate) fn has_cycle(protocol: &Protocol) -> bool {
    let mut is_on_the_way = HashMap::new();
    let mut way: Vec<Frame> = Vec::new();
    for state in protocol.init_states() {
        is_on_the_way.insert(id(&state), true);
        way.push(frame(protocol, &state));
    }
    while let Some(frame_at_end) = way.last_mut() {
        let Some(next) = frame_at_end.successors.pop() else {
            is_on_the_way.insert(frame_at_end.id, false);
            way.pop();
            continue;
        };
        match is_on_the_way.entry(id(&next)) {
            Entry::Occupied(seen) if *seen.get() => return true,
            Entry::Occupied(_) => {}
            Entry::Vacant(new) => {
                new.insert(true);
                way.push(frame(protocol, &next));
            }
        }
    }
    false
}

fn frame(protocol: &Protocol, state: &State) -> Frame {
    let mut actions = Vec::new();
    protocol.actions(state, &mut actions);
    let next = |action| protocol.next_state(state, action);
    Frame {
        id: id(state),
        successors: actions.into_iter().filter_map(next).collect(),
    }
}

fn id(state: &State) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(state)
}
