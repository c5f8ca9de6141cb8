//! The state of the console: what was sampled here, and what other gateways have said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::domain::UnixMillis;
use engine::overview::AnnouncedGateway;

use super::delay::Delays;
use super::figures::{Figures, Gauges, ParticipantFigures, Rates, Used};
use super::history::{History, Sample};
use super::last_hour::LastHour;
use super::reading::{Reading, label_of, name_of};

/// How old an announcement may be of a gateway that is well: three of its rhythm.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(35);
/// Samples whose delays are shown together, so that one upload makes no spike of its own.
const DELAY_SAMPLES: usize = 12;

/// Another gateway, as of its last announcement.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) started_at: UnixMillis,
    /// How long ago it was seen, by the database's clock.
    pub(super) age: Duration,
    pub(super) figures: Figures,
}

/// Everything that a console remembers.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    last: Option<(Instant, Reading)>,
    pub(super) rates: Rates,
    pub(super) gauges: Gauges,
    pub(super) history: History,
    hour: LastHour,
    /// Gains of the delay's buckets, the newest last.
    delays: Vec<Delays>,
    last_downloads: BTreeMap<String, UnixMillis>,
    pub(super) others: Vec<Other>,
}

impl From<AnnouncedGateway> for Other {
    fn from(announced: AnnouncedGateway) -> Self {
        let age_ms = announced.read_at.0.saturating_sub(announced.seen_at.0);
        let said = announced.announcement;
        Self {
            name: said.name,
            version: said.version,
            started_at: said.started_at,
            age: Duration::from_millis(age_ms),
            figures: Figures::from_bytes(&said.figures),
        }
    }
}

impl Other {
    /// Whether it works, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        self.age <= SEEN_WITHIN && !self.figures.has_stopped
    }
}

impl Sampled {
    /// Takes the metrics in, as of now.
    pub(super) fn take(&mut self, text: &str, now: UnixMillis, at: Instant) {
        let Some((before_at, before)) = self.last.take() else {
            let reading = Reading::parse(text, &Reading::default());
            self.gauges = gauges(&reading);
            self.last = Some((at, reading));
            return;
        };
        let seconds = at.duration_since(before_at).as_secs_f64();
        let reading = Reading::parse(text, &before);
        if seconds > 0.0 {
            self.compare(&reading, &before, seconds, now);
        }
        self.last = Some((at, reading));
    }

    fn compare(&mut self, reading: &Reading, before: &Reading, seconds: f64, now: UnixMillis) {
        self.rates = rates(reading, before, seconds);
        let cpu = reading.gained(before, "process_cpu_seconds_total", "");
        self.gauges = Gauges {
            cpu_cores: cpu / seconds,
            ..gauges(reading)
        };
        self.hour.add(now.seconds() / 60, reading, before);
        let gains = reading.of("efgs_delivery_delay_seconds_bucket");
        let gains = gains.map(|(sample, value)| (sample, value - before.value(sample)));
        self.delays.push(Delays::from_gains(gains));
        if self.delays.len() > DELAY_SAMPLES {
            self.delays.remove(0);
        }
        self.note_downloads(reading, before, now);
        let sample = self.installation_now(now);
        self.history.push(sample);
    }

    fn note_downloads(&mut self, reading: &Reading, before: &Reading, now: UnixMillis) {
        for (sample, value) in reading.of("efgs_downloads_total") {
            let Some(country) = label_of(sample, "country") else {
                continue;
            };
            if value > before.value(sample) {
                self.last_downloads.insert(country.to_owned(), now);
            }
        }
    }

    /// All gateways together.
    fn installation_now(&self, now: UnixMillis) -> Sample {
        let mut delays = self.delays_minute();
        let mut in_flight = self.gauges.uploads_in_flight.used;
        for other in self.others.iter().filter(|other| other.is_alive()) {
            delays.add(&other.figures.delays_minute);
            let theirs = other.figures.gauges.uploads_in_flight.used;
            in_flight = in_flight.saturating_add(theirs);
        }
        let rates = self.installation_rates();
        Sample {
            at: now.0,
            keys: rates.keys,
            uploads: rates.uploads,
            downloads: rates.downloads,
            download_bytes: rates.download_bytes,
            refusals: rates.refusals,
            delay_p50: delays.quantile(0.5),
            delay_p99: delays.quantile(0.99),
            uploads_in_flight: as_float(in_flight),
        }
    }

    /// The rates of all gateways together.
    pub(super) fn installation_rates(&self) -> Rates {
        let mut rates = self.rates;
        let alive = self.others.iter().filter(|other| other.is_alive());
        alive.for_each(|other| rates.add(&other.figures.rates));
        rates
    }

    /// Delays of the last hour, of all gateways.
    pub(super) fn installation_delays(&self) -> Delays {
        let mut delays = self.delays_hour();
        let alive = self.others.iter().filter(|other| other.is_alive());
        alive.for_each(|other| delays.add(&other.figures.delays_hour));
        delays
    }

    pub(super) fn delays_minute(&self) -> Delays {
        let mut all = Delays::default();
        self.delays.iter().for_each(|delays| all.add(delays));
        all
    }

    pub(super) fn delays_hour(&self) -> Delays {
        let gains = self.hour.gains();
        let gains = gains
            .iter()
            .filter(|(sample, _)| name_of(sample) == "efgs_delivery_delay_seconds_bucket");
        Delays::from_gains(gains.map(|(sample, gained)| (sample, *gained)))
    }

    /// Refused requests of the last hour on this gateway, by code.
    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        let mut refusals = BTreeMap::new();
        for (sample, gained) in self.hour.gains() {
            if name_of(&sample) == "efgs_refusals_total"
                && let Some(code) = label_of(&sample, "code")
            {
                refusals.insert(code.to_owned(), as_count(gained));
            }
        }
        refusals
    }

    /// What this gateway has seen of each participant in the last hour.
    pub(super) fn participants(&self) -> BTreeMap<String, ParticipantFigures> {
        let mut participants: BTreeMap<String, ParticipantFigures> = BTreeMap::new();
        for (sample, gained) in self.hour.gains() {
            let Some(country) = label_of(&sample, "country") else {
                continue;
            };
            let seen = participants.entry(country.to_owned()).or_default();
            if let Some(count) = count_of(&sample, seen) {
                *count = as_count(gained);
            }
        }
        for (country, at) in &self.last_downloads {
            let seen = participants.entry(country.clone()).or_default();
            seen.last_download_at = at.0;
        }
        participants
    }

    /// Takes over what participants had downloaded before this gateway was started.
    pub(super) fn remember_downloads(&mut self) {
        let Self {
            others,
            last_downloads,
            ..
        } = self;
        for (country, seen) in others.iter().flat_map(|other| &other.figures.participants) {
            let at = UnixMillis(seen.last_download_at);
            let known = last_downloads.entry(country.clone()).or_insert(at);
            *known = at.max(*known);
        }
        last_downloads.retain(|_, at| at.0 > 0);
    }

    /// The last reading.
    pub(super) fn value(&self, sample: &str) -> f64 {
        let last = self.last.as_ref();
        last.map_or(0.0, |(_, reading)| reading.value(sample))
    }
}

/// Where a participant's sample is counted, if the console shows it.
fn count_of<'a>(sample: &str, seen: &'a mut ParticipantFigures) -> Option<&'a mut u64> {
    let name = name_of(sample);
    if name == "efgs_participant_refusals_total" {
        let code = label_of(sample, "code")?;
        return Some(seen.refusals.entry(code.to_owned()).or_default());
    }
    match (name, label_of(sample, "outcome")?) {
        ("efgs_keys_total", "duplicate") => Some(&mut seen.duplicate_keys),
        ("efgs_uploads_total", "duplicates") => Some(&mut seen.duplicate_uploads),
        ("efgs_uploads_total", "rejected") => Some(&mut seen.rejected_uploads),
        ("efgs_uploads_total", "refused") => Some(&mut seen.refused_uploads),
        ("efgs_uploads_total", "failed") => Some(&mut seen.failed_uploads),
        _ => None,
    }
}

fn rates(reading: &Reading, before: &Reading, seconds: f64) -> Rates {
    let rate = |name, label| reading.gained(before, name, label) / seconds;
    Rates {
        keys: rate("efgs_keys_total", "outcome=\"stored\""),
        uploads: rate("efgs_uploads_total", "outcome=\"stored\""),
        downloads: rate("efgs_downloads_total", "kind=\"batch\""),
        download_bytes: rate("efgs_download_bytes_total", "kind=\"batch\""),
        refusals: rate("efgs_refusals_total", ""),
    }
    .rounded()
}

fn gauges(reading: &Reading) -> Gauges {
    let count = |sample: &str| as_count(reading.value(sample));
    let used = |sample: &str| Used {
        used: count(sample),
        max: count(&format!("{sample}_max")),
    };
    let (disk, free) = (
        count("efgs_database_disk_bytes"),
        count("efgs_database_disk_free_bytes"),
    );
    Gauges {
        uploads_in_flight: used("efgs_admission_in_flight_batches"),
        upload_bytes_in_flight: used("efgs_admission_in_flight_bytes"),
        connections: Used {
            used: count("efgs_connections_open"),
            max: count("efgs_connections_max"),
        },
        stored_memory_bytes: Used {
            used: as_count(reading.sum("efgs_stored_memory_bytes", "")),
            max: count("efgs_stored_memory_bytes_max"),
        },
        bundle_cache_bytes: used("efgs_bundle_cache_bytes"),
        audit_cache_bytes: used("efgs_audit_cache_bytes"),
        callback_deliveries: used("efgs_callback_deliveries_in_flight"),
        open_files: Used {
            used: count("process_open_fds"),
            max: count("process_max_fds"),
        },
        disk_bytes: Used {
            used: disk.saturating_sub(free),
            max: disk,
        },
        identities: count("efgs_identities"),
        resident_bytes: count("process_resident_memory_bytes"),
        cpu_cores: 0.0,
    }
}

/// A gauge or a counter as a number of things; NaN and what is below 0 are 0.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates"
)]
pub(super) fn as_count(value: f64) -> u64 {
    value.round() as u64
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}
