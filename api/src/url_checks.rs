//! Checks of callback URLs for the subscription API.

use engine::domain::Country;
use engine::{Overload, OverloadBound};

use crate::bounds::{Bounds, ParticipantBound};
use crate::delivery::{CheckError, UrlPolicy};
use crate::response::CallbackRefusal;

/// Checks URLs; each participant has its share of the name lookups that this takes.
#[derive(Debug)]
pub(crate) struct UrlChecks(UrlPolicy);

impl UrlChecks {
    pub(crate) const fn new(policy: UrlPolicy) -> Self {
        Self(policy)
    }

    /// What one participant may have under way.
    pub(crate) fn watch(&self, bounds: &mut Bounds) {
        let shares = self.0.lookups().shares().clone();
        bounds.watch(ParticipantBound::CheckLookups, move || shares.largest());
    }

    /// Checks that a participant may subscribe a URL.
    ///
    /// # Errors
    /// [`CallbackRefusal::Url`], or an overload when too many of its checks are running.
    pub(crate) async fn check(&self, country: Country, url: &str) -> Result<(), CallbackRefusal> {
        match self.0.check(country, url).await {
            Ok(_) => Ok(()),
            Err(CheckError::Url(error)) => Err(error.into()),
            Err(CheckError::NoLookup(_)) => Err(Overload::at(OverloadBound::Callbacks).into()),
        }
    }
}
