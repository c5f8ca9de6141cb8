//! Delivery: tells subscribers of new download batches (wire §16.3).
//!
//! - *In*: deliveries that the engine has claimed for this gateway.
//! - *Out*: `GET <url>?batchTag=<tag>&date=<yyyy-MM-dd>` over mutual TLS; what became of it, on
//!   record.
//! - *Refuses*: receivers that are not the subscriber's; addresses that are not public; redirects.
//! - *Assumes*: the engine gives one delivery a subscription at a time, in order.
//! - *Runs on*: tokio tasks, one a delivery, as many as there are permits. Nothing waits in a
//!   queue: what is due stays in the database until there is a permit for it.

mod address;
mod resolve;
mod send;
mod tls;
mod url;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::callbacks::{Attempt, CallbackError, Delivery, Recorded};
use engine::{Clock, Engine, Failure};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::settings::CallbackSettings;
use crate::telemetry;
use send::{AttemptError, Sender};
use tls::DeliveryTls;

pub use resolve::{Resolve, Resolving, SystemResolver};
pub use tls::DeliveryTlsError;
pub use url::UrlError;
pub(crate) use url::UrlPolicy;

/// Whether a callback URL may be subscribed under these settings: what the API checks, for who has
/// URLs from elsewhere.
///
/// # Errors
/// [`UrlError`]: why not.
pub async fn check_url(settings: &CallbackSettings, url: &str) -> Result<(), UrlError> {
    UrlPolicy::new(settings).check(url).await.map(|_| ())
}

/// The host of a callback URL that can be read.
#[cfg(test)]
pub(crate) fn read_url(text: &str) -> Result<Box<str>, UrlError> {
    url::CallbackUrl::parse(text).map(|url| url.host().into())
}

/// Between attempts to record what became of a delivery.
const RECORD_INTERVAL: Duration = Duration::from_millis(250);

/// Claims what is due and sends it.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    sender: Option<Sender>,
    settings: CallbackSettings,
    permits: Arc<Semaphore>,
    /// Something was delivered: more may be due at once.
    wake: Notify,
}

impl Dispatcher {
    /// # Errors
    /// When the certificates in the settings cannot be used.
    pub(crate) fn new(
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        policy: Arc<UrlPolicy>,
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
            permits: Arc::new(Semaphore::new(settings.deliveries_max)),
            wake: Notify::new(),
            settings,
        })
    }

    /// Whether this gateway delivers, or only takes subscriptions.
    pub(crate) const fn delivers(&self) -> bool {
        self.sender.is_some()
    }

    /// Works until the server stops. Deliveries under way hold an ear of the stop signal, and so
    /// are waited for as requests are.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if !self.delivers() {
            tracing::info!("callbacks are not delivered: [callback] certificate is not set");
        }
        let mut interval = tokio::time::interval(self.settings.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = self.wake.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            for (delivery, permit) in self.claim().await {
                let (dispatcher, ear) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    let _held = (permit, ear);
                    dispatcher.deliver(&delivery).await;
                });
            }
        }
    }

    /// What is due, each with its permit. Without a sender nothing is claimed, and the engine only
    /// counts.
    async fn claim(&self) -> Vec<(Delivery, OwnedSemaphorePermit)> {
        let mut permits = Vec::new();
        while self.delivers()
            && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
        {
            permits.push(permit);
        }
        let (reply, answer) = oneshot::channel();
        let ttl = self.claim_ttl();
        self.engine
            .callbacks()
            .claim(permits.len(), ttl, move |claimed| {
                // Fails when the server has stopped: the claims expire.
                let _ = reply.send(claimed);
            });
        match answer.await {
            Ok(Ok(claimed)) => claimed.into_iter().zip(permits).collect(),
            Ok(Err(CallbackError::Failure(Failure::ShuttingDown))) | Err(_) => Vec::new(),
            Ok(Err(error)) => {
                let exception = telemetry::chain(&error);
                tracing::warn!(exception, "cannot look for due callbacks");
                Vec::new()
            }
        }
    }

    /// An attempt ends before half of it; the other half is for recording it.
    fn claim_ttl(&self) -> Duration {
        2 * (self.settings.connect_timeout + self.settings.read_timeout)
    }

    async fn deliver(&self, delivery: &Delivery) {
        let Some(sender) = &self.sender else {
            return;
        };
        let begun = Instant::now();
        let _in_flight = InFlight::new();
        let (trust, now) = (self.engine.trust(), self.clock.now());
        let outcome = sender.send(delivery, trust, now).await;
        measure(outcome.is_ok(), begun.elapsed());
        log(delivery, &outcome);
        let attempt = match outcome {
            Ok(()) => Attempt::Delivered,
            Err(error) => Attempt::Failed {
                reason: error.to_string().into(),
                wait: wait_after(
                    &self.settings,
                    delivery.failed_attempts(),
                    random_fraction(),
                ),
                attempts_max: self.settings.attempts_max,
            },
        };
        let delivered = attempt == Attempt::Delivered;
        let recorded = self.record(delivery, attempt, begun).await;
        log_record(delivery, recorded);
        if delivered {
            self.wake.notify_one();
        }
    }

    /// Records an attempt, again while the database is away, until the claim has expired.
    async fn record(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        begun: Instant,
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
                Err(error) if begun.elapsed() > self.claim_ttl() => return Err(error),
                Err(_) => tokio::time::sleep(RECORD_INTERVAL).await,
                Ok(recorded) => return Ok(recorded),
            }
        }
    }
}

/// How long to wait after an attempt that `failed` others in a row came before: doubled each time
/// up to a bound, and up to a quarter more, so that those who failed together do not return
/// together.
fn wait_after(settings: &CallbackSettings, failed: u32, fraction: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failed);
    let wait = settings.retry_wait.saturating_mul(doubled);
    let wait = wait.min(settings.retry_wait_max);
    wait + wait.mul_f64(fraction / 4.0)
}

/// Counts a delivery under way while it lives.
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

fn measure(delivered: bool, took: Duration) {
    let outcome = if delivered { "delivered" } else { "failed" };
    metrics::counter!("efgs_callback_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("efgs_callback_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
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
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, url = delivery.url(), reason = error.event(), "{message}");
        }
        Err(error) => {
            let message = "Callback request failed";
            tracing::info!(callbackId = callback_id, %country, batchTag = %tag, retry, callbackErrorMessage = %error, "{message}");
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
            let message = "A callback was changed or taken over while it was delivered";
            tracing::info!(callbackId = callback_id, %country, "{message}");
        }
        Err(error) => {
            let exception = telemetry::chain(&error);
            tracing::warn!(callbackId = callback_id, %country, exception, "cannot record a callback");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_the_wait_up_to_a_bound_and_adds_up_to_a_quarter() {
        let settings = CallbackSettings::default();
        let seconds = |failed, fraction| wait_after(&settings, failed, fraction).as_secs();
        // The reference waits 300 s each time.
        let waits: Vec<_> = (0..5).map(|failed| seconds(failed, 0.0)).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 3600]);
        assert_eq!(seconds(0, 1.0), 375);
        assert_eq!(seconds(u32::MAX, 0.5), 4050);
    }

    #[test]
    fn draws_fractions_of_one() {
        let drawn: Vec<f64> = (0..100).map(|_| random_fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(drawn.iter().any(|fraction| *fraction != drawn[0]));
    }
}
