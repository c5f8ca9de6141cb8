//! The gateway's clock beside the database's.

use super::finding::{Finding, Severity};

/// Most that they may differ before an operator is told, in milliseconds; as in the alert `EfgsClocksDiffer`.
/// From 300 s on, the gateway cuts no download batches.
const DIFFERENCE_MS_MAX: u64 = 60_000;

/// A finding if the clocks differ; `ahead_ms` is the gateway's minus the database's.
pub(crate) fn finding(ahead_ms: i64) -> Option<Finding> {
    if ahead_ms.unsigned_abs() <= DIFFERENCE_MS_MAX {
        return None;
    }
    let seconds = ahead_ms.unsigned_abs() / 1000;
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Some(Finding {
        severity: Severity::Warning,
        subject: "clock".to_owned(),
        text: format!(
            "this machine's clock is {seconds} s {side} the database's: set the wrong one right"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_when_the_clocks_differ_by_more_than_a_minute() {
        assert_eq!(finding(60_000), None);
        assert_eq!(finding(-60_000), None);
        let text = |ahead_ms| finding(ahead_ms).unwrap().text;
        assert!(text(61_000).contains("is 61 s ahead of the database's"));
        assert!(text(-3_600_000).contains("is 3600 s behind the database's"));
    }
}
