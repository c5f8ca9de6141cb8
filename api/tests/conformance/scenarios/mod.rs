//! Scenarios, each on its own gateway.

mod exchange;
mod history;
mod identity;
mod limits;
mod signatures;
mod uploads;

use crate::named;

pub(crate) const SCENARIOS: &[(&str, crate::Scenario)] = named![
    exchange::uploads_and_downloads,
    exchange::spells_and_orders_headers_exactly,
    exchange::speaks_http2,
    exchange::removes_own_keys,
    uploads::refuses_a_batch_with_one_duplicate_whole,
    uploads::stores_one_of_two_simultaneous_uploads_with_one_tag,
    uploads::stores_full_uploads_and_cuts_them_whole,
    uploads::takes_bodies_in_chunks_and_bounds_them,
    uploads::closes_on_bodies_that_break_off,
    uploads::closes_on_clients_that_stall,
    limits::throttles_a_participant_that_exceeds_its_share,
    limits::says_when_it_is_full,
    identity::reaches_an_open_connection_with_a_revocation,
    identity::knows_clients_by_their_certificate_alone,
    identity::reads_identity_from_headers_of_other_names,
    identity::reads_the_certificate_itself_from_a_header,
    identity::trusts_identity_headers_of_configured_peers_only,
    history::keeps_everything_over_a_restart,
    history::numbers_batches_without_gaps_and_links_them_across_days,
    history::stops_serving_what_is_too_old,
    history::knows_duplicates_longer_than_they_can_be_downloaded,
    history::audits_what_was_uploaded_before_a_revocation,
    signatures::checks_the_validity_of_signers_at_the_time_of_the_upload,
    signatures::signs_as_bouncy_castle_and_openssl_do,
    signatures::writes_canonical_bytes_as_others_do,
];
