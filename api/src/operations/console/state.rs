//! What the console of a gateway knows, and how it asks the database.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::domain::UnixMillis;
use engine::locks::LockIgnoringPoison as _;
use engine::overview::{Announcement, Overview};
use engine::{Clock as _, Engine, SystemClock};
use tokio::sync::{Notify, watch};

use super::figures::Figures;
use super::sampling::{self, Sampled};
use super::sentence::Sentence;
use super::sentences;
use crate::lifecycle::Running;
use crate::operations::shown::Shown;

/// Between announcements to the other gateways.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// How old the statistics may be that a page is shown: pages that are open at a time share them.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(4);
/// How long after the last look the statistics are still read.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(15);

/// What the database said last.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) overview: Option<Arc<Overview>>,
    pub(super) read_at: Option<UnixMillis>,
    /// Why the last look failed, if it did.
    pub(super) error: Option<String>,
}

/// When the database was asked last, and somebody looked.
#[derive(Debug, Default)]
struct Asked {
    announced: Option<Instant>,
    overview: Option<Instant>,
    looked: Option<Instant>,
}

/// The console of a gateway.
pub(crate) struct Console {
    pub(super) shown: Arc<Shown>,
    pub(super) name: String,
    address: Option<String>,
    pub(super) started_at: UnixMillis,
    pub(super) sampled: Mutex<Sampled>,
    asked: Mutex<Asked>,
    pub(super) statistics: watch::Sender<Statistics>,
    pub(super) looked: Notify,
}

impl Console {
    /// Gateways of one machine are told apart by one of their ports. `operations` is the address of that port.
    pub(crate) fn new(
        shown: Arc<Shown>,
        operations: Option<SocketAddr>,
        participants: Option<SocketAddr>,
    ) -> Self {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let machine = machine.unwrap_or_else(|_| "gateway".to_owned());
        let machine = machine.trim();
        let port = operations.or(participants).map(|address| address.port());
        Self {
            shown,
            name: port.map_or_else(|| machine.to_owned(), |port| format!("{machine}:{port}")),
            address: operations.map(|address| address.to_string()),
            started_at: SystemClock.now(),
            sampled: Mutex::default(),
            asked: Mutex::default(),
            statistics: watch::Sender::new(Statistics::default()),
            looked: Notify::new(),
        }
    }

    /// Somebody looks: the statistics are read, if they are not new.
    pub(super) fn note_look(&self) {
        self.asked.lock_ignoring_poison().looked = Some(Instant::now());
        self.looked.notify_one();
    }

    /// Takes a sample of the metrics.
    pub(super) fn sample(&self) {
        self.shown.measure();
        let text = self.shown.metrics.render();
        let now = self.now();
        self.sampled
            .lock_ignoring_poison()
            .take(&text, now, Instant::now());
    }

    /// The time that the gateway goes by.
    pub(super) fn now(&self) -> UnixMillis {
        let running = self.shown.lifecycle.running();
        running.map_or_else(|| SystemClock.now(), |running| running.clock.now())
    }

    /// Announces this gateway if that is due, and reads the statistics if somebody looks.
    pub(super) fn ask_database(&self, running: &Running) {
        let (announce, read) = {
            let mut asked = self.asked.lock_ignoring_poison();
            let due = asked.due();
            asked.note(due);
            due
        };
        if announce {
            self.announce(&running.engine, false);
        }
        if read {
            self.read_statistics(&running.engine);
        }
    }

    /// Also when it stops, which the others then know.
    pub(super) fn announce(&self, engine: &Engine, has_stopped: bool) {
        let figures = Figures {
            has_stopped,
            ..self.figures()
        };
        let announced = engine.announce(&Announcement {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            figures: figures.to_bytes(),
        });
        match announced {
            Ok(gateways) => {
                let mut sampled = self.sampled.lock_ignoring_poison();
                sampled.others = gateways.into_iter().map(Into::into).collect();
                sampled.remember_downloads();
                sampled.others.retain(|other| other.name != self.name);
            }
            // Whoever uses the database says that it fails.
            Err(error) => {
                tracing::debug!(
                    error = engine::chain(&error),
                    "cannot announce this gateway"
                );
            }
        }
    }

    fn read_statistics(&self, engine: &Engine) {
        let now = self.now();
        let read = engine.overview(now);
        self.statistics.send_modify(|known| match read {
            Ok(overview) => {
                *known = Statistics {
                    overview: Some(Arc::new(overview)),
                    read_at: Some(now),
                    error: None,
                }
            }
            Err(error) => known.error = Some(engine::chain(&error)),
        });
    }

    /// What this gateway says about itself.
    pub(super) fn figures(&self) -> Figures {
        let status = self.shown.status();
        let sentences = self.own_sentences();
        let sampled = self.sampled.lock_ignoring_poison();
        Figures {
            is_ready: status.ready,
            has_stopped: false,
            address: self.address.clone(),
            cuts: status.cuts,
            database_available: status.database_available,
            clock_ahead_of_database_ms: status.clock_ahead_of_database_ms,
            epoch: sampling::as_count(sampled.value("efgs_epoch")),
            log_position: status.log_position,
            rates: sampled.rates,
            gauges: sampled.gauges,
            delays_minute: sampled.delays_minute(),
            delays_hour: sampled.delays_hour(),
            refusals: sampled.refusals(),
            participants: sampled.participants(),
            sentences,
        }
    }

    /// What this gateway needs attention for.
    fn own_sentences(&self) -> Vec<Sentence> {
        let mut sentences = sentences::of_status(&self.shown.status());
        if let Some(running) = self.shown.lifecycle.running() {
            let findings = self
                .shown
                .attention
                .findings(&running.engine, &*running.clock);
            sentences.extend(findings.into_iter().map(Into::into));
        }
        sentences.extend(sentences::of_gauges(
            &self.sampled.lock_ignoring_poison().gauges,
        ));
        sentences.extend(self.shown.warnings.iter().map(Sentence::warning));
        sentences
    }
}

impl Console {
    /// Whether the database is to be asked for something.
    pub(super) fn has_to_ask(&self) -> bool {
        self.asked.lock_ignoring_poison().due() != (false, false)
    }
}

impl Asked {
    /// Whether to announce this gateway, and to read the statistics.
    fn due(&self) -> (bool, bool) {
        let is_due =
            |last: Option<Instant>, interval| last.is_none_or(|at| at.elapsed() >= interval);
        let is_looked_at = self
            .looked
            .is_some_and(|at| at.elapsed() < LOOKED_AT_WITHIN);
        (
            is_due(self.announced, ANNOUNCE_INTERVAL),
            is_looked_at && is_due(self.overview, OVERVIEW_AGE_MAX),
        )
    }

    fn note(&mut self, (announced, read): (bool, bool)) {
        let now = Instant::now();
        if announced {
            self.announced = Some(now);
        }
        if read {
            self.overview = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statistics_only_while_somebody_looks_and_not_more_often_than_they_age() {
        let mut asked = Asked::default();
        assert_eq!(asked.due(), (true, false));
        asked.note((true, false));
        assert_eq!(asked.due(), (false, false));
        asked.looked = Some(Instant::now());
        assert_eq!(asked.due(), (false, true));
        asked.note((false, true));
        assert_eq!(asked.due(), (false, false), "another page shares them");
        let ago = |time: Duration| Instant::now().checked_sub(time);
        asked.overview = ago(OVERVIEW_AGE_MAX);
        assert_eq!(asked.due(), (false, true));
        asked.looked = ago(LOOKED_AT_WITHIN);
        assert_eq!(asked.due(), (false, false), "nobody looks any more");
        asked.announced = ago(ANNOUNCE_INTERVAL);
        assert_eq!(asked.due(), (true, false));
    }
}
