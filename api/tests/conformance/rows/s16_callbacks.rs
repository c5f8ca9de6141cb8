//! §16: callbacks. Their tests need receivers, and are in a suite of their own.

use super::{Difference, Row, Section, covered_by};
use crate::World;

pub(super) const SECTION: Section = Section {
    name: "s16_callbacks",
    heading: "§16 Callbacks",
    rows: ROWS,
    prepare: World::new,
};

/// A deliberate difference from the reference, and its reason.
const fn but(gateway: &'static str, reason: &'static str) -> Option<Difference> {
    Some(Difference { gateway, reason })
}

const LISTS: &str =
    "api/tests/callbacks/subscriptions.rs::lists_changes_and_removes_the_callers_own_subscriptions";
const REFUSES: &str = "api/tests/callbacks/subscriptions.rs::refuses_invalid_ids_and_urls";
const CHECKS: &str = "api/src/delivery/url.rs::checks_urls_as_the_reference_does_and_better";
const TELLS: &str =
    "api/tests/callbacks/delivery.rs::notifies_of_each_batch_in_order_over_mutual_tls";

const ROWS: &[Row] = &[
    // Rows 5 to 7 of the first table of §1.
    covered_by(
        "§1.0.5",
        "`GET /diagnosiskeys/callback`: 200 with JSON",
        LISTS,
        None,
    ),
    covered_by(
        "§1.0.6",
        "`PUT /diagnosiskeys/callback/{id}?url=…`: 200, no body",
        LISTS,
        None,
    ),
    covered_by(
        "§1.0.7",
        "`DELETE /diagnosiskeys/callback/{id}`: 200, no body",
        LISTS,
        None,
    ),
    covered_by(
        "§16.1.1",
        "the list: `[{\"callbackId\":\"…\",\"url\":\"…\"}]` of the caller's country, `[]` when \
         there are none; no `id`",
        LISTS,
        None,
    ),
    covered_by(
        "§16.1.2",
        "`url` as query or form parameter; missing: 400; check fails: 400 `Callback URL is \
         invalid`; else added or changed: 200, empty; an id or a URL too long: 500",
        REFUSES,
        but(
            "400 where the id has more than 32 or the URL more than 256 characters; 409 beyond 16 \
             subscriptions per country",
            "what a client sends must not be a 500, and nothing may grow without a bound",
        ),
    ),
    covered_by(
        "§16.1.3",
        "deletion: 404 `Could not find any callback subscription for the given callbackId.`, \
         else 200; ids are per country",
        LISTS,
        None,
    ),
    covered_by(
        "§16.1.4",
        "two simultaneous first PUTs make two rows, and every later request a 500",
        "api/tests/callbacks/subscriptions.rs::keeps_one_subscription_of_two_simultaneous_ones_and_bounds_their_number",
        but("one subscription", "country and id are the primary key"),
    ),
    covered_by(
        "§16.2.1",
        "the URL: https in any letter case, no query, not even an empty one; user information, \
         fragments, any port and path are allowed",
        CHECKS,
        but(
            "user information is refused",
            "it would be stored and shown, and is of no use with mutual TLS",
        ),
    ),
    covered_by(
        "§16.2.2",
        "the first address of the host must not be in one of twelve networks, two of them public",
        "api/src/delivery/url.rs::refuses_hosts_with_any_address_that_is_not_public",
        but(
            "no address of the host may be in a special-purpose registry, multicast or reserved; \
             177/8 and 144.64/10 are let pass; the operator may allow networks and hosts",
            "K-3, and an address other than the first is connected to as well",
        ),
    ),
    covered_by(
        "§16.2.3",
        "the checked name is resolved again for the connection",
        "api/tests/callbacks/addresses.rs::connects_to_the_address_that_was_checked",
        but(
            "the checked address is connected to, also through a proxy, under the name in the URL",
            "K-1: DNS rebinding",
        ),
    ),
    covered_by(
        "§16.2.4",
        "a name that cannot be resolved for a delivery deletes the subscription",
        "api/tests/callbacks/addresses.rs::counts_an_unresolvable_name_as_a_failed_attempt",
        but("a failed attempt", "K-2"),
    ),
    covered_by(
        "§16.3.1",
        "`GET <url>?batchTag=<tag>&date=<yyyy-MM-dd>`, `User-Agent: EFGS Callback Engine`, no \
         body; any 2xx is success",
        TELLS,
        None,
    ),
    covered_by(
        "§16.3.2",
        "no redirects are followed; everything else than 2xx, a timeout or a TLS failure is a \
         failed attempt",
        "api/tests/callbacks/delivery.rs::tries_again_in_order_and_never_follows_a_redirect",
        None,
    ),
    covered_by(
        "§16.3.3",
        "looks every 300 s; waits 300 s after a failure",
        "api/src/delivery/mod.rs::doubles_the_wait_up_to_a_bound_with_up_to_a_quarter_of_jitter",
        but(
            "looks every second; waits 300 s, doubled with each failure up to an hour, and up to a \
             quarter more",
            "keys are worth more early; receivers that are down are not met by all at once",
        ),
    ),
    covered_by(
        "§16.3.4",
        "in order per subscription, by timestamps of 10 ms",
        "engine/tests/callbacks.rs::delivers_new_batches_in_order_one_at_a_time",
        but("in order of the batches' numbers", "ties chained wrongly"),
    ),
    covered_by(
        "§16.3.5",
        "after six attempts the subscription is deleted",
        "api/tests/callbacks/outages.rs::hides_a_subscription_after_six_attempts_so_that_fi_subscribes_again",
        but(
            "it is disabled: no longer listed or notified, and shown to operators with the \
             reason; a PUT enables it, and it continues where it was",
            "K-6: operators did not see why; FI subscribes again only when it finds no subscription, and \
             imports only the batches that it is notified of",
        ),
    ),
    covered_by(
        "§16.3.5a",
        "the deleted subscription is not listed; `PUT` makes a new one, whether the client lists first (FI) or \
         not (DE)",
        "api/tests/callbacks/outages.rs::accepts_a_put_of_de_before_during_and_after_an_outage",
        None,
    ),
    covered_by(
        "§16.3.5b",
        "`DELETE` of the deleted subscription: 404",
        "api/tests/callbacks/outages.rs::forgets_a_disabled_subscription_that_is_removed",
        None,
    ),
    covered_by(
        "§16.3.6",
        "locks are written apart from what they guard: several instances deliver twice",
        "engine/tests/callbacks.rs::gives_each_delivery_to_one_gateway",
        but("a claim is one conditional statement", "K-5"),
    ),
    covered_by(
        "§16.3.7",
        "locks of a dead instance are cleared after 300 s",
        "api/tests/callbacks/several_gateways.rs::takes_over_from_a_gateway_that_was_killed",
        but("a claim expires after 40 s", "twice the longest attempt"),
    ),
    covered_by(
        "§16.3.8",
        "a callback may name a batch that cannot be downloaded any more",
        "engine/tests/callbacks.rs::skips_batches_that_cannot_be_downloaded_any_more",
        but("it is skipped", "no client can use it"),
    ),
    covered_by(
        "§16.3.9",
        "always shows the configured certificate",
        "api/tests/callbacks/trust.rs::presents_the_configured_certificate",
        None,
    ),
    covered_by(
        "§16.3.10",
        "accepts a receiver when any certificate of its chain is any country's AUTHENTICATION \
         certificate, revoked or expired ones included",
        "api/tests/callbacks/trust.rs::trusts_the_subscribers_receivers_only",
        but(
            "its own certificate must be an AUTHENTICATION or CALLBACK certificate of the \
             subscriber's, not revoked and not expired",
            "K-4",
        ),
    ),
    covered_by(
        "§16.3.11",
        "no CA is trusted for receivers",
        "api/tests/callbacks/trust.rs::trusts_a_ca_of_the_operator_for_the_host_of_the_url",
        but(
            "a CA of the operator's is, for the host in the URL",
            "receivers behind a public certificate",
        ),
    ),
    covered_by(
        "§16.3.12",
        "an optional HTTP proxy with user and password",
        "api/tests/callbacks/addresses.rs::goes_through_a_proxy_to_the_address_that_was_checked",
        None,
    ),
];
