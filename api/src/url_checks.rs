//! Checks of callback URLs for the subscription API, with a bound on concurrency.

use std::sync::Arc;

use engine::{Overload, OverloadBound};
use tokio::sync::Semaphore;

use crate::delivery::UrlPolicy;
use crate::response::CallbackRefusal;

/// Concurrent checks, over all participants: each resolves a host name, which may take seconds.
/// Below the resolver's own bound, so that deliveries always find room there.
const CHECKS_MAX: usize = 16;

/// Checks URLs, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct UrlChecks {
    policy: Arc<UrlPolicy>,
    permits: Semaphore,
}

impl UrlChecks {
    pub(crate) fn new(policy: Arc<UrlPolicy>) -> Self {
        Self {
            policy,
            permits: Semaphore::new(CHECKS_MAX),
        }
    }

    /// Checks that a URL may be subscribed.
    ///
    /// # Errors
    /// [`CallbackRefusal::Url`], or an overload when too many checks are running.
    pub(crate) async fn check(&self, url: &str) -> Result<(), CallbackRefusal> {
        let full = |_| Overload::at(OverloadBound::Callbacks);
        let _permit = self.permits.try_acquire().map_err(full)?;
        self.policy.check(url).await?;
        Ok(())
    }
}
