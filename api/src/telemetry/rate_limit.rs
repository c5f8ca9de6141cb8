//! How many lines a participant or peer may cause, and how often a thread repeats a warning: beyond
//! that, lines of one cause are suppressed, and the next one has their count. When no next one comes, a line of
//! its own has it.
//!
//! - *In*: events of requests, with who sent them; warnings and errors of the gateway's own threads.
//!   Their other events are not limited, and neither are those that only an operator's filter shows
//!   (DEBUG).
//! - *Out*: which of them become lines, and how many were left out before each.
//! - *Runs on*: any thread; a lock for the time of a look-up.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison;
use tracing::{Level, Metadata};

use crate::bounds::{OTHER_LINES, WORK_LINES};
use crate::slots::Holder;

tokio::task_local! {
    /// Who sent the request that this task answers.
    static SENDER: Holder;
}

/// Answers a request: the lines that it causes count against its sender.
pub(crate) async fn on_behalf_of<F: Future>(sender: Holder, answer: F) -> F::Output {
    SENDER.scope(sender, answer).await
}

/// How many lines of one cause.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    /// Between two lines, once the burst is used up.
    interval: Duration,
}

/// For completed work: enough for one line per upload, even on the busiest day.
const WORK: Rate = Rate {
    burst: WORK_LINES,
    interval: Duration::from_millis(5),
};
/// For refusals and all other events: ten lines show an operator what is wrong.
const OTHER: Rate = Rate {
    burst: OTHER_LINES,
    interval: Duration::from_secs(1),
};

/// For warnings and errors outside of requests that say the same, as one does that tries again and
/// again what fails.
const REPEATED: Rate = Rate {
    burst: 1,
    interval: Duration::from_secs(1),
};

/// The events of work that was done; a full 207 is one, too.
const WORK_MESSAGES: [&str; 3] = [
    "successfull batch upload",
    "error inserting keys",
    "Requested Audit Information",
];

/// Causes that are remembered, of all participants and peers. One takes 48 bytes.
const CAUSES_MAX: usize = 8192;

/// Limits lines per cause.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// Keyed, so that no sender can provoke a collision with another's cause.
    hasher: RandomState,
    causes: Mutex<HashMap<u64, Cause>>,
}

#[derive(Debug)]
struct Cause {
    /// Up to when its lines are paid for: one interval per line.
    paid_until: Instant,
    /// Events without a line since its last one.
    suppressed_count: u64,
    /// What they say; set with the first of them.
    repeated: Option<Box<Repeated>>,
}

/// What suppressed lines have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repeated {
    level: Level,
    message: Box<str>,
    country: Box<str>,
}

impl Repeated {
    fn new(metadata: &Metadata<'_>, message: &str, country: &str) -> Self {
        Self {
            level: *metadata.level(),
            message: message.into(),
            country: country.into(),
        }
    }

    fn log(&self, count: u64) {
        let message = "lines of one cause were suppressed";
        let Self {
            level,
            message: of,
            country,
        } = self;
        let country = (!country.is_empty()).then_some(&**country);
        match *level {
            Level::ERROR => tracing::error!(
                country,
                suppressedMessage = &**of,
                suppressedLines = count,
                "{message}"
            ),
            Level::WARN => tracing::warn!(
                country,
                suppressedMessage = &**of,
                suppressedLines = count,
                "{message}"
            ),
            _ => tracing::info!(
                country,
                suppressedMessage = &**of,
                suppressedLines = count,
                "{message}"
            ),
        }
    }
}

/// Between looks for suppressed lines that no line of their cause has followed.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Logs how many lines were suppressed of causes that are quiet now, from time to time, on a thread of its own
/// that ends with the process.
pub(super) fn report_suppressed(limit: Arc<RateLimit>) {
    let report = move || {
        loop {
            thread::sleep(REPORT_INTERVAL);
            for (repeated, count) in limit.take_quiet(Instant::now()) {
                repeated.log(count);
            }
        }
    };
    let spawned = thread::Builder::new()
        .name("log-repeats".to_owned())
        .spawn(report);
    if let Err(error) = spawned {
        tracing::warn!(%error, "suppressed lines are only counted by efgs_log_lines_suppressed_total");
    }
}

impl RateLimit {
    /// Whether an event becomes a line: how many before it did not, or `None`. `own` are the values
    /// of all its fields, if it belongs to no request, but to a thread of the gateway.
    pub(super) fn admit(
        &self,
        metadata: &Metadata<'_>,
        message: &str,
        country: &str,
        own: Option<&str>,
    ) -> Option<u64> {
        if *metadata.level() > Level::INFO {
            return Some(0);
        }
        let Ok(sender) = SENDER.try_with(|sender| *sender) else {
            return match (own, *metadata.level()) {
                (Some(values), Level::WARN | Level::ERROR) => {
                    let repeated = || Repeated::new(metadata, message, country);
                    self.count((metadata.callsite(), values), REPEATED, repeated)
                }
                _ => Some(0),
            };
        };
        // A participant may come from many addresses, and a proxy's connection has many participants.
        let sender = country.is_empty().then_some(sender);
        let cause = (metadata.callsite(), message, country, sender);
        let rate = if WORK_MESSAGES.contains(&message) {
            WORK
        } else {
            OTHER
        };
        let repeated = || Repeated::new(metadata, message, country);
        self.count(cause, rate, repeated)
    }

    fn count(
        &self,
        cause: impl Hash,
        rate: Rate,
        repeated: impl FnOnce() -> Repeated,
    ) -> Option<u64> {
        let cause = self.hasher.hash_one(cause);
        let admitted = self.admit_cause(cause, rate, Instant::now(), repeated);
        if admitted.is_none() {
            metrics::counter!("efgs_log_lines_suppressed_total").increment(1);
        }
        admitted
    }

    /// The causes whose burst is there again, with how many of their lines no line has told.
    fn take_quiet(&self, now: Instant) -> Vec<(Repeated, u64)> {
        let mut causes = self.causes.lock_ignoring_poison();
        let quiet = causes
            .values_mut()
            .filter(|cause| cause.suppressed_count > 0 && cause.paid_until <= now);
        let take = |cause: &mut Cause| {
            let repeated = cause.repeated.take()?;
            Some((*repeated, std::mem::take(&mut cause.suppressed_count)))
        };
        quiet.filter_map(take).collect()
    }

    fn admit_cause(
        &self,
        cause: u64,
        rate: Rate,
        now: Instant,
        repeated: impl FnOnce() -> Repeated,
    ) -> Option<u64> {
        let mut causes = self.causes.lock_ignoring_poison();
        if causes.len() >= CAUSES_MAX && !causes.contains_key(&cause) {
            // One whose lines are not limited any more is forgotten, and what was suppressed with it: the
            // metric has counted it. Otherwise one peer with many addresses could fill the map for
            // good.
            causes.retain(|_, cause| cause.paid_until > now);
            if causes.len() >= CAUSES_MAX {
                // So many causes at once are an attack: a line each would be one, too.
                return None;
            }
        }
        let cause = causes.entry(cause).or_insert(Cause {
            paid_until: now,
            suppressed_count: 0,
            repeated: None,
        });
        let paid_until = cause.paid_until.max(now);
        let credit = rate.interval * rate.burst.saturating_sub(1);
        if paid_until.saturating_duration_since(now) > credit {
            cause.suppressed_count += 1;
            cause.repeated.get_or_insert_with(|| Box::new(repeated()));
            return None;
        }
        cause.paid_until = paid_until + rate.interval;
        cause.repeated = None;
        Some(std::mem::take(&mut cause.suppressed_count))
    }
}

#[cfg(test)]
mod tests {
    use engine::domain::Country;
    use std::net::{IpAddr, Ipv4Addr};
    use tracing::{Event, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        interval: Duration::from_secs(1),
    };

    fn repeated() -> Repeated {
        Repeated {
            level: Level::WARN,
            message: "Certificate has expired".into(),
            country: "DE".into(),
        }
    }

    #[test]
    fn reports_what_was_suppressed_when_no_line_of_the_cause_follows() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..43 {
            limit.admit_cause(1, RATE, start, repeated);
        }
        assert_eq!(limit.take_quiet(after(1)), [], "a line may follow");
        assert_eq!(limit.take_quiet(after(5)), [(repeated(), 40)]);
        assert_eq!(limit.take_quiet(after(6)), []);
        assert_eq!(limit.admit_cause(1, RATE, after(7), repeated), Some(0));
        for _ in 0..4 {
            limit.admit_cause(2, RATE, after(7), repeated);
        }
        assert_eq!(limit.admit_cause(2, RATE, after(9), repeated), Some(1));
        assert_eq!(limit.take_quiet(after(60)), [], "a line has told");
    }

    #[test]
    fn suppresses_beyond_the_burst_and_says_how_many() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let admit = |cause, milliseconds| {
            limit.admit_cause(
                cause,
                RATE,
                start + Duration::from_millis(milliseconds),
                repeated,
            )
        };
        for _ in 0..3 {
            assert_eq!(admit(1, 0), Some(0));
        }
        for _ in 0..40 {
            assert_eq!(admit(1, 900), None);
        }
        assert_eq!(admit(2, 900), Some(0), "another cause");
        assert_eq!(admit(1, 1000), Some(40));
        assert_eq!(admit(1, 1500), None);
        assert_eq!(admit(1, 2000), Some(1));
        // After a quiet time, the burst is there again.
        for _ in 0..3 {
            assert_eq!(admit(1, 9000), Some(0));
        }
        assert_eq!(admit(1, 9000), None);
    }

    #[test]
    fn says_once_a_second_what_a_thread_says_again_and_again() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let admitted: Vec<_> = (0..40)
            .filter_map(|number| {
                let now = start + Duration::from_millis(number * 50);
                limit.admit_cause(1, REPEATED, now, repeated)
            })
            .collect();
        assert_eq!(admitted, [0, 19]);
    }

    #[test]
    fn remembers_a_bounded_number_of_causes() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let causes_max = u64::try_from(CAUSES_MAX).unwrap();
        for cause in 0..causes_max {
            assert_eq!(limit.admit_cause(cause, RATE, start, repeated), Some(0));
        }
        assert_eq!(limit.admit_cause(causes_max, RATE, start, repeated), None);
        assert_eq!(
            limit.admit_cause(0, RATE, start, repeated),
            Some(0),
            "a known one"
        );
        let later = start + Duration::from_secs(10);
        assert_eq!(
            limit.admit_cause(causes_max, RATE, later, repeated),
            Some(0)
        );
        assert_eq!(limit.causes.lock().unwrap().len(), 1);
    }

    #[test]
    fn forgets_causes_that_were_suppressed_when_they_have_been_quiet() {
        let (limit, start) = (RateLimit::default(), Instant::now());
        let causes_max = u64::try_from(CAUSES_MAX).unwrap();
        for cause in 0..causes_max {
            for _ in 0..4 {
                limit.admit_cause(cause, RATE, start, repeated);
            }
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(
            limit.admit_cause(causes_max, RATE, later, repeated),
            Some(0)
        );
    }

    type Seen = Arc<Mutex<Option<&'static Metadata<'static>>>>;

    /// Keeps what an event says of itself.
    struct Probe(Seen);

    impl<S: Subscriber> Layer<S> for Probe {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() = Some(event.metadata());
        }
    }

    fn metadata(event: impl FnOnce()) -> &'static Metadata<'static> {
        let seen = Seen::default();
        let probe = tracing_subscriber::registry().with(Probe(Arc::clone(&seen)));
        tracing::subscriber::with_default(probe, event);
        let seen = *seen.lock().unwrap();
        seen.expect("an event")
    }

    #[tokio::test]
    async fn limits_a_participant_wherever_it_comes_from_and_work_less_than_all_else() {
        let (limit, info) = (RateLimit::default(), metadata(|| tracing::info!("x")));
        let lines = async |sender, message, country, events: usize| {
            let admitted = || limit.admit(info, message, country, None).is_some();
            on_behalf_of(sender, async { (0..events).filter(|_| admitted()).count() }).await
        };
        let peer = |last| Holder::peer(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let de = Holder::Participant(Country::parse("DE").unwrap());
        // Two more may come while this runs.
        let is_about = |found: usize, expected: usize| (expected..=expected + 2).contains(&found);
        let other = OTHER_LINES as usize;
        assert!(is_about(lines(peer(1), "refused", "DE", 300).await, other));
        assert!(
            is_about(lines(de, "refused", "DE", 300).await, 0),
            "the same"
        );
        assert!(is_about(lines(peer(1), "refused", "FR", 300).await, other));
        for last in [1, 2] {
            let of_nobody = lines(peer(last), "refused", "", 300).await;
            assert!(is_about(of_nobody, other), "{last}");
        }
        let work = lines(de, WORK_MESSAGES[0], "DE", 300).await;
        assert_eq!(work, 300, "one per upload");
        let flood = lines(de, WORK_MESSAGES[0], "DE", 10 * WORK_LINES as usize).await;
        assert!(flood < 2 * WORK_LINES as usize, "{flood}");
    }

    #[test]
    fn limits_warnings_of_threads_that_say_the_same_and_nothing_else_of_them() {
        let limit = RateLimit::default();
        let warn = metadata(|| tracing::warn!("x"));
        let info = metadata(|| tracing::info!("x"));
        let lines = |metadata, values| {
            let admitted = || limit.admit(metadata, "x", "", Some(values)).is_some();
            (0..40).filter(|_| admitted()).count()
        };
        for values in ["the disk is full", "the server is away"] {
            assert!((1..=2).contains(&lines(warn, values)), "{values}");
        }
        assert_eq!(lines(info, "the disk is full"), 40);
    }
}
