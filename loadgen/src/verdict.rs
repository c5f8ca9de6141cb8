//! The sentence that a run ends with, and a report begins with: met or not, what, and by how much.

use crate::objective::{Measure, Objective};
use crate::quantity::{digits, scaled};
use crate::results::{Limit, ObjectiveOutcome, Summary};

/// Whether a run has reached all its objectives, or found a rate at which its objective holds; `None`
/// when it had none.
pub fn met(summary: &Summary) -> Option<bool> {
    let limit = summary.limit.as_ref();
    let found = limit.map(|limit| limit.uploads_per_second > 0.0);
    let objectives = summary.objectives.iter().map(|outcome| outcome.ok);
    objectives.chain(found).reduce(|one, other| one && other)
}

/// The verdict on a run, as one or two sentences.
pub fn sentence(summary: &Summary) -> String {
    match (&summary.limit, summary.objectives.is_empty()) {
        (Some(limit), true) => limit_sentence(limit),
        (Some(limit), false) => format!("{} {}", objectives(summary), limit_sentence(limit)),
        (None, true) => format!("No objective was given. {}", answered(summary)),
        (None, false) => objectives(summary),
    }
}

fn objectives(summary: &Summary) -> String {
    let (reached, missed): (Vec<_>, Vec<_>) =
        summary.objectives.iter().partition(|outcome| outcome.ok);
    let list = |outcomes: &[&ObjectiveOutcome]| {
        let each = outcomes.iter().map(|outcome| comparison(outcome));
        each.collect::<Vec<_>>().join("; ")
    };
    match (missed.is_empty(), reached.is_empty()) {
        (true, _) => format!("Met: {}.", list(&reached)),
        (false, true) => format!("NOT met: {}.", list(&missed)),
        (false, false) => format!("NOT met: {}. Met: {}.", list(&missed), list(&reached)),
    }
}

fn answered(summary: &Summary) -> String {
    let all = &summary.total;
    let (due, unexpected, dropped) = (all.due, all.unexpected, all.dropped);
    match (unexpected, dropped) {
        (0, 0) => format!("All {due} requests were answered as expected."),
        (_, 0) => format!("{unexpected} of {due} requests were not answered as expected."),
        _ => format!(
            "Of {due} requests {unexpected} were not answered as expected, and {dropped} were due and \
             never sent."
        ),
    }
}

fn limit_sentence(limit: &Limit) -> String {
    let Limit {
        objective,
        uploads_per_second: held,
        keys_per_second,
        broke_at_uploads_per_second: broke,
        reason,
    } = limit;
    let why = reason.as_deref().unwrap_or("not known why");
    let rate = |uploads: f64| format!("{} uploads/s", digits(uploads));
    match broke {
        Some(broke) if *held <= 0.0 => {
            format!(
                "NOT met: {objective} failed even at {}: {why}.",
                rate(*broke)
            )
        }
        Some(broke) => format!(
            "{objective} held up to {} ({} keys/s) and failed at {}: {why}.",
            rate(*held),
            scaled(*keys_per_second),
            rate(*broke)
        ),
        None => format!(
            "{objective} held up to {} ({} keys/s), the highest rate that was tried.",
            rate(*held),
            scaled(*keys_per_second)
        ),
    }
}

/// One objective: what was measured, and how far it is from the limit.
fn comparison(outcome: &ObjectiveOutcome) -> String {
    let Ok(objective) = outcome.objective.parse::<Objective>() else {
        // A later version knows more objectives.
        return outcome.objective.clone();
    };
    let measure = objective.measure();
    let limit = measure.shown(outcome.limit);
    let what = match objective.phase() {
        Some(phase) => format!("{} in {phase}", measure.words()),
        None => measure.words(),
    };
    match (outcome.measured, outcome.omitted_share) {
        (_, Some(share)) => format!(
            "{what} is not known to be within {limit}: {} % of the requests were due and never sent",
            digits(share * 100.0)
        ),
        (None, None) if matches!(measure, Measure::Delay(_)) => {
            format!("{what} is longer than could be measured (limit {limit})")
        }
        (None, None) => format!("{what} was not measured (limit {limit})"),
        (Some(0.0), None) => format!("{what} {} (limit {limit})", measure.shown(0.0)),
        (Some(measured), None) => {
            let distance = distance(measured, outcome.limit);
            // The upper bound of a bucket.
            let at_most = match measure {
                Measure::Delay(_) => "at most ",
                _ => "",
            };
            format!(
                "{what} {at_most}{}, {distance} {limit}",
                measure.shown(measured)
            )
        }
    }
}

/// `9 % below the limit of`, as words before the limit.
fn distance(measured: f64, limit: f64) -> String {
    let percent = (measured / limit - 1.0) * 100.0;
    let side = match measured < limit {
        true => "below",
        false => "above",
    };
    match percent.abs() {
        _ if (measured - limit).abs() <= f64::EPSILON => "exactly the limit of".to_owned(),
        _ if limit <= 0.0 => "above the limit of".to_owned(),
        percent if percent >= 900.0 => {
            format!("{} times the limit of", digits(measured / limit))
        }
        percent => format!("{} % {side} the limit of", digits(percent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Figures, LatencySummary, Percentiles};

    fn summary(objectives: &[&str]) -> Summary {
        let corrected = Percentiles {
            p99: 180_000,
            ..Percentiles::default()
        };
        let mut summary = Summary {
            total: Figures {
                seconds: 10.0,
                due: 1000,
                unexpected: 4,
                uploads: 450,
                upload: Some(LatencySummary {
                    corrected,
                    service: Percentiles::default(),
                }),
                ..Figures::default()
            },
            ..Summary::default()
        };
        let objectives = objectives
            .iter()
            .map(|text| text.parse::<Objective>().unwrap().outcome(&summary));
        summary.objectives = objectives.collect();
        summary
    }

    #[track_caller]
    fn check(objectives: &[&str], expected_met: Option<bool>, expected: &str) {
        let summary = summary(objectives);
        assert_eq!(sentence(&summary), expected);
        assert_eq!(met(&summary), expected_met);
    }

    #[test]
    fn says_whether_objectives_are_met_and_by_how_much() {
        check(
            &["upload_p99=2s", "rate=45"],
            Some(true),
            "Met: upload p99 180 ms, 91 % below the limit of 2 s; uploads stored 45/s, exactly the \
             limit of 45/s.",
        );
        check(
            &["p99=100ms", "errors=0.1%", "rate=40"],
            Some(false),
            "NOT met: upload p99 180 ms, 80 % above the limit of 100 ms; errors 0.4 %, 300 % above the \
             limit of 0.1 %. Met: uploads stored 45/s, 12.5 % above the limit of 40/s.",
        );
        check(
            &["p99=1ms", "errors=0", "download_p50=1s"],
            Some(false),
            "NOT met: upload p99 180 ms, 180 times the limit of 1 ms; errors 0.4 %, above the limit of \
             0 %; download p50 was not measured (limit 1 s).",
        );
    }

    #[test]
    fn says_that_a_delay_is_known_to_its_bucket() {
        let mut summary = summary(&[]);
        let outcome = |measured| ObjectiveOutcome {
            objective: "delay_p99=5s".to_owned(),
            measure: "delay_p99_seconds".to_owned(),
            limit: 5.0,
            measured,
            ok: measured.is_some(),
            omitted_share: None,
        };
        summary.objectives = vec![outcome(Some(3.0))];
        let expected = "Met: delay p99 at most 3 s, 40 % below the limit of 5 s.";
        assert_eq!(sentence(&summary), expected);
        summary.objectives = vec![outcome(None)];
        let expected = "NOT met: delay p99 is longer than could be measured (limit 5 s).";
        assert_eq!(sentence(&summary), expected);
    }

    #[test]
    fn says_why_a_latency_is_not_known() {
        let mut summary = summary(&["p99=2s"]);
        summary.objectives[0].omitted_share = Some(0.037);
        summary.objectives[0].ok = false;
        assert_eq!(
            sentence(&summary),
            "NOT met: upload p99 is not known to be within 2 s: 3.7 % of the requests were due and \
             never sent."
        );
    }

    #[test]
    fn says_without_objectives_what_was_answered() {
        check(
            &[],
            None,
            "No objective was given. 4 of 1000 requests were not answered as expected.",
        );
        let all = Summary::default();
        assert!(sentence(&all).ends_with("All 0 requests were answered as expected."));
    }

    #[test]
    fn says_up_to_which_rate_the_objective_held() {
        let limit = |held: f64, broke: Option<f64>| Summary {
            limit: Some(Limit {
                objective: "p99=250ms".to_owned(),
                uploads_per_second: held,
                keys_per_second: held * 5000.0,
                broke_at_uploads_per_second: broke,
                reason: broke.map(|_| "upload p99 was 300 ms".to_owned()),
            }),
            ..Summary::default()
        };
        for (summary, expected_met, expected) in [
            (
                limit(310.0, Some(320.0)),
                true,
                "p99=250ms held up to 310 uploads/s (1.55 M keys/s) and failed at 320 uploads/s: \
                 upload p99 was 300 ms.",
            ),
            (
                limit(0.0, Some(0.15)),
                false,
                "NOT met: p99=250ms failed even at 0.15 uploads/s: upload p99 was 300 ms.",
            ),
            (
                limit(310.0, None),
                true,
                "p99=250ms held up to 310 uploads/s (1.55 M keys/s), the highest rate that was tried.",
            ),
        ] {
            assert_eq!(sentence(&summary), expected);
            assert_eq!(met(&summary), Some(expected_met));
        }
    }
}
