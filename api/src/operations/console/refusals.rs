//! Refused requests by reason, as an operator reads them.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Serialize;

use crate::response::catalog::{self, RequestKind};

/// A reason, and how often it was given.
#[derive(Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refusals {
    /// The stable code, as in the body of the error and in the metrics.
    code: String,
    /// The code in words.
    reason: String,
    /// The status of the response; nothing for a code of another version of the program.
    status: Option<u16>,
    /// Whose doing it is.
    whose: Option<&'static str>,
    /// Requests of the last hour, of all gateways.
    count: u64,
}

/// The statuses by code.
static STATUSES: LazyLock<HashMap<&'static str, u16>> = LazyLock::new(|| {
    let kinds = RequestKind::ALL.into_iter();
    let described = kinds.flat_map(catalog::refusals_of);
    let described = described.chain(catalog::refusals_of_routes());
    described
        .map(|refusal| (refusal.code, refusal.status))
        .collect()
});

/// The most frequent first.
pub(super) fn by_reason(counts: BTreeMap<String, u64>) -> Vec<Refusals> {
    let mut refusals: Vec<_> = counts
        .into_iter()
        .map(|(code, count)| of(code, count))
        .collect();
    refusals.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.code.cmp(&b.code)));
    refusals
}

fn of(code: String, count: u64) -> Refusals {
    let status = STATUSES.get(code.as_str()).copied();
    let whose = status.map(|status| match status {
        _ if code.starts_with("database_") || code.starts_with("storage_") => "the database",
        401 | 403 => "the certificate shown",
        404 | 410 => "nothing there",
        429 | 503 => "a bound of the gateway",
        500.. => "a failure of the gateway",
        _ => "a wrong request",
    });
    Refusals {
        reason: code.replace('_', " "),
        code,
        status,
        whose,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whose_doing_it_is() {
        for (code, whose) in [
            ("storage_refused", "the database"),
            ("database_unavailable", "the database"),
            ("certificate_expired", "the certificate shown"),
            ("overloaded_reads", "a bound of the gateway"),
            ("invalid_signature", "a wrong request"),
        ] {
            assert_eq!(of(code.to_owned(), 1).whose, Some(whose), "{code}");
        }
    }

    #[test]
    fn knows_a_status_of_every_code() {
        for code in catalog::every_code() {
            assert!(of(code.to_owned(), 1).status.is_some(), "{code}");
        }
    }

    #[test]
    fn lists_the_most_frequent_first() {
        let counts = [("not_found", 2), ("upload_tag_taken", 7), ("unheard_of", 2)];
        let counts = counts.map(|(code, count)| (code.to_owned(), count));
        let refusals = by_reason(BTreeMap::from(counts));
        let codes: Vec<_> = refusals.iter().map(|refusal| &*refusal.code).collect();
        assert_eq!(codes, ["upload_tag_taken", "not_found", "unheard_of"]);
        assert_eq!(refusals[0].reason, "upload tag taken");
        assert_eq!(
            (refusals[1].status, refusals[1].whose),
            (Some(404), Some("nothing there"))
        );
        assert_eq!((refusals[2].status, refusals[2].whose), (None, None));
    }
}
