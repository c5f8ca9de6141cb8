//! Callbacks: subscriptions to new download batches, and which notifications are due (wire
//! §16). `api` delivers them.
//!
//! - *In*: participants' subscriptions; the outcomes of delivery attempts.
//! - *Out*: [`Delivery`]s that this gateway has claimed, one per subscription, in the order of the
//!   download batches.
//! - *Refuses*: subscriptions beyond [`limits::CALLBACKS_PER_COUNTRY_MAX`]; requests beyond the
//!   queue's capacity.
//! - *Assumes*: URLs were checked. Download batches are numbered in order, so one cursor
//!   per subscription is all the state there is.
//! - *Runs on*: the `callbacks` thread, with its own connection, opened on first use.
//!
//! Any number of gateways deliver concurrently: a claim is one conditional UPDATE with a random
//! token and an expiry. A gateway that dies leaves a claim that expires; one that was too slow
//! finds another token and changes nothing. So each batch is delivered at least once, and twice
//! only if a gateway was lost, or cut off from the database, between delivering and recording it.
//!
//! Weighed against: one task per batch and subscriber (the reference's way: rows to chain, to lock
//! and to clean up, written while cutting), and one delivering gateway under a lease (one slow
//! receiver would delay all of them).

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::continuity::Continuity;
use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Country, Day};
pub use crate::domain::{CallbackId, CallbackIdError};
use crate::failure::{DatabaseError, Failure};
use crate::fair_channel::{FairChannel, Places, Sent};
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::overload::{Overload, OverloadBound};
use crate::store::{CachedStore, ClaimTerms, DueDelivery, Store};
pub use crate::store::{LastFailure, Subscribed, Subscription, SubscriptionState, Summary};

/// A batch to notify one subscriber of; this gateway holds the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery(DueDelivery);

impl Delivery {
    /// The subscriber.
    pub const fn country(&self) -> Country {
        self.0.country
    }

    /// The subscription's id.
    pub const fn callback_id(&self) -> &CallbackId {
        &self.0.callback_id
    }

    /// The receiver's URL.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The download batch.
    pub const fn batch(&self) -> BatchTag {
        self.0.tag
    }

    /// How many attempts to deliver it have failed.
    pub const fn failed_attempts(&self) -> u32 {
        self.0.failed_attempts
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The subscriber has confirmed it.
    Delivered,
    /// It failed.
    Failed {
        /// The delay before the next attempt, at most one day.
        wait: Duration,
        /// Attempts in a row, after which the subscription is disabled.
        attempts_max: u32,
        /// The reason, for operators; truncated to
        /// [`limits::CALLBACK_REASON_CHARACTERS_MAX`] characters.
        reason: Cow<'static, str>,
    },
    /// It was not made, for a reason that is the gateway's: it does not count against the receiver.
    Postponed {
        /// The delay before the next attempt, at most one day.
        wait: Duration,
    },
}

/// The outcome of recording an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was recorded.
    Noted,
    /// It was recorded, and the subscription is disabled: it has failed too often.
    Disabled,
    /// The claim was no longer ours: it had expired and another gateway has it, or the subscription
    /// was replaced. Nothing was changed. (Or it was recorded, the database's answer was lost, and
    /// this is the outcome of the retry.)
    ClaimLost,
}

/// Why a request to the callbacks thread failed.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Overload: nothing was done.
    #[error("the gateway is at its limit")]
    Overload(#[from] Overload),
    /// An unexpected failure.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// The queue of the thread.
type Jobs = FairChannel<Box<dyn Job>, JobOwner>;

/// Whose queue a job waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum JobOwner {
    /// The gateway's own: deliveries.
    Gateway,
    Participant(Country),
}

/// The subscriptions of all participants. Every method returns at once; `reply` is called exactly
/// once, from the `callbacks` thread or this one, and must not block.
#[derive(Debug)]
pub struct Callbacks {
    jobs: Arc<Jobs>,
    continuity: Arc<Continuity>,
    clock: Arc<dyn Clock>,
    max_age_days: u32,
    summary: Arc<Mutex<Summary>>,
}

impl Callbacks {
    /// Work for the thread.
    pub(crate) fn new(
        database: &Database,
        clock: Arc<dyn Clock>,
        max_age_days: u32,
        continuity: &Arc<Continuity>,
    ) -> (Self, CallbackWorker) {
        let jobs = Arc::new(FairChannel::new(Places {
            all_max: limits::CALLBACK_JOBS_MAX,
            participant_max: limits::PARTICIPANT_CALLBACK_JOBS_MAX,
        }));
        let link = Link {
            connection: CachedStore::new(database.clone()),
            continuity: Arc::clone(continuity),
        };
        let callbacks = Self {
            jobs: Arc::clone(&jobs),
            continuity: Arc::clone(continuity),
            clock,
            max_age_days,
            summary: Arc::default(),
        };
        (callbacks, CallbackWorker { jobs, link })
    }

    /// Lets the thread end once the queue is empty.
    pub(crate) fn stop(&self) {
        self.jobs.close();
    }

    /// The enabled subscriptions of a country, in the order of their ids. Those that are disabled
    /// are left out: the reference deletes them, and a backend that finds its own missing
    /// subscribes again (FI checks once per day, and does so only then).
    pub fn list(
        &self,
        country: Country,
        reply: impl FnOnce(Result<Vec<Subscription>, CallbackError>) + Send + 'static,
    ) {
        let work = move |store: &mut Store| store.callback_subscriptions(country);
        let owner = JobOwner::Participant(country);
        self.submit(owner, "listing callback subscriptions", work, reply);
    }

    /// Adds a subscription, which begins after the newest download batch; or changes the one with
    /// this id, which continues where it was. A disabled one is not listed to its owner: a PUT
    /// enables it, and it continues where it was, too. At the limit, a disabled subscription is
    /// replaced.
    pub fn subscribe(
        &self,
        country: Country,
        callback_id: CallbackId,
        url: Box<str>,
        reply: impl FnOnce(Result<Subscribed, CallbackError>) + Send + 'static,
    ) {
        let now = self.clock.now();
        let work = move |store: &mut Store| store.subscribe(country, &callback_id, &url, now);
        let owner = JobOwner::Participant(country);
        self.submit(owner, "storing a callback subscription", work, reply);
    }

    /// Removes a subscription; returns whether its owner had it, enabled. A disabled one is removed
    /// as well.
    pub fn unsubscribe(
        &self,
        country: Country,
        callback_id: CallbackId,
        reply: impl FnOnce(Result<bool, CallbackError>) + Send + 'static,
    ) {
        let mut may_be_gone = false;
        let work = move |store: &mut Store| {
            let found = store.unsubscribe(country, &callback_id);
            may_be_gone |= matches!(found, Err(SqlError::Lost(_)));
            Ok(found?.map_or(may_be_gone, |was_disabled| !was_disabled))
        };
        let owner = JobOwner::Participant(country);
        self.submit(owner, "removing a callback subscription", work, reply);
    }

    /// Claims deliveries that are due, for `ttl` by the database's clock. Participants are served in rotation, and
    /// `admit` gives a permit for each delivery, if its participant may have another one under way.
    /// Each must be recorded with [`Self::record`] before its claim expires.
    pub fn claim<P: Send + 'static>(
        &self,
        ttl: Duration,
        mut admit: impl FnMut(Country) -> Option<P> + Send + 'static,
        reply: impl FnOnce(Result<Vec<(Delivery, P)>, CallbackError>) + Send + 'static,
    ) {
        let terms = ClaimTerms {
            ttl_ms: millis(ttl),
            oldest_day: self.oldest_day(),
        };
        let summary = Arc::clone(&self.summary);
        let work = move |store: &mut Store| {
            let seen = store.callback_summary()?;
            *summary.lock_ignoring_poison() = seen;
            seen.measure();
            let due = store.claim_deliveries(&terms, &mut admit, random_token)?;
            let due = due.into_iter();
            Ok(due.map(|(due, permit)| (Delivery(due), permit)).collect())
        };
        self.submit(JobOwner::Gateway, "claiming callbacks", work, reply);
    }

    /// Records the outcome of a delivery, and releases its claim.
    pub fn record(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        reply: impl FnOnce(Result<Recorded, CallbackError>) + Send + 'static,
    ) {
        let due = delivery.0.clone();
        let work = move |store: &mut Store| match &attempt {
            Attempt::Delivered => Ok(noted(store.record_delivered(&due)?)),
            Attempt::Postponed { wait } => Ok(noted(store.record_postponed(&due, millis(*wait))?)),
            Attempt::Failed {
                wait,
                attempts_max,
                reason,
            } => {
                let disabled = store.record_failed(&due, millis(*wait), *attempts_max, reason)?;
                Ok(match disabled {
                    Some(false) => Recorded::Noted,
                    Some(true) => Recorded::Disabled,
                    None => Recorded::ClaimLost,
                })
            }
        };
        self.submit(JobOwner::Gateway, "recording a callback", work, reply);
    }

    /// Statistics of all subscriptions, as of the last claim.
    pub fn summary(&self) -> Summary {
        *self.summary.lock_ignoring_poison()
    }

    /// Requests that wait, of the participant that has most.
    pub(crate) fn waiting_most(&self) -> usize {
        self.jobs
            .longest(|owner| matches!(owner, JobOwner::Participant(_)))
    }

    fn oldest_day(&self) -> Day {
        self.clock.now().day().minus_days(self.max_age_days)
    }

    fn submit<T: Send + 'static>(
        &self,
        owner: JobOwner,
        doing: &'static str,
        work: impl FnMut(&mut Store) -> Result<T, SqlError> + Send + 'static,
        reply: impl FnOnce(Result<T, CallbackError>) + Send + 'static,
    ) {
        if self.continuity.has_gone_back() {
            return reply(Err(Failure::DatabaseWentBack.into()));
        }
        let job = Box::new(Task { doing, work, reply });
        match self.jobs.send(owner, job) {
            Sent::Queued => {}
            Sent::Refused(job) => job.refuse(Overload::at(OverloadBound::Callbacks).into()),
            Sent::Closed(job) => job.refuse(Failure::ShuttingDown.into()),
        }
    }
}

impl Summary {
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts of subscriptions and batches are far below 2^52"
    )]
    fn measure(&self) {
        let name = "efgs_callback_subscriptions";
        metrics::gauge!(name, "state" => "active").set(self.active as f64);
        metrics::gauge!(name, "state" => "disabled").set(self.disabled as f64);
        metrics::gauge!("efgs_callback_batches_behind_max").set(self.batches_behind_max as f64);
    }
}

/// Work for the thread.
trait Job: Send {
    fn run(self: Box<Self>, link: &mut Link);
    fn refuse(self: Box<Self>, error: CallbackError);
}

/// A job and its reply callback.
struct Task<W, R> {
    doing: &'static str,
    work: W,
    reply: R,
}

impl<T, W, R> Job for Task<W, R>
where
    W: FnMut(&mut Store) -> Result<T, SqlError> + Send,
    R: FnOnce(Result<T, CallbackError>) + Send,
{
    fn run(mut self: Box<Self>, link: &mut Link) {
        let outcome = link.run(&mut self.work);
        let outcome = outcome.map_err(|error| {
            CallbackError::Failure(match link.continuity.has_gone_back() {
                true => Failure::DatabaseWentBack,
                false => Failure::Database(error.doing(self.doing)),
            })
        });
        (self.reply)(outcome);
    }

    fn refuse(self: Box<Self>, error: CallbackError) {
        (self.reply)(Err(error));
    }
}

/// The thread's connection.
struct Link {
    connection: CachedStore,
    continuity: Arc<Continuity>,
}

/// Attempts at a statement that conflicts with others, or whose connection was stale.
const ATTEMPTS_MAX: u32 = 3;

impl Link {
    /// Runs work on the connection, and retries it where that can help: it is atomic and
    /// idempotent. A retry may find the effect of the first attempt, whose answer was lost.
    fn run<T>(
        &mut self,
        work: &mut impl FnMut(&mut Store) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let mut tries = 1;
        loop {
            let store = self.connection.store()?;
            // Cursors of a database that went back would notify of what was given to others before.
            let worked = self
                .continuity
                .still_matches(store)
                .and_then(|is_held| match is_held {
                    true => work(store),
                    false => Err(SqlError::Refused("the database has gone back".into())),
                });
            let error = match worked {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // A connection on which something failed is not reused.
            if !matches!(error, SqlError::Conflict(_)) {
                self.connection.close();
            }
            let passing = matches!(error, SqlError::Conflict(_) | SqlError::Lost(_));
            if !passing || tries == ATTEMPTS_MAX {
                return Err(error);
            }
            tries += 1;
        }
    }
}

/// The thread.
pub(crate) struct CallbackWorker {
    jobs: Arc<Jobs>,
    link: Link,
}

impl CallbackWorker {
    /// Runs until all senders are gone.
    pub(crate) fn run(mut self) {
        while let Some(job) = self.jobs.receive() {
            match self.link.connection.store() {
                Ok(_) => job.run(&mut self.link),
                // Queued jobs would wait for the same failure.
                Err(error) => {
                    let mut jobs = self.jobs.extract(|_| true);
                    jobs.push(job);
                    jobs.into_iter()
                        .for_each(|job| job.refuse(not_connected(&error)));
                }
            }
        }
    }
}

fn not_connected(error: &SqlError) -> CallbackError {
    let (doing, source) = ("connecting for callbacks", error.to_string().into());
    Failure::Database(DatabaseError { doing, source }).into()
}

const fn noted(was_ours: bool) -> Recorded {
    match was_ours {
        true => Recorded::Noted,
        false => Recorded::ClaimLost,
    }
}

/// Not 0, which means no claim, and within the range of a signed column.
fn random_token() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_be_bytes(bytes) >> 1 | 1
}

fn millis(duration: Duration) -> u64 {
    let bounded = duration.min(limits::CALLBACK_WAIT_MAX);
    u64::try_from(bounded.as_millis()).expect("a day")
}

#[cfg(test)]
mod tests;
