//! Callbacks: subscriptions to new download batches, and which notifications are due (wire
//! §16). Telling them is `api`'s part.
//!
//! - *In*: a participant's subscriptions; what became of an attempt to tell one.
//! - *Out*: [`Delivery`]s that this gateway has claimed, one per subscription, in the order of the
//!   download batches.
//! - *Refuses*: subscriptions beyond [`limits::CALLBACKS_PER_COUNTRY_MAX`]; requests beyond what
//!   may wait.
//! - *Assumes*: URLs were checked. Download batches are numbered in order, so that one cursor
//!   per subscription is all that there is to remember.
//! - *Runs on*: the `callbacks` thread, with a connection that it opens when it is first needed.
//!
//! Any number of gateways deliver side by side: a claim is one conditional UPDATE, made out to a
//! random token and for a time. A gateway that dies leaves a claim that expires; one that was too
//! slow finds another token and moves nothing. So a batch is told at least once, and twice only
//! if a gateway was lost, or cut off from the database, between telling and recording it.
//!
//! Weighed against: one task per batch and subscriber (the reference's way: rows to chain, to lock and
//! to clean up, written while cutting), and one delivering gateway under a lease (a slow receiver
//! of one gateway's would be everybody's).

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

/// A batch to tell one subscriber of; this gateway holds the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery(DueDelivery);

impl Delivery {
    /// Whose subscription.
    pub const fn country(&self) -> Country {
        self.0.country
    }

    /// Its name.
    pub const fn callback_id(&self) -> &CallbackId {
        &self.0.callback_id
    }

    /// Whom to tell.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The download batch.
    pub const fn batch(&self) -> BatchTag {
        self.0.tag
    }

    /// How many attempts to tell this have failed.
    pub const fn failed_attempts(&self) -> u32 {
        self.0.failed_attempts
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The subscriber knows.
    Delivered,
    /// It does not.
    Failed {
        /// When to try again, at most a day.
        wait: Duration,
        /// Attempts in a row, after which the subscription is disabled.
        attempts_max: u32,
        /// What was wrong, for operators; cut to
        /// [`limits::CALLBACK_REASON_CHARACTERS_MAX`] characters.
        reason: Cow<'static, str>,
    },
}

/// What became of the record of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It counts.
    Noted,
    /// It counts, and the subscription is disabled: it has failed too often.
    Disabled,
    /// The claim was not ours any more: it had expired and another gateway has it, or the
    /// subscription is another one now. Nothing was changed. (Or it was noted, the database's answer
    /// was lost, and this is what became of the repeat.)
    ClaimLost,
}

/// Why a question about callbacks has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Ours and passing; nothing was done.
    #[error("the gateway is at its limit")]
    Overload(#[from] Overload),
    /// Ours and unexpected.
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
    /// With the work for its thread.
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

    /// Lets the thread end when what waits is done.
    pub(crate) fn stop(&self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The enabled subscriptions of a country, in the order of their ids. Those that are disabled
    /// are left out: the reference deletes them, and a backend that finds its own missing
    /// subscribes again (FI does so once a day, and only then).
    pub fn list(
        &self,
        country: Country,
        reply: impl FnOnce(Result<Vec<Subscription>, CallbackError>) + Send + 'static,
    ) {
        let work = move |store: &mut Store| store.callback_subscriptions(country);
        self.submit("listing callback subscriptions", work, reply);
    }

    /// Adds a subscription, which begins behind the newest download batch; or changes the one with
    /// this id, which goes on where it was. One that is disabled is not listed to its owner: a PUT
    /// enables it, and it goes on where it was, too. It makes room for one beyond the bound.
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

    /// Removes a subscription; gives whether there was one for its owner, enabled. One that was
    /// disabled is gone as well.
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

    /// Records what became of a delivery, and gives its claim back.
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

    /// All subscriptions in numbers, as of the last claim.
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

/// A job and who waits for it.
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

/// Attempts at a statement that others are in the way of, or whose connection had gone stale.
const TRIES: u32 = 3;

impl Link {
    /// Runs work on the connection, again where that can help and a connection can be had: all of
    /// it is done whole or not at all, and doing it twice does no harm. What the second time finds may
    /// be the work of the first, whose answer was lost.
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
            // A connection on which something failed is not used again.
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

/// What the thread does.
pub(crate) struct CallbackWorker {
    jobs: Receiver<Box<dyn Job>>,
    link: Link,
}

impl CallbackWorker {
    /// Works until there is nobody to work for.
    pub(crate) fn run(mut self) {
        for job in &self.jobs {
            match self.link.connection.store() {
                Ok(_) => job.run(&mut self.link),
                // Who is queued would only wait for the same.
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

/// Not 0, which is no claim, and fits a signed column.
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
    use crate::database::faulty::{Fault, Moment};
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
        let away = database(&folder).failing(move |moment| {
            assert_eq!(moment, Moment::Connect);
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
        let failing = database.failing(move |moment| match moment {
            Moment::Commit if commits.fetch_add(1, Ordering::SeqCst) == 0 => {
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
