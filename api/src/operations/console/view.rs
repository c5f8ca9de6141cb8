//! `/console.json`: what the page shows, as one JSON object.
//!
//! Instants are milliseconds since the Unix epoch, days and hours are in UTC, sizes are bytes, rates are per
//! second. Figures of "the last hour" begin with the start of a gateway that is younger.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::Engine;
use engine::domain::UnixMillis;
use engine::locks::LockIgnoringPoison as _;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;

use super::figures::{ParticipantFigures, Rates, add_refusals};
use super::gateways::{self, Gateway};
use super::history::{Columns, rounded};
use super::participants::{self, Participant, Source, days_between};
use super::refusals::{self, Refusals};
use super::sampling::{Sampled, as_count};
use super::sentence::Sentence;
use super::state::{Console, Statistics};
use crate::lifecycle::Running;
use crate::negotiate::PLAIN_JSON;
use crate::openapi::describe::Operation;

/// How long the first look waits for them.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The body of `/console.json`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// When it was made, by this gateway's clock.
    at: u64,
    /// This gateway's name.
    gateway: String,
    version: &'static str,
    /// The worst first.
    attention: Vec<Attention>,
    installation: Installation,
    statistics: ShownStatistics,
    /// When the hours of each participant begin.
    hours: Vec<u64>,
    participants: Vec<Participant>,
    refusals: Vec<Refusals>,
    own_certificates: Vec<OwnCertificate>,
    gateways: Vec<Gateway>,
    /// Of all gateways; since this one was started, at most an hour.
    history: Columns,
}

/// A sentence, and which gateways say it; none for what concerns the installation.
#[derive(Debug, JsonSchema, Serialize)]
struct Attention {
    #[serde(flatten)]
    sentence: Sentence,
    gateways: Vec<String>,
}

/// All gateways together.
#[derive(Debug, Default, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Installation {
    /// The day that the installation acts on.
    day: String,
    gateways: usize,
    gateways_ready: usize,
    uploads_today: u64,
    keys_today: u64,
    downloads_today: u64,
    downloaded_keys_today: u64,
    newest_batch: Option<String>,
    newest_batch_at: Option<u64>,
    /// Behind the newest download batch.
    uploads_waiting: u64,
    log_position: u64,
    epoch: u64,
    rates: Rates,
    delay: Delay,
}

/// The delay from upload to downloadable, in the last hour; estimated from a histogram.
#[derive(Debug, Default, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Delay {
    uploads: u64,
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

/// How old the database's statistics are.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStatistics {
    read_at: Option<u64>,
    /// Why they are not newer.
    error: Option<String>,
}

/// A certificate of the gateway.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnCertificate {
    name: &'static str,
    not_after: u64,
    days_left: i64,
}

/// Everything that the page shows. Waits a little for the database the first time.
pub(in crate::operations) async fn look(console: &Console) -> View {
    console.note_look();
    if console.shown.lifecycle.running().is_some() {
        let mut statistics = console.statistics.subscribe();
        let first = statistics.wait_for(|known| known.overview.is_some() || known.error.is_some());
        // Without them, the page shows what this gateway knows.
        let _ = tokio::time::timeout(FIRST_LOOK, first).await;
    }
    View::of(console)
}

/// The description of `/console.json`.
pub(in crate::operations) fn describe_figures() -> Operation {
    let summary = "What the console shows";
    let mut operation = Operation::page("consoleFigures", summary, PLAIN_JSON, &schema());
    operation.text = "All gateways of the installation. Instants are milliseconds since the Unix epoch, days and \
        hours are in UTC, sizes are bytes, rates are per second. Figures of the last hour begin with the start of a \
        gateway that is younger. The statistics of the database are read while somebody asks, at most every four \
        seconds. Later versions may add members."
        .into();
    operation
}

/// The schema of the body, from the documentation of its types.
fn schema() -> serde_json::Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<View>();
    let mut schema = schema.to_value();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    schema
}

impl View {
    /// Everything as of now.
    pub(super) fn of(console: &Console) -> Self {
        let now = console.now();
        let figures = console.figures();
        let statistics = console.statistics.borrow();
        let sampled = console.sampled.lock_ignoring_poison();
        let this = Gateway::this(console.name(), console.started_at, &figures);
        let others = gateways::shown(&sampled.others).map(Gateway::other);
        let gateways: Vec<_> = std::iter::once(this).chain(others).collect();
        let mut refused = figures.refusals;
        let mut seen = figures.participants;
        for other in &sampled.others {
            // What a gateway that is gone has seen of the last hour is forgotten, but not when
            // participants have downloaded.
            add_seen(&mut seen, &other.figures.participants, other.is_alive());
            if other.is_alive() {
                add_refusals(&mut refused, &other.figures.refusals);
            }
        }
        let running = console.shown.lifecycle.running();
        let participants = running.map_or_else(Vec::new, |running| {
            let overview = statistics.overview.as_deref();
            let source = Source {
                running,
                overview,
                seen: &seen,
                now,
            };
            source.participants()
        });
        let mut attention = Vec::new();
        for sentence in participants.iter().flat_map(Participant::sentences) {
            add_sentence(&mut attention, sentence, None);
        }
        for sentence in gateways::sentences(&gateways) {
            add_sentence(&mut attention, sentence, None);
        }
        for sentence in figures.sentences {
            add_sentence(&mut attention, sentence, Some(console.name()));
        }
        for other in sampled.others.iter().filter(|other| other.is_alive()) {
            for sentence in &other.figures.sentences {
                add_sentence(&mut attention, sentence.clone(), Some(&other.name));
            }
        }
        attention.sort_by_key(|shown: &Attention| std::cmp::Reverse(shown.sentence.severity));
        let mut installation = installation(running, &sampled, &participants);
        installation.gateways = gateways.iter().filter(|one| one.is_alive()).count();
        installation.gateways_ready = gateways.iter().filter(|one| one.is_ready()).count();
        Self {
            at: now.0,
            gateway: console.name().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            attention,
            installation,
            statistics: ShownStatistics::of(&statistics),
            hours: participants::hours(now).collect(),
            participants,
            refusals: refusals::by_reason(refused),
            own_certificates: own_certificates(console, now),
            gateways,
            history: sampled.history.columns(),
        }
    }
}

fn add_seen(
    seen: &mut BTreeMap<String, ParticipantFigures>,
    others: &BTreeMap<String, ParticipantFigures>,
    is_alive: bool,
) {
    for (country, other) in others {
        let known = seen.entry(country.clone()).or_default();
        match is_alive {
            true => known.add(other),
            false => known.last_download_at = known.last_download_at.max(other.last_download_at),
        }
    }
}

/// The same sentence of several gateways is shown once.
fn add_sentence(attention: &mut Vec<Attention>, sentence: Sentence, gateway: Option<&str>) {
    let gateway = gateway.map(str::to_owned);
    let known = attention
        .iter_mut()
        .find(|known| known.sentence.text == sentence.text);
    match known {
        Some(known) => known.gateways.extend(gateway),
        None => attention.push(Attention {
            sentence,
            gateways: gateway.into_iter().collect(),
        }),
    }
}

fn installation(
    running: Option<&Running>,
    sampled: &Sampled,
    participants: &[Participant],
) -> Installation {
    let sum = |of: fn(&Participant) -> u64| participants.iter().map(of).sum();
    let delays = sampled.installation_delays();
    let newest_at = sampled.value("efgs_newest_download_batch_timestamp_seconds");
    let status = running.map(|running| Engine::status(&running.engine));
    let newest_batch = status.as_ref().and_then(|status| status.newest_batch);
    Installation {
        day: status
            .as_ref()
            .map_or_else(String::new, |status| status.day.day.to_string()),
        log_position: status.as_ref().map_or(0, |status| status.log_position),
        newest_batch: newest_batch.map(|tag| tag.to_string()),
        newest_batch_at: Some(as_count(newest_at * 1000.0)).filter(|at| *at > 0),
        uploads_waiting: as_count(sampled.value("efgs_uploads_waiting")),
        epoch: as_count(sampled.value("efgs_epoch")),
        uploads_today: sum(Participant::uploads_today),
        keys_today: sum(Participant::keys_today),
        downloads_today: sum(Participant::downloads_today),
        downloaded_keys_today: sum(Participant::downloaded_keys_today),
        rates: sampled.installation_rates(),
        delay: Delay {
            uploads: as_count(delays.count()),
            p50_seconds: delays.quantile(0.5).map(rounded),
            p99_seconds: delays.quantile(0.99).map(rounded),
        },
        ..Installation::default()
    }
}

impl ShownStatistics {
    fn of(statistics: &Statistics) -> Self {
        Self {
            read_at: statistics.read_at.map(|at| at.0),
            error: statistics.error.clone(),
        }
    }
}

fn own_certificates(console: &Console, now: UnixMillis) -> Vec<OwnCertificate> {
    let ends = console.shown.attention.own.ends().into_iter();
    let ends = ends.filter_map(|(name, end)| Some((name, end?)));
    ends.map(|(name, end)| OwnCertificate {
        name,
        not_after: end.0,
        days_left: days_between(now, end),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_several_gateways_say_once_with_their_names() {
        let mut attention = Vec::new();
        let full = Sentence::error("the disk is full");
        add_sentence(&mut attention, full.clone(), Some("a"));
        add_sentence(&mut attention, Sentence::warning("renew it"), None);
        add_sentence(&mut attention, full, Some("b"));
        assert_eq!(attention.len(), 2);
        assert_eq!(attention[0].gateways, ["a", "b"]);
        assert!(attention[1].gateways.is_empty());
        let json = serde_json::to_value(&attention[0]).unwrap();
        assert_eq!(json["severity"], "error");
        assert_eq!(json["text"], "The disk is full.");
    }

    #[test]
    fn keeps_of_a_gateway_that_is_gone_only_when_participants_have_downloaded() {
        let of = |duplicate_keys, last_download_at| {
            let figures = ParticipantFigures {
                duplicate_keys,
                last_download_at,
                ..ParticipantFigures::default()
            };
            BTreeMap::from([("DE".to_owned(), figures)])
        };
        let mut seen = of(1, 10);
        add_seen(&mut seen, &of(5, 20), true);
        add_seen(&mut seen, &of(7, 30), false);
        assert_eq!(seen, of(6, 30));
    }
}
