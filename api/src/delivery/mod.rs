//! Delivery: notifies subscribers of new download batches (wire §16.3).
//!
//! - *In*: deliveries that the engine has claimed for this gateway.
//! - *Out*: `GET <url>?batchTag=<tag>&date=<yyyy-MM-dd>` over mutual TLS; the outcome, recorded.
//! - *Refuses*: receivers that are not the subscriber's; addresses that are not public; redirects.
//! - *Assumes*: the engine hands out one delivery per subscription at a time, in order.
//! - *Runs on*: tokio tasks, one per delivery, of which each participant has a share. There is no
//!   queue: due deliveries stay in the database until there is a share for them.

mod address;
mod bounded;
mod lookups;
mod resolve;
mod send;
mod tls;
mod url;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::callbacks::{Attempt, CallbackError, Delivery, Recorded};
use engine::domain::Country;
use engine::{Clock, Engine, Failure};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::bounds::{Bounds, CHECK_LOOKUPS, ParticipantBound};
use crate::settings::CallbackSettings;
use crate::shares::{Share, ShareLimits, Shares};
use crate::tls::TlsSettings;
use send::{AttemptError, Sender};
use tls::DeliveryTls;

pub(crate) use lookups::Lookups;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use tls::DeliveryTlsError;
pub use url::UrlError;
pub(crate) use url::{CheckError, UrlPolicy, redact as redact_url};

/// Checks that a callback URL may be subscribed under these settings, as the API does; for URLs from
/// elsewhere, one at a time.
///
/// # Errors
/// [`UrlError`]: why not.
pub async fn check_url(settings: &CallbackSettings, url: &str) -> Result<(), UrlError> {
    let lookups = Lookups::new(Arc::new(SystemResolver), CHECK_LOOKUPS);
    let policy = UrlPolicy::new(settings, lookups);
    let no_participant = Country::parse("EU").map_err(|_| UrlError::Unreadable)?;
    match policy.check(no_participant, url).await {
        Ok(_) => Ok(()),
        Err(CheckError::Url(error)) => Err(error),
        // The only one finds a lookup free.
        Err(CheckError::NoLookup(_)) => Err(UrlError::Unresolvable),
    }
}

/// The host of a callback URL.
#[cfg(any(test, debug_assertions))]
pub(crate) fn parse_url(text: &str) -> Result<Box<str>, UrlError> {
    url::CallbackUrl::parse(text).map(|url| url.host().into())
}

/// How long a delivery waits that failed for a reason of ours.
const POSTPONEMENT: Duration = Duration::from_secs(5);

/// Between attempts to record the outcome of a delivery.
const RECORD_INTERVAL: Duration = Duration::from_millis(250);

/// Claims due deliveries and sends them.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    sender: Option<Sender>,
    settings: CallbackSettings,
    /// Deliveries under way.
    shares: Shares,
    /// Notified after a delivery: the next one may be due at once.
    wake: Notify,
}

impl Dispatcher {
    /// # Errors
    /// When the certificates in the settings cannot be used.
    pub(crate) fn new(
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        policy: UrlPolicy,
        settings: CallbackSettings,
    ) -> Result<Self, DeliveryTlsError> {
        let identity = settings.identity.as_ref();
        let tls = identity.map(|identity| DeliveryTls::new(identity, settings.ca_pem.as_deref()));
        let sender = tls
            .transpose()?
            .map(|tls| Sender::new(policy, tls, &settings));
        Ok(Self {
            engine,
            clock,
            sender,
            shares: Shares::new(ShareLimits::of(settings.deliveries_max)),
            wake: Notify::new(),
            settings,
        })
    }

    /// What one participant may have under way.
    pub(crate) fn watch(&self, bounds: &mut Bounds) {
        let shares = self.shares.clone();
        bounds.set(
            ParticipantBound::Deliveries,
            shares.limits().participant_max,
        );
        bounds.watch(ParticipantBound::Deliveries, move || shares.largest());
        if let Some(sender) = &self.sender {
            let shares = sender.lookups().shares().clone();
            bounds.watch(ParticipantBound::DeliveryLookups, move || shares.largest());
        }
    }

    /// Whether this gateway delivers, or only takes subscriptions.
    pub(crate) const fn delivers(&self) -> bool {
        self.sender.is_some()
    }

    /// Presents another certificate to receivers from the next delivery on.
    ///
    /// # Errors
    /// When it cannot be used: the former one stays.
    pub(crate) fn renew_identity(&self, identity: &TlsSettings) -> Result<(), DeliveryTlsError> {
        match &self.sender {
            Some(sender) => sender.renew_identity(identity),
            None => Ok(()),
        }
    }

    /// Runs until the shutdown signal. Deliveries in flight hold a shutdown receiver, so that the
    /// shutdown waits for them as it does for requests.
    pub(crate) async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        if !self.delivers() {
            tracing::info!("callbacks are not delivered: [callback] certificate is not set");
        }
        let mut interval = tokio::time::interval(self.settings.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = self.wake.notified() => {}
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            }
            for (delivery, share) in self.claim().await {
                let (dispatcher, shutdown) = (Arc::clone(&self), shutdown.clone());
                tokio::spawn(async move {
                    let _held = (share, shutdown);
                    dispatcher.deliver(&delivery).await;
                });
            }
        }
    }

    /// Claims due deliveries, each with its share. Without a sender nothing is claimed, and the
    /// engine only updates its counts.
    async fn claim(&self) -> Vec<(Delivery, Share)> {
        let (reply, answer) = oneshot::channel();
        let shares = self.delivers().then(|| self.shares.clone());
        let admit = move |country| shares.as_ref()?.try_take(country);
        let ttl = self.claim_ttl();
        self.engine.callbacks().claim(ttl, admit, move |claimed| {
            // Fails when the server has shut down: the claims expire.
            let _ = reply.send(claimed);
        });
        match answer.await {
            Ok(Ok(claimed)) => claimed,
            Ok(Err(CallbackError::Failure(Failure::ShuttingDown))) | Err(_) => Vec::new(),
            Ok(Err(error)) => {
                let exception = engine::chain(&error);
                tracing::warn!(exception, "cannot claim due callbacks");
                Vec::new()
            }
        }
    }

    /// How long a claim lasts: about half is for the attempt, the rest for recording its outcome.
    fn claim_ttl(&self) -> Duration {
        2 * (self.settings.connect_timeout + self.settings.read_timeout)
    }

    async fn deliver(&self, delivery: &Delivery) {
        let Some(sender) = &self.sender else {
            return;
        };
        let started = Instant::now();
        let _in_flight = InFlight::new();
        let (trust, now) = (self.engine.trust(), self.clock.now());
        let outcome = sender.send(delivery, trust, now).await;
        measure(&outcome, started.elapsed());
        log(delivery, &outcome);
        let attempt = match outcome {
            Ok(()) => Attempt::Delivered,
            Err(error) if error.is_ours() => Attempt::Postponed { wait: POSTPONEMENT },
            Err(error) => Attempt::Failed {
                reason: engine::chain(&error).into(),
                wait: retry_wait(
                    &self.settings,
                    delivery.failed_attempts(),
                    random_fraction(),
                ),
                attempts_max: self.settings.attempts_max,
            },
        };
        let delivered = attempt == Attempt::Delivered;
        let recorded = self.record(delivery, attempt, started).await;
        log_record(delivery, recorded);
        if delivered {
            self.wake.notify_one();
        }
    }

    /// Records an attempt; retries while the database is unavailable, until the claim expires.
    async fn record(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        started: Instant,
    ) -> Result<Recorded, CallbackError> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.engine
                .callbacks()
                .record(delivery, attempt.clone(), move |recorded| {
                    let _ = reply.send(recorded);
                });
            let shutting_down = || Err(Failure::ShuttingDown.into());
            match answer.await.unwrap_or_else(|_| shutting_down()) {
                Err(CallbackError::Failure(Failure::ShuttingDown)) => return shutting_down(),
                Err(error) if started.elapsed() > self.claim_ttl() => return Err(error),
                Err(_) => tokio::time::sleep(RECORD_INTERVAL).await,
                Ok(recorded) => return Ok(recorded),
            }
        }
    }
}

/// How long to wait after an attempt that followed `failed` failures in a row: exponential backoff up
/// to a bound, with up to a quarter of jitter, so that receivers that failed together are not
/// retried together.
fn retry_wait(settings: &CallbackSettings, failed: u32, fraction: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failed);
    let wait = settings.retry_wait.saturating_mul(doubled);
    let wait = wait.min(settings.retry_wait_max);
    wait + wait.mul_f64(fraction / 4.0)
}

/// Counts a delivery in flight until it is dropped.
struct InFlight;

impl InFlight {
    fn new() -> Self {
        metrics::gauge!("efgs_callback_deliveries_in_flight").increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("efgs_callback_deliveries_in_flight").decrement(1.0);
    }
}

fn measure(outcome: &Result<(), AttemptError>, elapsed: Duration) {
    let outcome = match outcome {
        Ok(()) => "delivered",
        Err(error) if error.is_ours() => "postponed",
        Err(_) => "failed",
    };
    metrics::counter!("efgs_callback_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("efgs_callback_seconds", "outcome" => outcome)
        .record(elapsed.as_secs_f64());
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has a random number generator");
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

/// The reference's events (wire §18.3).
fn log(delivery: &Delivery, outcome: &Result<(), AttemptError>) {
    let (country, retry) = (delivery.country(), delivery.failed_attempts());
    let (callback_id, tag) = (delivery.callback_id().as_str(), delivery.batch());
    match outcome {
        Ok(()) => {
            let message = "Got 2xx response for callback.";
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, "{message}");
        }
        Err(AttemptError::Status(status)) => {
            let message = "Got a non 2xx response for callback.";
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, statusCode = *status, "{message}");
        }
        Err(AttemptError::Url(error)) => {
            let message = "Security check for callback url has failed.";
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, url = redact_url(delivery.url()), reason = error.event(), "{message}");
        }
        Err(error) if error.is_ours() => {
            let message = "Callback postponed: the receiver was not asked";
            tracing::warn!(callbackId = callback_id, %country, batchTag = %tag, retry, callbackErrorMessage = engine::chain(error), "{message}");
        }
        Err(error) => {
            let message = "Callback request failed";
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, callbackErrorMessage = engine::chain(error), "{message}");
        }
    }
}

fn log_record(delivery: &Delivery, recorded: Result<Recorded, CallbackError>) {
    let (country, callback_id) = (delivery.country(), delivery.callback_id().as_str());
    match recorded {
        Ok(Recorded::Noted) => {}
        Ok(Recorded::Disabled) => {
            let retry = delivery.failed_attempts();
            let message =
                "Callback reached max amount of retries. Disabling callback subscription.";
            tracing::warn!(callbackId = callback_id, %country, retry, "{message}");
        }
        Ok(Recorded::ClaimLost) => {
            let message = "A callback subscription was changed, or claimed by another gateway, during its delivery";
            tracing::info!(callbackId = callback_id, %country, "{message}");
        }
        Err(error) => {
            let exception = engine::chain(&error);
            tracing::warn!(callbackId = callback_id, %country, exception, "cannot record the outcome of a callback");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_the_wait_up_to_a_bound_with_up_to_a_quarter_of_jitter() {
        let settings = CallbackSettings::default();
        let seconds = |failed, fraction| retry_wait(&settings, failed, fraction).as_secs();
        // The reference waits 300 s each time.
        let waits: Vec<_> = (0..5).map(|failed| seconds(failed, 0.0)).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 3600]);
        assert_eq!(seconds(0, 1.0), 375);
        assert_eq!(seconds(u32::MAX, 0.5), 4050);
    }

    #[test]
    fn draws_random_fractions() {
        let drawn: Vec<f64> = (0..100).map(|_| random_fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(drawn.iter().any(|fraction| *fraction != drawn[0]));
    }
}
