//! A failing list of operations is made short: parts are left out for as long as it still fails.

use std::time::{Duration, Instant};

use crate::ops::Operation;

/// How long a list is shortened at the most.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A short list that fails, too; `fails` runs one.
pub(crate) fn shrink(
    operations: Vec<Operation>,
    mut fails: impl FnMut(&[Operation]) -> bool,
) -> Vec<Operation> {
    let until = Instant::now() + TIME_MAX;
    let mut shortest = operations;
    let mut part = shortest.len().div_ceil(2);
    while part > 0 {
        let mut start = 0;
        while start < shortest.len() {
            if Instant::now() > until {
                return shortest;
            }
            let end = (start + part).min(shortest.len());
            let mut without = shortest.clone();
            without.drain(start..end);
            match fails(&without) {
                true => shortest = without,
                false => start = end,
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    shortest
}

#[test]
fn leaves_only_what_the_failure_needs() {
    let restart = |gateway| Operation::Restart { gateway };
    let list: Vec<_> = (0..37).map(restart).collect();
    let needed = [restart(3), restart(20), restart(36)];
    let short = shrink(list, |list| needed.iter().all(|one| list.contains(one)));
    assert_eq!(short, needed);
}
