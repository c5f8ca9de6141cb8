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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::clock::Clock;
use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Country, Day};
pub use crate::domain::{CallbackId, CallbackIdError};
use crate::failure::{DatabaseError, Failure};
use crate::limits;
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

/// The subscriptions of all participants. Every method returns at once; `reply` is called exactly
/// once, from the `callbacks` thread or this one, and must not block.
#[derive(Debug)]
pub struct Callbacks {
    jobs: Mutex<Option<Sender<Box<dyn Job>>>>,
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
    ) -> (Self, CallbackWorker) {
        let (sender, jobs) = bounded(limits::CALLBACK_JOBS_MAX);
        let link = Link {
            connection: CachedStore::new(database.clone()),
        };
        let callbacks = Self {
            jobs: Mutex::new(Some(sender)),
            clock,
            max_age_days,
            summary: Arc::default(),
        };
        (callbacks, CallbackWorker { jobs, link })
    }

    /// Lets the thread end once the queue is empty.
    pub(crate) fn stop(&self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        self.submit("listing callback subscriptions", work, reply);
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
        self.submit("storing a callback subscription", work, reply);
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
        self.submit("removing a callback subscription", work, reply);
    }

    /// Claims up to `count_max` deliveries that are due, for `ttl` by the database's clock. Each
    /// must be recorded with [`Self::record`] before that.
    pub fn claim(
        &self,
        count_max: usize,
        ttl: Duration,
        reply: impl FnOnce(Result<Vec<Delivery>, CallbackError>) + Send + 'static,
    ) {
        let terms = ClaimTerms {
            count_max: count_max as u64,
            ttl_ms: millis(ttl),
            oldest_day: self.oldest_day(),
        };
        let summary = Arc::clone(&self.summary);
        let work = move |store: &mut Store| {
            let seen = store.callback_summary()?;
            *summary.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            seen.measure();
            let due = store.claim_deliveries(&terms, random_token)?;
            Ok(due.into_iter().map(Delivery).collect())
        };
        self.submit("claiming callbacks", work, reply);
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
            Attempt::Delivered => Ok(match store.record_delivered(&due)? {
                true => Recorded::Noted,
                false => Recorded::ClaimLost,
            }),
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
        self.submit("recording a callback", work, reply);
    }

    /// Statistics of all subscriptions, as of the last claim.
    pub fn summary(&self) -> Summary {
        *self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest_day(&self) -> Day {
        self.clock.now().day().minus_days(self.max_age_days)
    }

    fn submit<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnMut(&mut Store) -> Result<T, SqlError> + Send + 'static,
        reply: impl FnOnce(Result<T, CallbackError>) + Send + 'static,
    ) {
        let job = Box::new(Task { doing, work, reply });
        let sent = match &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(jobs) => jobs.try_send(job),
            None => Err(TrySendError::Disconnected(job as Box<dyn Job>)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                job.refuse(Overload::at(OverloadBound::Callbacks).into());
            }
            Err(TrySendError::Disconnected(job)) => job.refuse(Failure::ShuttingDown.into()),
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
            let failure = Failure::Database(error.doing(self.doing));
            CallbackError::Failure(failure)
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
}

/// Attempts at a statement that conflicts with others, or whose connection was stale.
const TRIES: u32 = 3;

impl Link {
    /// Runs work on the connection, and retries it where that can help: it is atomic and
    /// idempotent. A retry may find the effect of the first attempt, whose answer was lost.
    fn run<T>(
        &mut self,
        work: &mut impl FnMut(&mut Store) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let mut tries = 1;
        loop {
            let error = match work(self.connection.store()?) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // A connection on which something failed is not reused.
            if !matches!(error, SqlError::Conflict(_)) {
                self.connection.close();
            }
            let passing = matches!(error, SqlError::Conflict(_) | SqlError::Lost(_));
            if !passing || tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
    }
}

/// The thread.
pub(crate) struct CallbackWorker {
    jobs: Receiver<Box<dyn Job>>,
    link: Link,
}

impl CallbackWorker {
    /// Runs until all senders are gone.
    pub(crate) fn run(mut self) {
        for job in &self.jobs {
            match self.link.connection.store() {
                Ok(_) => job.run(&mut self.link),
                // Queued jobs would wait for the same failure.
                Err(error) => {
                    let queue = std::iter::once(job).chain(self.jobs.try_iter());
                    queue.for_each(|job| job.refuse(not_connected(&error)));
                }
            }
        }
    }
}

fn not_connected(error: &SqlError) -> CallbackError {
    let (doing, source) = ("connecting for callbacks", error.to_string().into());
    Failure::Database(DatabaseError { doing, source }).into()
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
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::clock::SystemClock;
    use crate::database::faulty::{Fault, Step};
    use crate::domain::UnixMillis;
    use crate::settings::DatabaseUrl;
    use crate::store::migrate;

    fn database(folder: &tempfile::TempDir) -> Database {
        let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        migrate(&database).unwrap();
        database
    }

    fn de() -> Country {
        Country::parse("DE").unwrap()
    }

    #[test]
    fn who_is_queued_behind_a_failed_connection_is_refused_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (arrived, arrivals) = bounded(0);
        let (go_on, may_go_on) = bounded::<()>(0);
        let connects = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&connects);
        let away = database(&folder).failing(move |step| {
            assert_eq!(step, Step::Connect);
            counter.fetch_add(1, Ordering::SeqCst);
            arrived.send(()).unwrap();
            may_go_on.recv().unwrap();
            Some(Fault::Lost)
        });
        let (callbacks, worker) = Callbacks::new(&away, Arc::new(SystemClock), 2);
        let thread = std::thread::spawn(move || worker.run());
        let (answered, answers) = bounded(4);
        let ask = || {
            let answered = answered.clone();
            callbacks.list(de(), move |answer| answered.send(answer).unwrap());
        };
        ask();
        arrivals.recv().unwrap();
        (0..3).for_each(|_| ask());
        go_on.send(()).unwrap();
        for _ in 0..4 {
            let answer = answers.recv().unwrap();
            let refused = matches!(answer, Err(CallbackError::Failure(Failure::Database(_))));
            assert!(refused, "{answer:?}");
        }
        assert_eq!(connects.load(Ordering::SeqCst), 1);
        callbacks.stop();
        thread.join().unwrap();
    }

    #[test]
    fn who_is_removed_while_the_answer_is_lost_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        let id = CallbackId::parse("1").unwrap();
        let mut store = Store::open(&database).unwrap();
        let subscribed = store.subscribe(de(), &id, "https://de", UnixMillis(0));
        assert_eq!(subscribed.unwrap(), Subscribed::Taken);
        let commits = AtomicU64::new(0);
        let failing = database.failing(move |step| match step {
            Step::Commit if commits.fetch_add(1, Ordering::SeqCst) == 0 => {
                Some(Fault::LostAfterwards)
            }
            _ => None,
        });
        let (callbacks, worker) = Callbacks::new(&failing, Arc::new(SystemClock), 2);
        let thread = std::thread::spawn(move || worker.run());
        let unsubscribe = || {
            let (answered, answer) = bounded(1);
            callbacks.unsubscribe(de(), id.clone(), move |found| answered.send(found).unwrap());
            answer.recv().unwrap().unwrap()
        };
        assert_eq!([unsubscribe(), unsubscribe()], [true, false]);
        callbacks.stop();
        thread.join().unwrap();
    }

    #[test]
    fn takes_ids_of_1_to_32_characters() {
        for id in [
            "1",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            &"é".repeat(32),
            "a/b c",
        ] {
            assert_eq!(CallbackId::parse(id).unwrap().as_str(), id);
        }
        for id in ["", &"x".repeat(33), "a\nb", "\u{7f}"] {
            assert_eq!(CallbackId::parse(id), Err(CallbackIdError), "{id:?}");
        }
    }
}
