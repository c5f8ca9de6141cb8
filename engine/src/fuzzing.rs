//! Entry points for fuzzing parsers that are otherwise private. Not in release programs.

use crate::continuity::State;

pub use crate::import::fuzzed_columns as import_columns;

/// A state file. What is read means the same when it is written.
///
/// # Panics
/// When it does not.
pub fn state_file(text: &str) {
    if let Some(state) = State::parse(text) {
        assert_eq!(State::parse(&state.to_string()), Some(state));
    }
}
