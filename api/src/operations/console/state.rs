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
use super::gateways;
use super::sampling::{self, Other, Sampled};
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

/// Whether another gateway announces itself under this one's name: the row is then somebody else's again and
/// again. The first announcement finds that of the same gateway before its restart.
#[derive(Debug, Default)]
struct NameUse {
    has_announced: bool,
    is_shared: bool,
}

impl NameUse {
    /// Notes who has written the row under this name before this gateway did: gateways are told apart by
    /// their start.
    fn note(&mut self, written_by: Option<UnixMillis>, this: UnixMillis) {
        let is_others = written_by.is_some_and(|started_at| started_at != this);
        self.is_shared = self.has_announced && is_others;
        self.has_announced = true;
    }
}

/// The console of a gateway.
pub(crate) struct Console {
    pub(super) shown: Arc<Shown>,
    address: Option<String>,
    pub(super) started_at: UnixMillis,
    pub(super) sampled: Mutex<Sampled>,
    asked: Mutex<Asked>,
    name_use: Mutex<NameUse>,
    pub(super) statistics: watch::Sender<Statistics>,
    pub(super) looked: Notify,
}

impl Console {
    /// `operations` is the address of that port, if it is open.
    pub(crate) fn new(shown: Arc<Shown>, operations: Option<SocketAddr>) -> Self {
        Self {
            shown,
            address: operations.map(|address| address.to_string()),
            started_at: SystemClock.now(),
            sampled: Mutex::default(),
            asked: Mutex::default(),
            name_use: Mutex::default(),
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
            name: self.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            figures: figures.into_bytes(),
        });
        match announced {
            Ok(gateways) => {
                let others: Vec<Other> = gateways.into_iter().map(Into::into).collect();
                let own_row = others.iter().find(|other| other.name == self.name());
                let written_by = own_row.map(|row| row.started_at);
                self.name_use
                    .lock_ignoring_poison()
                    .note(written_by, self.started_at);
                let mut sampled = self.sampled.lock_ignoring_poison();
                sampled.others = others;
                sampled.remember_downloads();
                sampled.others.retain(|other| other.name != self.name());
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
        if self.name_use.lock_ignoring_poison().is_shared {
            sentences.push(gateways::shared_name(self.name()));
        }
        sentences.extend(self.shown.warnings.iter().map(Sentence::warning));
        sentences
    }

    /// The gateway's name.
    pub(super) fn name(&self) -> &str {
        &self.shown.gateway
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
    fn notices_another_gateway_of_the_same_name_but_not_itself_before_a_restart() {
        let (this, other) = (UnixMillis(7), UnixMillis(3));
        let mut name_use = NameUse::default();
        let mut is_shared = |written_by| {
            name_use.note(written_by, this);
            name_use.is_shared
        };
        assert!(!is_shared(Some(other)), "it may be the one before");
        assert!(!is_shared(Some(this)));
        assert!(is_shared(Some(other)));
        assert!(!is_shared(Some(this)), "it was given another name");
        assert!(!is_shared(None), "the row was deleted");
    }

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
