//! Lookups of host names, of which each participant has a share. A lookup holds its share until the
//! resolver is done with it, however long ago its caller has stopped waiting: it may occupy a thread
//! for half a minute.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::domain::Country;

use super::resolve::Resolve;
use crate::shares::{ShareLimits, Shares};

/// The participant has as many lookups under way as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no name lookup is free: those of this participant take too long")]
pub(crate) struct NoLookup;

/// Resolves names, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct Lookups {
    resolver: Arc<dyn Resolve>,
    shares: Shares,
}

impl Lookups {
    pub(crate) fn new(resolver: Arc<dyn Resolve>, limits: ShareLimits) -> Self {
        let shares = Shares::new(limits);
        Self { resolver, shares }
    }

    /// The addresses of a host; none if it has none, or if they are not found in time.
    ///
    /// # Errors
    /// [`NoLookup`].
    pub(crate) async fn find(
        &self,
        country: Country,
        host: &str,
        time_max: Duration,
    ) -> Result<Vec<IpAddr>, NoLookup> {
        let share = self.shares.try_take(country).ok_or(NoLookup)?;
        let resolving = self.resolver.resolve(host);
        // A separate task: it continues when the caller stops waiting.
        let lookup = tokio::spawn(async move {
            let _held = share;
            resolving.await.unwrap_or_default()
        });
        let found = tokio::time::timeout(time_max, lookup).await;
        Ok(found.ok().and_then(Result::ok).unwrap_or_default())
    }

    /// What is under way.
    pub(crate) const fn shares(&self) -> &Shares {
        &self.shares
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::super::resolve::Resolving;
    use super::*;
    use crate::bounds::CHECK_LOOKUPS;

    const TIME_MAX: Duration = Duration::from_millis(20);

    /// Names under `silent.example` are answered when the test says so, others at once.
    #[derive(Debug, Default)]
    struct Silent {
        answer: Arc<Notify>,
        under_way: Arc<AtomicUsize>,
    }

    impl Resolve for Silent {
        fn resolve(&self, host: &str) -> Resolving {
            let is_silent = host.ends_with("silent.example");
            let (answer, under_way) = (Arc::clone(&self.answer), Arc::clone(&self.under_way));
            under_way.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if is_silent {
                    answer.notified().await;
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok(vec![IpAddr::from([93, 184, 216, 34])])
            })
        }
    }

    #[tokio::test]
    async fn who_asks_for_silent_names_holds_its_share_until_they_answer_and_delays_nobody() {
        let silent = Arc::new(Silent::default());
        let lookups = Lookups::new(Arc::<Silent>::clone(&silent), CHECK_LOOKUPS);
        let country = |code| Country::parse(code).unwrap();
        let find = |code, host: &'static str| lookups.find(country(code), host, TIME_MAX);
        for _ in 0..CHECK_LOOKUPS.participant_max {
            let found = find("DE", "a.silent.example").await;
            assert_eq!(found, Ok(vec![]), "not in time");
        }
        // All of them were given up, and are still under way.
        assert_eq!(find("DE", "b.silent.example").await, Err(NoLookup));
        assert_eq!(silent.under_way.load(Ordering::SeqCst), 4);
        for code in ["FR", "IT", "ES", "AT", "PL"] {
            let found = find(code, "receiver.example").await;
            assert_eq!(found.map(|found| found.len()), Ok(1), "{code}");
        }
        silent.answer.notify_waiters();
        while lookups.shares().largest() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(find("DE", "receiver.example").await.is_ok());
    }
}
